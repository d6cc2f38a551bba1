"""Noise schedules: how much signal and how much noise a time holds.

Time runs from t = 0 (data) to t = 1 (noise). A schedule is a function t -> (alpha, sigma) with

    x_t = alpha(t) x0 + sigma(t) eps,    eps ~ N(0, I),                                   (1)

alpha falling and sigma rising in t; `t` is a scalar or any array, and alpha and sigma have its
shape and its floating dtype. All else is derived from it:

    logsnr(t) = log alpha² − log sigma²,                                                   (2)

its inverse by bisection, and the derivatives by t with `jax.jvp`. diffusers' timestep i is our
t = (i + 1) / 1000.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Schedule = Callable[[Array], tuple[Array, Array]]


class Coef(NamedTuple):
    """A schedule at a time, broadcast against the data: alpha, sigma and their derivatives by t."""

    alpha: Array
    sigma: Array
    dalpha: Array
    dsigma: Array


def cosine(offset: float | None = None, steps: int = 1000, beta_max: float = 0.999) -> Schedule:
    """The cosine schedule.

    Without `offset` the exact trigonometric one, (alpha, sigma) = (sin(π(1−t)/2), sin(πt/2)), for
    which alpha(1) = 0. With `offset` (0.008 in the paper) Nichol and Dhariwal's eq. 17 over `steps`
    discrete steps, each beta capped at `beta_max`.

    References: Nichol and Dhariwal 2021, arXiv:2102.09672; Salimans and Ho 2022, arXiv:2202.00512.
    """
    if offset is not None:
        f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
        return from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))

    def schedule(t):
        t = _floating(t)
        return jnp.sin(jnp.pi / 2 * (1 - t)), jnp.sin(jnp.pi / 2 * t)

    return schedule


def ddpm_linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """DDPM's schedule: `steps` betas from `beta_min` to `beta_max` in equal steps.

    At t = i / steps it is the paper's chain exactly; between them log alpha² is linear in t.

    References: Ho, Jain and Abbeel 2020, arXiv:2006.11239, section 4.
    """
    return from_betas(np.linspace(beta_min, beta_max, steps))


def from_betas(betas) -> Schedule:
    """The variance-preserving schedule of a discrete chain: alpha²(i / T) = ∏_{j ≤ i} (1 − beta_j).

    `betas` has shape [T], each in (0, 1). Between the grid's points log alpha² is linear in t.

    Raises: ValueError where a beta is outside (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not np.all((betas > 0) & (betas < 1)):
        raise ValueError(f'betas must be a vector of numbers between 0 and 1, got {betas!r}')
    log_alpha2 = np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])

    def schedule(t):
        t = _floating(t)
        table = jnp.asarray(log_alpha2, t.dtype)
        i = jnp.clip(jnp.floor(t * len(betas)).astype(int), 0, len(betas) - 1)
        value = table[i] + (t * len(betas) - i) * (table[i + 1] - table[i])
        return jnp.exp(value / 2), jnp.sqrt(-jnp.expm1(value))

    return schedule


def coefficients(schedule: Schedule, t: Array, x: Array) -> Coef:
    """The schedule at `t`, a scalar or [b], shaped to multiply `x` [b, ...]."""
    t = _floating(t)
    (alpha, sigma), (dalpha, dsigma) = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
    return Coef(*(broadcast(c, x) for c in (alpha, sigma, dalpha, dsigma)))


def broadcast(c: Array, x: Array) -> Array:
    """A scalar or [b] number per example, given axes of length one up to the rank of `x`."""
    return jnp.reshape(c, jnp.shape(c) + (1,) * (jnp.ndim(x) - jnp.ndim(c)))


def logsnr(schedule: Schedule, t: Array) -> Array:
    """log(alpha² / sigma²), equation (2): +inf where sigma = 0 and −inf where alpha = 0."""
    alpha, sigma = schedule(t)
    return 2 * (jnp.log(alpha) - jnp.log(sigma))


def time_of_logsnr(schedule: Schedule, value: Array, iterations: int = 60) -> Array:
    """The inverse of `logsnr`, which falls in t, by bisection on [0, 1]."""
    value = _floating(value)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        later = logsnr(schedule, middle) > value
        return jnp.where(later, middle, low), jnp.where(later, high, middle)

    low, high = jax.lax.fori_loop(
        0, iterations, halve, (jnp.zeros_like(value), jnp.ones_like(value))
    )
    return (low + high) / 2


def t_max(schedule: Schedule, alpha_min: float = 5e-3) -> float:
    """The last time at which alpha is at least `alpha_min`: 1.0 where the schedule never falls below.

    Predictions that divide by alpha (eps, score) can't be sampled from alpha = 0; their grids
    start here. DDPM's own chain ends at alpha = 0.0064 and so starts at 1.
    """
    alpha, sigma = schedule(1.0)
    if alpha >= alpha_min:
        return 1.0
    scale = float(jnp.hypot(alpha, sigma))
    snr = (alpha_min / scale) ** 2 / (1 - (alpha_min / scale) ** 2)
    return float(time_of_logsnr(schedule, np.log(snr)))


def _floating(t):
    t = jnp.asarray(t)
    return t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(jnp.result_type(float))
