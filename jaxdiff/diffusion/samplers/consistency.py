"""The sampler of consistency models."""

import jax.numpy as jnp

from jaxdiff.diffusion.gaussian import transition_moments
from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.schedule import Schedule


def consistency(schedule: Schedule, t_min: float = 0.0) -> Sampler:
    """Multistep consistency sampling: to the flow's end at t_min, and back to s with fresh noise,

        x̂ = f(x_t, t),    x_s ~ q(x_s | x_{t_min} = x̂) of equation (7).                  (54)

    The denoiser is the consistency function (`diffusion.consistency.function`); with `t_min` = 0 the
    way back is alpha_s x̂ + sigma_s z. A step to s ≤ t_min adds no noise.

    Raises: ValueError where t_min is not in [0, 1).

    References: Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """
    if not 0 <= t_min < 1:
        raise ValueError(f't_min must be at least 0 and below 1, got {t_min=}')

    def step(keys, state, t, s, f):
        mean, var = transition_moments(schedule, f(state.x, t), jnp.full_like(s, t_min), s)
        var = jnp.where(s > t_min, var, 0)
        return State(mean + jnp.sqrt(var) * normal(keys, state.x), state.nfe + 1)

    return Sampler(start, step)
