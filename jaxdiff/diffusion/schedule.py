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


def scaled_linear(
    steps: int = 1000, beta_min: float = 0.00085, beta_max: float = 0.012
) -> Schedule:
    """Stable Diffusion's schedule: the square roots of `steps` betas rise in equal steps.

    References: Rombach et al. 2022, arXiv:2112.10752, by its code.
    """
    return from_betas(np.linspace(beta_min**0.5, beta_max**0.5, steps) ** 2)


def sigmoid(start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """A variance-preserving schedule along a sigmoid, with t' = (start + t (end − start)) / tau,

        f(t) = 1 / (1 + exp(t')),    alpha² = (f(t) − f(1)) / (f(0) − f(1)).

    References: Jabri et al. 2022, arXiv:2212.11972, algorithm 4.
    """
    a, width = start / tau, (end - start) / tau
    span = float(1 / (1 + np.exp(a)) - 1 / (1 + np.exp(a + width)))

    def schedule(t):
        t = _floating(t)
        b = a + t * width
        alpha2 = _sigmoid_fall(b, a + width, (1 - t) * width) / span
        sigma2 = _sigmoid_fall(a, b, t * width) / span
        return jnp.sqrt(alpha2), jnp.sqrt(sigma2)

    return schedule


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """The variance-preserving SDE: log alpha² = −t beta_min − t² (beta_max − beta_min) / 2.

    References: Song et al. 2021, arXiv:2011.13456, eq. 33.
    """

    def schedule(t):
        log_alpha2 = _integrated_beta(_floating(t), beta_min, beta_max)
        return jnp.exp(log_alpha2 / 2), jnp.sqrt(-jnp.expm1(log_alpha2))

    return schedule


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """The sub-VP SDE: alpha as in `vp`, and sigma = 1 − alpha².

    References: Song et al. 2021, arXiv:2011.13456, eq. 29.
    """

    def schedule(t):
        log_alpha2 = _integrated_beta(_floating(t), beta_min, beta_max)
        return jnp.exp(log_alpha2 / 2), -jnp.expm1(log_alpha2)

    return schedule


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Schedule:
    """The variance-exploding SDE: alpha = 1, sigma² = sigma_min² ((sigma_max / sigma_min)^2t − 1).

    It solves the paper's SDE from t = 0 exactly; the paper's code leaves out the −1.

    References: Song et al. 2021, arXiv:2011.13456, eqs. 30 and 31.
    """
    growth = float(2 * np.log(sigma_max / sigma_min))

    def schedule(t):
        t = _floating(t)
        return jnp.ones_like(t), sigma_min * jnp.sqrt(jnp.expm1(growth * t))

    return schedule


def edm(sigma_max: float = 80.0) -> Schedule:
    """EDM's schedule: alpha = 1, sigma = sigma_max t; its times are `grid.karras`.

    References: Karras et al. 2022, arXiv:2206.00364, section 3.
    """

    def schedule(t):
        t = _floating(t)
        return jnp.ones_like(t), sigma_max * t

    return schedule


def flow(shift: float = 1.0) -> Schedule:
    """The straight path of flow matching and rectified flow: alpha = 1 − t, sigma = t.

    With `shift` the same path at another speed, t ← shift t / (1 + (shift − 1) t), which multiplies
    sigma / alpha by `shift`, as Stable Diffusion 3 does for larger images.

    References: Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003; Esser et
    al. 2024, arXiv:2403.03206, eq. 23.
    """

    def schedule(t):
        t = _floating(t)
        return (1 - t) / (1 + (shift - 1) * t), shift * t / (1 + (shift - 1) * t)

    return schedule


def shifted(schedule: Schedule, ratio: float) -> Schedule:
    """A variance-preserving schedule for images `ratio` times as large: logsnr falls by 2 log ratio.

    References: Hoogeboom et al. 2023, arXiv:2301.11093, eq. 4.
    """

    def moved(t):
        alpha, sigma = schedule(t)
        norm = jnp.hypot(alpha, ratio * sigma)
        return alpha / norm, ratio * sigma / norm

    return moved


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """A variance-preserving schedule moved and stretched in alpha so that alpha(1) = 0.

        alpha' = alpha(0) (alpha(t) − alpha(1)) / (alpha(0) − alpha(1)),    sigma'² = 1 − alpha'²

    It keeps alpha at t = 0; the paper keeps it at the first timestep, t = 1/1000.

    References: Lin et al. 2024, arXiv:2305.08891, algorithm 1.
    """

    def stretched(t):
        t = _floating(t)
        (first, _), (last, _) = schedule(jnp.zeros_like(t)), schedule(jnp.ones_like(t))
        alpha, sigma = schedule(t)
        moved = first * (alpha - last) / (first - last)
        # 1 − alpha' = (first − alpha) / (first − last) where alpha(0) = 1, free of cancellation.
        rest = sigma**2 / (1 + alpha) / (first - last)
        return jnp.where(moved < 0, 0, moved), jnp.sqrt(rest * (2 - rest))

    return stretched


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


def sde(schedule: Schedule, t: Array) -> tuple[Array, Array]:
    """(f, g²) of dx = f x dt + g dW, the forward SDE whose marginals are those of equation (1), t > 0:

        f = d log alpha / dt,    g² = d sigma² / dt − 2 f sigma² = −sigma² d logsnr / dt.

    References: Song et al. 2021, arXiv:2011.13456, eq. 5; Kingma et al. 2021, eq. 9.
    """
    t = _floating(t)
    (alpha, sigma), (dalpha, dsigma) = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
    f = dalpha / alpha
    return f, 2 * sigma * (dsigma - f * sigma)


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
    """The last time at which alpha is at least about `alpha_min`: 1.0 where the schedule never falls below.

    Predictions that divide by alpha (eps, score) can't be sampled from alpha = 0; their grids
    start here. DDPM's own chain ends at alpha = 0.0064 and so starts at 1.
    """
    alpha, sigma = schedule(1.0)
    if alpha >= alpha_min:
        return 1.0
    scale = float(jnp.hypot(alpha, sigma))
    snr = (alpha_min / scale) ** 2 / (1 - (alpha_min / scale) ** 2)
    return float(time_of_logsnr(schedule, np.log(snr)))


def _sigmoid_fall(a, b, distance):
    # 1/(1 + e^a) − 1/(1 + e^b) for b = a + distance, free of cancellation
    return -jnp.expm1(-distance) * jax.nn.sigmoid(-a) * jax.nn.sigmoid(b)


def _integrated_beta(t, beta_min, beta_max):
    return -t * beta_min - t**2 * (beta_max - beta_min) / 2


def _floating(t):
    t = jnp.asarray(t)
    return t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(jnp.result_type(float))
