"""The Gaussian forward process: marginal, Markov step, posterior and prior.

With λ = logsnr and 0 ≤ s < t ≤ 1 (the moments are those of each component; all are independent):

    marginal    q(x_t | x0)      = N(alpha_t x0, sigma_t²)                                 (6)
    transition  q(x_t | x_s)     = N(alpha_t/alpha_s x_s, −sigma_t² expm1(λ_t − λ_s))      (7)
    posterior   q(x_s | x_t, x0) = N(alpha_s/alpha_t e^(λ_t − λ_s) x_t − alpha_s expm1(λ_t − λ_s) x0,
                                     −sigma_s² expm1(λ_t − λ_s))                           (8)
    prior       q(x_1)           ≈ N(0, sigma_1²)                                          (9)

`prior(key, shape, t)` draws it for another time at which sampling is to start, N(0, sigma_t²).

The variances of (7) and (8) are sigma_t² − (alpha_t/alpha_s)² sigma_s² and its product with
sigma_s²/sigma_t², written without a difference of squares, so that they are never negative.

References: Ho et al. 2020, arXiv:2006.11239, eqs. 2, 4, 6, 7; Kingma et al. 2021,
arXiv:2107.00630, appendix A.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.schedule import Schedule, broadcast, logsnr


def gaussian(schedule: Schedule) -> Process:
    """The Gaussian process of a schedule; `corrupt` also returns the noise eps that it drew."""

    def prior(key, shape, t=1.0):
        _, sigma = schedule(t)
        return sigma * jax.random.normal(key, shape, sigma.dtype)

    def corrupt(key, x0, t):
        eps = jax.random.normal(key, x0.shape, x0.dtype)
        return marginal(schedule, x0, eps, t), eps

    def transition(key, x_s, s, t):
        return _draw(key, *transition_moments(schedule, x_s, s, t))

    def posterior(key, x_t, belief, t, s):
        return _draw(key, *posterior_moments(schedule, x_t, belief, t, s))

    return Process(prior, corrupt, transition, posterior)


def marginal(schedule: Schedule, x0: Array, eps: Array, t: Array) -> Array:
    """x_t of equation (6) from the data [b, ...], its noise and t, a scalar or [b]."""
    alpha, sigma = schedule(t)
    return broadcast(alpha, x0) * x0 + broadcast(sigma, x0) * eps


def transition_moments(schedule: Schedule, x_s: Array, s: Array, t: Array) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_s), s < t: equation (7)."""
    (alpha_s, _), (alpha_t, sigma_t) = schedule(s), schedule(t)
    variance = -(sigma_t**2) * jnp.expm1(logsnr(schedule, t) - logsnr(schedule, s))
    return broadcast(alpha_t / alpha_s, x_s) * x_s, broadcast(variance, x_s)


def posterior_moments(
    schedule: Schedule, x_t: Array, x0: Array, t: Array, s: Array
) -> tuple[Array, Array]:
    """Mean and variance of q(x_s | x_t, x0), s < t: equation (8).

    Exact at both ends: at s = 0 the mean is x0 and the variance 0, and from alpha_t = 0 the mean is
    alpha_s x0.
    """
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    expm1 = jnp.expm1(logsnr(schedule, t) - logsnr(schedule, s))
    c_t = alpha_t / alpha_s * (sigma_s / sigma_t) ** 2  # = alpha_s / alpha_t e^(λ_t − λ_s)
    c_0 = -alpha_s * expm1
    variance = -(sigma_s**2) * expm1
    return broadcast(c_t, x_t) * x_t + broadcast(c_0, x_t) * x0, broadcast(variance, x_t)


def _draw(key, mean, variance):
    return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)
