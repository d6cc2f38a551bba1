"""What a network predicts, as one linear row.

Every prediction in use is a known combination of the data and the noise,

    y = a x0 + b eps,                                                                      (3)

with (a, b) made from the schedule at that time. Together with equation (1) it is a 2 × 2 system,

    [alpha sigma] [x0 ]   [x_t]
    [a     b    ] [eps] = [y  ],    determinant  d = alpha b − sigma a,                    (4)

so that one solve serves all of them, and no pairwise converter is needed. At a fixed x_t an error
of y moves x0 by −sigma / d and eps by alpha / d times as much, hence for any two predictions

    ‖error of p‖² / ‖error of q‖² = (d_p / d_q)².                                          (5)

References: Salimans and Ho 2022, arXiv:2202.00512, appendix D.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion import schedule as schedules
from jaxdiff.diffusion.schedule import Coef, Schedule


class Prediction(NamedTuple):
    """A prediction by its name and its row: `row(coef) -> (a, b)` of equation (3)."""

    name: str
    row: Callable[[Coef], tuple[Array, Array]]


x0 = Prediction('x0', lambda c: (jnp.ones_like(c.alpha), jnp.zeros_like(c.alpha)))
eps = Prediction('eps', lambda c: (jnp.zeros_like(c.alpha), jnp.ones_like(c.alpha)))
v = Prediction('v', lambda c: (-c.sigma, c.alpha))
velocity = Prediction('velocity', lambda c: (c.dalpha, c.dsigma))  # dx_t/dt at fixed x0 and eps
score = Prediction('score', lambda c: (jnp.zeros_like(c.alpha), -1 / c.sigma))


def edm(sigma_data: float = 0.5) -> Prediction:
    """EDM's preconditioned output F, in x0 = c_skip x_t / alpha + c_out F at noise s = sigma / alpha.

    With c_skip = sd² / (s² + sd²) and c_out = s sd / sqrt(s² + sd²) that is the row
    (sigma / sd, −sd alpha) / sqrt(sigma² + sd² alpha²), for any alpha. F has unit variance; for
    sd = 1 and a variance-preserving schedule it is −v.

    References: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def row(c):
        norm = jnp.hypot(c.sigma, sigma_data * c.alpha)
        return c.sigma / sigma_data / norm, -sigma_data * c.alpha / norm

    return Prediction('edm', row)


def determinant(prediction: Prediction, coef: Coef) -> Array:
    """d of equation (4): zero where the prediction says nothing about x0 (eps at alpha = 0)."""
    a, b = prediction.row(coef)
    return coef.alpha * b - coef.sigma * a


def target(prediction: Prediction, coef: Coef, x0: Array, eps: Array) -> Array:
    """What the network should output, equation (3)."""
    a, b = prediction.row(coef)
    return a * x0 + b * eps


def to_x0_eps(prediction: Prediction, coef: Coef, x_t: Array, y: Array) -> tuple[Array, Array]:
    """The data and the noise that a prediction `y` at `x_t` means: equation (4), solved."""
    a, b = prediction.row(coef)
    d = coef.alpha * b - coef.sigma * a
    return (b * x_t - coef.sigma * y) / d, (coef.alpha * y - a * x_t) / d


def loss_ratio(src: Prediction, dst: Prediction, coef: Coef) -> Array:
    """Equation (5): what a squared error in `src` is multiplied by to become one in `dst`."""
    return (determinant(dst, coef) / determinant(src, coef)) ** 2


def start(prediction: Prediction, schedule: Schedule) -> float:
    """The latest time at which sampling can start: 1, or the schedule's own `t_max` below it.

    eps and score say nothing about x0 where alpha = 0.
    """
    coef = schedules.coefficients(schedule, 1.0, jnp.zeros(()))
    a, b = prediction.row(coef)
    known = abs(determinant(prediction, coef)) > 1e-3 * jnp.hypot(a, b)
    return 1.0 if known else schedules.t_max(schedule)


def check_start(prediction: Prediction, schedule: Schedule, t: float) -> None:
    """Raises a ValueError for a grid that starts at t, later than `start`."""
    latest = start(prediction, schedule)
    if t > latest + 1e-6:  # beyond rounding
        raise ValueError(
            f'the prediction {prediction.name!r} says nothing about x0 at t={float(t):g}, where alpha '
            f'vanishes: let the grid start at t_max={latest:.6g} (prediction.start) at the latest'
        )
