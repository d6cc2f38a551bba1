"""Data whose denoiser is known exactly, to hold samplers and losses against."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.schedule import Schedule


def mixture(schedule: Schedule, weights: Array, means: Array, stds: Array) -> Denoiser:
    """E[x0 | x_t] for x0 of a mixture of Gaussians, sum_k w_k N(m_k, s_k² I).

    x_t is a mixture too, with means alpha m_k and variances v_k = alpha² s_k² + sigma², so that

        E[x0 | x_t] = sum_k r_k (m_k + alpha s_k² / v_k (x_t − alpha m_k)),

    r_k being component k's share of the density at x_t.

    Args:
      weights: [k], of sum one.
      means: [k, d].
      stds: [k].

    Returns: a denoiser of x_t [b, d] at a scalar time.
    """
    weights, means, stds = map(jnp.asarray, (weights, means, stds))

    def denoise(x_t, t):
        alpha, sigma = schedule(t)
        variances = alpha**2 * stds**2 + sigma**2
        offsets = x_t[:, None] - alpha * means  # [b, k, d]
        logits = jnp.log(weights) - means.shape[-1] / 2 * jnp.log(variances)
        logits = logits - jnp.sum(offsets**2, -1) / (2 * variances)
        shares = jax.nn.softmax(logits)[..., None]
        return jnp.sum(shares * (means + (alpha * stds**2 / variances)[:, None] * offsets), 1)

    return denoise
