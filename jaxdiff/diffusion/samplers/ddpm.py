"""DDPM's ancestral sampler."""

from typing import Literal

import jax.numpy as jnp

from jaxdiff.diffusion.gaussian import posterior_moments, transition_moments
from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.schedule import Schedule


def ddpm(schedule: Schedule, variance: Literal['small', 'large'] = 'small') -> Sampler:
    """Ancestral sampling: x_s ~ N(mean of q(x_s | x_t, x0), variance), with x0 the belief at x_t.

    `variance='small'` is the posterior's own, equation (8) (the paper's β̃, right for data at a
    point); `'large'` that of the forward step, equation (7) (the paper's β, right for N(0, I)
    data). The step to s = 0 adds no noise and returns the belief.

    References: Ho et al. 2020, arXiv:2006.11239, algorithm 2 and section 3.2.
    """
    if variance not in ('small', 'large'):
        raise ValueError(f"variance must be 'small' or 'large', got {variance!r}")

    def step(keys, state, t, s, denoise):
        mean, var = posterior_moments(schedule, state.x, denoise(state.x, t), t, s)
        if variance == 'large':
            var = jnp.where(var > 0, transition_moments(schedule, state.x, s, t)[1], 0)
        return State(mean + jnp.sqrt(var) * normal(keys, state.x), state.nfe + 1)

    return Sampler(start, step)
