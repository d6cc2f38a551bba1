"""DDIM: the non-Markovian family between a deterministic and DDPM's ancestral sampler."""

import jax.numpy as jnp

from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.schedule import Schedule, coefficients, logsnr


def ddim(schedule: Schedule, eta: float = 0.0) -> Sampler:
    """DDIM with noise `eta` between 0 (deterministic) and 1 (DDPM's small variance).

    With x0 the belief, eps = (x_t − alpha_t x0) / sigma_t and λ the logsnr,

        x_s = alpha_s x0 + sigma_s sqrt(1 + eta² e) eps + eta sigma_s sqrt(−e) z,          (20)
        e = expm1(λ_t − λ_s),    z ~ N(0, I).

    References: Song, Meng and Ermon 2020, arXiv:2010.02502, eqs. 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f'eta must lie between 0 and 1, got {eta=}')

    def step(keys, state, t, s, denoise):
        x0 = denoise(state.x, t)
        at_t, at_s = coefficients(schedule, t, state.x), coefficients(schedule, s, state.x)
        eps = (state.x - at_t.alpha * x0) / at_t.sigma
        if not eta:
            return State(at_s.alpha * x0 + at_s.sigma * eps, state.nfe + 1)
        e = jnp.expm1(logsnr(schedule, t) - logsnr(schedule, s))
        kept, fresh = jnp.sqrt(1 + eta**2 * e), eta * jnp.sqrt(-e)
        noise = kept * eps + fresh * normal(keys, state.x)
        return State(at_s.alpha * x0 + at_s.sigma * noise, state.nfe + 1)

    return Sampler(start, step)


def euler_ancestral(schedule: Schedule, eta: float = 1.0) -> Sampler:
    """k-diffusion's ancestral Euler sampler: DDIM, with another default.

    In y = x / alpha and u = sigma / alpha it goes down to u_down and up again by noise of u_up,

        u_up² = eta² u_s² (1 − u_s² / u_t²),    u_down² = u_s² − u_up²,                    (21)

    y_s = x0 + u_down eps + u_up z. That is equation (20) for every eta between 0 and 1, since
    e = u_s² / u_t² − 1; its cap on u_up acts for eta > 1 only, which is refused here.
    """
    return ddim(schedule, eta)
