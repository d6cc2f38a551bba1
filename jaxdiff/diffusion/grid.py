"""The times that a sampler visits: N steps are N + 1 times, from `t_max` down to `t_min`."""

import jax.numpy as jnp
from jax import Array


def uniform(steps: int, t_max: float = 1.0, t_min: float = 0.0) -> Array:
    """Equal steps in t. On DDPM's schedule and with its number of steps it is DDPM's own grid."""
    return t_min + (t_max - t_min) * _fractions(steps)


def quadratic(steps: int, t_max: float = 1.0, t_min: float = 0.0) -> Array:
    """Equal steps in sqrt(t): finer towards the data (Song et al. 2020, DDIM, appendix D.2)."""
    root_min, root_max = t_min**0.5, t_max**0.5
    return (root_min + (root_max - root_min) * _fractions(steps)) ** 2


def _fractions(steps):
    if steps < 0:
        raise ValueError(f'the number of steps must be 0 or more, got {steps=}')
    return jnp.arange(steps, -1, -1) / max(steps, 1) if steps else jnp.ones(1)
