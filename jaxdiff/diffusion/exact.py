"""Data whose denoiser is known exactly, to hold samplers and losses against."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.categorical import Chain, one_hot
from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.schedule import Schedule


def mixture(schedule: Schedule, weights: Array, means: Array, stds: Array) -> Denoiser:
    """E[x0 | x_t] for x0 of a mixture of Gaussians, sum_k w_k N(m_k, s_k² I).

    x_t is a mixture too, with means alpha m_k and variances v_k = alpha² s_k² + sigma², so that

        E[x0 | x_t] = sum_k r_k (m_k + alpha s_k² / v_k (x_t − alpha m_k)),

    r_k being component k's share of the density at x_t. With s_k = 0 the data are points.

    Args:
      weights: [k], of sum one.
      means: [k, d].
      stds: [k].

    Returns: a denoiser of x_t [b, d] at a time, a scalar or [b].
    """
    weights, means, stds = map(jnp.asarray, (weights, means, stds))

    def denoise(x_t, t):
        alpha, offsets, variances, logp = _components(schedule, weights, means, stds, x_t, t)
        shares = jax.nn.softmax(logp)[..., None]
        return jnp.sum(shares * (means + (alpha * stds**2 / variances)[..., None] * offsets), 1)

    return denoise


def mixture_logp(
    schedule: Schedule, weights: Array, means: Array, stds: Array
) -> Callable[[Array, Array], Array]:
    """The log density of x_t, for x0 of the mixture of Gaussians that `mixture` describes.

    Returns: (x_t [b, d], t, a scalar or [b]) -> nats [b].
    """
    weights, means, stds = map(jnp.asarray, (weights, means, stds))

    def logp(x_t, t):
        logp = _components(schedule, weights, means, stds, x_t, t)[-1]
        return jax.nn.logsumexp(logp, axis=-1) - means.shape[-1] / 2 * jnp.log(2 * jnp.pi)

    return logp


def gaussian(schedule: Schedule, mean: Array, covariance: Array) -> Denoiser:
    """E[x0 | x_t] for x0 ~ N(m, S), m + alpha S (alpha² S + sigma² I)⁻¹ (x_t − alpha m).

    Args:
      mean: [d], or [b, d], another one for each example.
      covariance: [d, d].

    Returns: a denoiser of x_t [b, d] at a time, a scalar or [b].
    """
    mean = jnp.asarray(mean)
    values, vectors = jnp.linalg.eigh(jnp.asarray(covariance))

    def denoise(x_t, t):
        alpha, sigma = (c[..., None] for c in schedule(t))
        gain = alpha * values / (alpha**2 * values + sigma**2)
        along = jnp.matmul(x_t - alpha * mean, vectors, precision='highest')
        return mean + jnp.matmul(gain * along, vectors.T, precision='highest')

    return denoise


def _components(schedule, weights, means, stds, x_t, t):
    """alpha, offsets [b, k, d], variances and, but for (2π)^(−d/2), log densities [b, k]."""
    alpha, sigma = (c[..., None] for c in schedule(t))
    variances = alpha**2 * stds**2 + sigma**2
    offsets = x_t[:, None] - alpha[..., None] * means
    logp = jnp.log(weights) - means.shape[-1] / 2 * jnp.log(variances)
    return alpha, offsets, variances, logp - jnp.sum(offsets**2, -1) / (2 * variances)


def sequences(chain: Chain, outcomes: Array, probabilities: Array) -> Denoiser:
    """The logits of p(x0^l | x_t) for discrete data that takes one of n known values.

    By Bayes' rule outcome i has the share p_i prod_l q(x_t^l | x0^l = outcome_i^l) of the law at
    x_t, and token l's belief is the sum of the shares of the outcomes that have it.

    Args:
      chain: of the process, for instance `categorical.absorbing_chain`.
      outcomes: [n, l] tokens.
      probabilities: [n], of sum one.

    Returns: a denoiser of x_t [..., l] with logits [..., l, size]; x_t must be possible.
    """
    outcomes, probabilities = jnp.asarray(outcomes), jnp.asarray(probabilities)
    tokens = jnp.arange(outcomes.shape[1])

    def denoise(x_t, t):
        t = jnp.asarray(t, probabilities.dtype)
        arrived = one_hot(chain, x_t, probabilities.dtype)
        likelihood = jnp.log(chain.backward(arrived, jnp.zeros_like(t), t))  # [..., l, states]
        likelihood = jnp.sum(likelihood[..., tokens, outcomes], -1)  # [..., n]
        shares = jax.nn.softmax(jnp.log(probabilities) + likelihood)
        found = jax.nn.one_hot(outcomes, chain.size, dtype=shares.dtype)
        return jnp.log(jnp.einsum('...n,nlk->...lk', shares, found, precision='highest'))

    return denoise
