"""Langevin dynamics at the noise levels of a grid.

At a level u = sigma / alpha the density of y = x / alpha is left in place by Langevin's dynamics,
whose discrete step of size 2 (r u)², r being the paper's signal-to-noise ratio, is

    y ← y + 2 (r u)² score + 2 r u z,    score = (x0 − y) / u²,    z ~ N(0, I),

with x0 the belief. In x, free of every division,

    x ← x + 2 r² (alpha x0 − x) + 2 r sigma z.                                             (37)

The papers take r sigma from norms over a batch; here no sample depends on another. The step is not
exact: on N(m, V) its chain settles at the variance

    V / (1 − (r u)² / V),                                                                  (38)

in y, and from any start comes closer to it by the factor (1 − 2 (r u)² / V)² a step. The bias falls
with r, its square that is, and the chain needs the more steps.

References: Song et al. 2021, arXiv:2011.13456, algorithms 2 to 5; Song and Ermon 2019,
arXiv:1907.05600, algorithm 1.
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.denoiser import mean
from jaxdiff.diffusion.samplers.base import Sampler, normal, start
from jaxdiff.diffusion.samplers.ddpm import ddpm
from jaxdiff.diffusion.schedule import Schedule


def predictor_corrector(
    schedule: Schedule,
    predictor: Sampler | None = None,
    corrections: int = 1,
    snr: float = 0.16,
) -> Sampler:
    """A predictor's step to s, then Langevin steps there: equation (37).

    At sigma_s = 0 there is nothing to correct, and no evaluation is spent on it.

    Args:
      predictor: any sampler of the same schedule; by default `ddpm`, the paper's ancestral one.
      corrections: the Langevin steps after each step of the predictor; with none it is alone.
      snr: the paper's r, between 0 and 1, above which the chain diverges.

    References: Song et al. 2021, arXiv:2011.13456, algorithms 2 to 5.
    """
    if corrections < 0:
        raise ValueError(f'corrections must be 0 or more, got {corrections=}')
    _check(snr)
    predictor = ddpm(schedule) if predictor is None else predictor
    if corrections == 0:
        return predictor

    def step(keys, state, t, s, denoise):
        state = predictor.step(_fold(keys, 0), state, t, s, denoise)
        alpha, sigma = schedule(s)

        def correct(i, x):
            drift = alpha * mean(denoise(x, s)) - x
            return x + 2 * snr**2 * drift + 2 * snr * sigma * normal(_fold(keys, i + 1), x)

        def correct_all(state):
            x = jax.lax.fori_loop(0, corrections, correct, state.x)
            return state._replace(x=x, nfe=state.nfe + corrections)

        return jax.lax.cond(sigma > 0, correct_all, lambda state: state, state)

    return Sampler(predictor.init, step)


def annealed_langevin(schedule: Schedule, inner: int = 100, snr: float = 0.05**0.5) -> Sampler:
    """Langevin steps at each level in turn, from the sample of the level before it; none at the
    first, whose law x_1 has already.

    A step to s keeps y = x / alpha, so x_s = alpha_s / alpha_t x_t, and then takes `inner` steps of
    equation (37) there. (From alpha = 0, where there is no y, it starts at the noise alone,
    sigma_s / sigma_t x_t.) The step to sigma = 0 returns the belief.

    Args:
      inner: Langevin steps at each level, the paper's T.
      snr: r of equation (37). The paper's step sizes epsilon sigma_i² / sigma_L² are those of
        r = sqrt(epsilon) / (2 sigma_L); its own numbers give the default.

    References: Song and Ermon 2019, arXiv:1907.05600, algorithm 1; the last step: Jolicoeur-Martineau
    et al. 2020, arXiv:2009.05475, section 3.1.
    """
    if inner < 1:
        raise ValueError(f'inner must be 1 or more, got {inner=}')
    _check(snr)

    def carry(keys, state, t, s, denoise):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        known = alpha_t > 0
        factor = jnp.where(known, alpha_s, sigma_s) / jnp.where(known, alpha_t, sigma_t)

        def last(state):
            return state._replace(x=alpha_s * denoise(state.x, t), nfe=state.nfe + 1)

        return jax.lax.cond(
            sigma_s > 0, lambda state: state._replace(x=factor * state.x), last, state
        )

    return predictor_corrector(schedule, Sampler(start, carry), inner, snr)


def _fold(keys, i):
    return jax.vmap(jax.random.fold_in, (0, None))(keys, i)


def _check(snr):
    if not 0 < snr < 1:
        raise ValueError(f'snr must lie between 0 and 1, got {snr=}')
