"""Samplers of masked diffusion: tokens [b, ...] that start as the mask, id `size`.

From t to s a masked token is revealed, drawn from the belief, with probability ρ, and a revealed
one masked again with probability ω,

    ρ = (alpha_s − (1 − ω) alpha_t) / (1 − alpha_t),    ω = eta min(1, (1 − alpha_s) / alpha_t),  (63)

so that it is unmasked at s with probability alpha_s, for any eta between 0 and 1. At s = 0 all are
revealed: ρ = 1 and ω = 0.

References: Sahoo et al. 2024 (MDLM), arXiv:2406.07524, section 3; Wang et al. 2025 (ReMDM),
arXiv:2503.00307, sections 3 and 4, whose sigma_t is ω, by its rescaled schedule.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.categorical import check, draw_logits, full_precision, kept
from jaxdiff.diffusion.samplers.base import Sampler, State
from jaxdiff.diffusion.schedule import Schedule


class Cache(NamedTuple):
    """The last belief, and whether no token of the batch has changed since."""

    belief: Any
    fresh: Array


class Start(NamedTuple):
    """The time at which a walk began and how many tokens of each sample were masked, [b]."""

    t: Array
    masked: Array


def masked_ancestral(schedule: Schedule, size: int, cache: bool = False) -> Sampler:
    """The reverse chain of `absorbing`: equation (63) with eta = 0. A revealed token never changes.

    With `cache` the denoiser is asked only if a token of the batch changed in the last step: for
    denoisers that do not depend on the time the samples are the same.

    References: Sahoo et al. 2024 (MDLM), arXiv:2406.07524.
    """
    return masked_remask(schedule, size, 0.0, cache)


def masked_remask(schedule: Schedule, size: int, eta: float, cache: bool = False) -> Sampler:
    """Equation (63): revealed tokens may be masked and drawn again, the marginals being kept.

    Tokens that are given at the start are masked again like any others.

    Args:
      eta: 0 (`masked_ancestral`) to 1 (as much as the marginals allow).
      cache: as in `masked_ancestral`.
    """
    check(schedule, size, 1)
    if not 0 <= eta <= 1:
        raise ValueError(f'eta must lie between 0 and 1, got {eta=}')

    def init(x_1, denoise, times):
        memory = ()
        if cache:
            shapes = jax.eval_shape(denoise, x_1, times[0])
            belief = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            memory = Cache(belief, jnp.array(False))
        return State(x_1, jnp.zeros((), jnp.int32), memory)

    def ask(state, t, denoise):
        if not cache:
            return denoise(state.x, t), 1
        known = lambda x: (state.memory.belief, 0)
        return jax.lax.cond(state.memory.fresh, known, lambda x: (denoise(x, t), 1), state.x)

    def step(keys, state, t, s, denoise):
        belief, nfe = ask(state, t, denoise)
        reveal, remask = rates(schedule, t, s, eta)
        u, tokens = _draw(keys, belief)
        masked = state.x == size
        x = jnp.where(masked & (u < reveal), tokens.astype(state.x.dtype), state.x)
        x = jnp.where(~masked & (u < remask), jnp.array(size, x.dtype), x)
        memory = Cache(belief, jnp.all(x == state.x)) if cache else ()
        return State(x, state.nfe + nfe, memory)

    return Sampler(init, step)


def masked_confidence(schedule: Schedule, size: int, temperature: float = 4.5) -> Sampler:
    """MaskGIT's sampler: each step reveals the tokens of which the denoiser is most confident.

    All masked tokens are drawn from the belief; those with the highest log p + temperature · s · g,
    g Gumbel noise, are revealed, so many that the share (1 − alpha_s) / (1 − alpha_start) of the
    tokens that were masked at first stays masked. It is fast, not exact: the confident come first.

    The paper's cosine is alpha = 1 − sin(πt/2).

    References: Chang et al. 2022, arXiv:2202.04200, section 3.2 and, for the temperature, its code.
    """
    check(schedule, size, 1)
    if not temperature >= 0:
        raise ValueError(f'temperature must be 0 or more, got {temperature=}')

    def init(x_1, denoise, times):
        start = Start(times[0], _count(x_1 == size))
        return State(x_1, jnp.zeros((), jnp.int32), start)

    def step(keys, state, t, s, denoise):
        belief, start = full_precision(denoise(state.x, t)), state.memory
        lost_s, lost = (1 - kept(schedule, jnp.zeros_like(time), time) for time in (s, start.t))
        share = jnp.where(lost > 0, lost_s / jnp.where(lost > 0, lost, 1), 0)
        _, tokens = _draw(keys, belief)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(belief), tokens[..., None], -1)[..., 0]
        noise = jax.vmap(
            lambda key: jax.random.gumbel(jax.random.fold_in(key, 2), log_p.shape[1:], log_p.dtype)
        )(keys)
        masked = state.x == size
        score = jnp.where(masked, log_p + (temperature * s).astype(log_p.dtype) * noise, -jnp.inf)
        left = jnp.round(share * start.masked).astype(jnp.int32)
        number = jnp.maximum(_count(masked) - left, 0)
        rank = jnp.argsort(jnp.argsort(-score.reshape(len(score), -1), axis=-1), axis=-1)
        reveal = masked & (rank < number[:, None]).reshape(masked.shape)
        x = jnp.where(reveal, tokens.astype(state.x.dtype), state.x)
        return State(x, state.nfe + 1, start)

    return Sampler(init, step)


def rates(schedule: Schedule, t: Array, s: Array, eta: float) -> tuple[Array, Array]:
    """ρ and ω of equation (63), s < t."""
    alpha_t, alpha_s = (kept(schedule, jnp.zeros_like(time), time) for time in (t, s))
    tiny = jnp.finfo(alpha_t.dtype).tiny
    remask = eta * jnp.minimum(1, (1 - alpha_s) / jnp.maximum(alpha_t, tiny))
    masked = jnp.where(alpha_t < 1, 1 - alpha_t, 1)
    return jnp.where(alpha_t < 1, (alpha_s - (1 - remask) * alpha_t) / masked, 1), remask


def _draw(keys, belief):
    """A uniform number for each token and a token from its belief, each sample by its own key."""

    def one(key, logits):
        u = jax.random.uniform(jax.random.fold_in(key, 0), logits.shape[:-1])
        return u, draw_logits(jax.random.fold_in(key, 1), logits)

    return jax.vmap(one)(keys, belief)


def _count(masked):
    return jnp.sum(masked.reshape(len(masked), -1), -1, dtype=jnp.int32)
