"""DDPM's ancestral sampler.

The variances of equations (7) and (8) differ by the factor sigma_t²/sigma_s², so that every one
between them, in the logarithm, is

    variance = −sigma_s² expm1(λ_t − λ_s) (sigma_t² / sigma_s²)^nu:                        (22)

nu = 0 is the posterior's, nu = 1 the forward step's, and a network may learn its own nu.
"""

from typing import Literal

import jax.numpy as jnp

from jaxdiff.diffusion.denoiser import Learned, mean
from jaxdiff.diffusion.gaussian import posterior_moments
from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.schedule import Schedule


def ddpm(schedule: Schedule, variance: Literal['small', 'large', 'learned'] = 'small') -> Sampler:
    """Ancestral sampling: x_s ~ N(mean of q(x_s | x_t, x0), variance), with x0 the belief at x_t.

    The variance is equation (22): `'small'` the posterior's own (the paper's β̃, right for data at
    a point), `'large'` that of the forward step (the paper's β, right for N(0, I) data),
    `'learned'` the one between them that the denoiser's belief, a `denoiser.Learned`, names by its
    nu. The step to s = 0 adds no noise and returns the belief.

    Raises: ValueError where the variance is learned and the belief has no nu.

    References: Ho et al. 2020, arXiv:2006.11239, algorithm 2 and section 3.2; Nichol and Dhariwal
    2021, arXiv:2102.09672, eq. 15.
    """
    if variance not in ('small', 'large', 'learned'):
        raise ValueError(f"variance must be 'small', 'large' or 'learned', got {variance!r}")

    def step(keys, state, t, s, denoise):
        belief = denoise(state.x, t)
        if variance == 'learned' and not isinstance(belief, Learned):
            raise ValueError(
                "variance='learned' needs a denoiser that returns denoiser.Learned(x0, nu), "
                f'got a belief of type {type(belief).__name__}'
            )
        nu = belief.nu if variance == 'learned' else float(variance == 'large')
        x_s, small = posterior_moments(schedule, state.x, mean(belief), t, s)
        (_, sigma_t), (_, sigma_s) = schedule(t), schedule(s)
        ratio = sigma_t / jnp.where(sigma_s > 0, sigma_s, sigma_t)
        noise = jnp.sqrt(small) * ratio**nu * normal(keys, state.x)
        return State(x_s + noise, state.nfe + 1)

    return Sampler(start, step)
