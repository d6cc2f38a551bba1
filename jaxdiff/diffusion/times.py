"""The times that training draws: first a number in [0, 1) per example, then a quantile function."""

import jax
import jax.numpy as jnp
from jax import Array


def independent(keys: Array) -> Array:
    """One uniform number per example, each from its own key [b]."""
    return jax.vmap(jax.random.uniform)(keys)


def low_discrepancy(key: Array, index: Array, batch_size: int) -> Array:
    """Uniform numbers that share one draw and cover [0, 1) evenly: frac(u + index / batch_size).

    Each is uniform; the mean of a loss over the batch varies less than with independent ones.

    Args:
      key: one for the step, the same on every device.
      index: [b], the examples' indices in the global batch of `batch_size`.

    References: Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
    """
    return (jax.random.uniform(key) + index / batch_size) % 1.0


def uniform(u: Array, t_min: float, t_max: float = 1.0) -> Array:
    """Times uniform on [t_min, t_max)."""
    return t_min + (t_max - t_min) * u


def discrete(u: Array, steps: int) -> Array:
    """Times uniform on the chain's grid 1/steps, 2/steps, …, 1, as DDPM trains."""
    return (jnp.floor(u * steps) + 1) / steps
