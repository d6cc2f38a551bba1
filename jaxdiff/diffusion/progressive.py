"""Progressive distillation: a student makes in one DDIM step what its teacher makes in two.

With λ the logsnr, times t > m > s and the teacher's beliefs D_t at x_t and D_m at the x_m that one
DDIM step leads to, the student's one step from t to s must end where the second step ends:

    sigma_s/sigma_t x_t − alpha_s expm1((λ_t − λ_s)/2) x̃ = x_s(D_t, D_m).                (49)

Both of the teacher's steps have the same form, so the x0 that solves it is a mean of the beliefs:

    x̃ = w D_t + (1 − w) D_m,    w = e^((λ_m − λ_s)/2) expm1((λ_t − λ_m)/2) / expm1((λ_t − λ_s)/2),
                                                                                         (50)

exact at both ends: w = 0 at s = 0, and w = e^((λ_m − λ_s)/2) from alpha_t = 0. The loss is equation
(10) with x̃ in the place of x0 and, in the place of eps, the noise that x_t then holds.

References: Salimans and Ho 2022, arXiv:2202.00512, algorithm 2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion import prediction as predictions
from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.gaussian import gaussian
from jaxdiff.diffusion.loss import Weighting
from jaxdiff.diffusion.prediction import Prediction, determinant
from jaxdiff.diffusion.samplers import State, ddim
from jaxdiff.diffusion.schedule import Schedule, broadcast, coefficients, logsnr


def loss(
    keys: Array,
    predict: Callable[[Array, Array], Array],
    teacher: Denoiser,
    x0: Array,
    t: Array,
    m: Array,
    s: Array,
    schedule: Schedule,
    prediction: Prediction,
    weighting: Weighting | None = None,
) -> Array:
    """The student's weighted squared error against equation (50), [b].

    A prediction that says nothing about x0 at alpha = 0 (eps) can't be distilled from there.

    Args:
      keys: [b], one per example.
      predict: the student's network as `denoiser.ask` wraps it.
      teacher: no gradient passes through it.
      x0: data [b, ...].
      t, m, s: [b], where the student's step starts, the teacher's two meet, and both end: `steps`.
      weighting: `truncated_snr()` or `snr_plus_one()`, or any other; None is w = 1.

    References: Salimans and Ho 2022, arXiv:2202.00512, algorithm 2.
    """
    x_t, _ = jax.vmap(gaussian(schedule).corrupt)(keys, x0, t)
    x0_target = jax.lax.stop_gradient(target(teacher, x_t, t, m, s, schedule))
    coef = coefficients(schedule, t, x_t)
    eps_target = (x_t - coef.alpha * x0_target) / coef.sigma
    error = predict(x_t, t) - predictions.target(prediction, coef, x0_target, eps_target)
    weight = 1.0 if weighting is None else weighting(prediction, coef)
    return jnp.mean(weight * error**2, axis=tuple(range(1, x0.ndim)))


def target(
    teacher: Denoiser, x_t: Array, t: Array, m: Array, s: Array, schedule: Schedule
) -> Array:
    """x̃ of equation (50) for x_t [b, ...] and times that are scalars or [b]."""
    at_t = teacher(x_t, t)
    x_m = ddim(schedule).step(None, State(x_t, 0), t, m, lambda x, t: at_t).x
    at_m = teacher(x_m, m)
    to_m, to_s, rest = (
        (logsnr(schedule, a) - logsnr(schedule, b)) / 2 for a, b in ((t, m), (t, s), (m, s))
    )
    w_t = jnp.exp(rest) * jnp.expm1(to_m) / jnp.expm1(to_s)
    w_m = jnp.expm1(rest) / jnp.expm1(to_s)
    return broadcast(w_t, x_t) * at_t + broadcast(w_m, x_t) * at_m


def steps(u: Array, times: Array) -> tuple[Array, Array, Array]:
    """(t, m, s) of the student's steps, each as probable as another.

    Args:
      u: [b], uniform on [0, 1).
      times: [2 n + 1], descending, those that the teacher visits; the student visits times[::2].

    Raises: ValueError where the teacher's number of steps is odd or none.
    """
    if len(times) < 3 or len(times) % 2 == 0:
        raise ValueError(f'the teacher must make an even number of steps, got {len(times) - 1}')
    i = 2 * jnp.floor(u * (len(times) // 2)).astype(int)
    return times[i], times[i + 1], times[i + 2]


def truncated_snr() -> Weighting:
    """max(snr, 1) on the squared error in x0: max(alpha², sigma²) / d² by equation (5).

    References: Salimans and Ho 2022, arXiv:2202.00512, section 4.
    """
    return lambda p, c: jnp.maximum(c.alpha**2, c.sigma**2) / determinant(p, c) ** 2


def snr_plus_one() -> Weighting:
    """snr + 1 on the squared error in x0: (alpha² + sigma²) / d², which is 1 for v where alpha and
    sigma have squares of sum one.

    References: Salimans and Ho 2022, arXiv:2202.00512, section 4.
    """
    return lambda p, c: (c.alpha**2 + c.sigma**2) / determinant(p, c) ** 2
