"""Forward processes of discrete data: absorbing (masked) and uniform, and what all such share.

A token x_0 out of 0 … size−1 becomes x_t by a Markov chain; tokens are independent. With Q(s, t)
the matrix of its transitions,

    transition  q(x_t = j | x_s = i) = Q(s, t)_ij                                          (55)
    marginal    q(x_t = j | x0)      = Q(0, t)_{x0 j}                                      (56)
    posterior   q(x_s = i | x_t, x0) = Q(0, s)_{x0 i} Q(s, t)_{i x_t} / Q(0, t)_{x0 x_t}   (57)

and under a belief π(x0) = p(x0 | x_t) the reverse step is the posterior's mean over it,

    q(x_s | x_t, x0 ~ π) = sum_x0 π(x0) q(x_s | x_t, x0).                                  (58)

The matrix is never needed: a `Chain` holds the two linear maps p -> p Q and v -> Q v. In both
processes of this file a token is kept or drawn anew from a law r,

    Q(s, t) = κ I + (1 − κ) 1 r,    κ = alpha_t / alpha_s,                                 (59)

r being the mask alone (absorbing) or all tokens alike (uniform). The schedule should fall from
alpha(0) = 1 to alpha(1) = 0, as `flow` and `cosine` do: what is left at t = 1 the prior lacks.

References: Austin et al. 2021 (D3PM), arXiv:2107.03006, eqs. 2 to 4 and appendix A.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.schedule import Schedule, broadcast


class Chain(NamedTuple):
    """The Markov chain of one token, by its linear maps on the last axis; s <= t, scalars or [b].

    `law` holds the probabilities of the prior, one per state; the first `size` states are the
    vocabulary. `transition` draws for the whole of an array at scalar times, as a `Process` does.
    """

    size: int
    law: np.ndarray
    forward: Callable[[Array, Array, Array], Array]  # (p [..., states], s, t) -> p Q(s, t)
    backward: Callable[[Array, Array, Array], Array]  # (v [..., states], s, t) -> Q(s, t) v
    transition: Callable[[Array, Array, Array, Array], Array]  # (key, x_s, s, t) -> x_t


def absorbing(schedule: Schedule, size: int) -> Process:
    """Masked diffusion: a token is kept with probability alpha(t), else it is the mask, id `size`.

    `corrupt` also returns which tokens changed.

    References: Austin et al. 2021, arXiv:2107.03006, appendix A.2.2; Sahoo et al. 2024 (MDLM),
    arXiv:2406.07524, section 3.
    """
    return process(absorbing_chain(schedule, size))


def uniform(schedule: Schedule, size: int) -> Process:
    """A token is kept with probability alpha(t), else drawn uniformly (it may be the same again).

    References: Hoogeboom et al. 2021, arXiv:2102.05379, section 4; Austin et al. 2021,
    arXiv:2107.03006, appendix A.2.1.
    """
    return process(uniform_chain(schedule, size))


def absorbing_chain(schedule: Schedule, size: int) -> Chain:
    """The chain of `absorbing`: equation (59), r being all at the mask."""
    check(schedule, size, 1)
    return _redrawn(schedule, size, np.eye(size + 1)[size])


def uniform_chain(schedule: Schedule, size: int) -> Chain:
    """The chain of `uniform`: equation (59), r = 1 / size."""
    check(schedule, size, 2)
    return _redrawn(schedule, size, np.full(size, 1 / size))


def process(chain: Chain) -> Process:
    """The process of a chain; beliefs are logits [..., size] of p(x0 | x_t)."""

    def corrupt(key, x0, t):
        x_t = chain.transition(key, x0, jnp.zeros_like(t), t)
        return x_t, x_t != x0

    def draw_posterior(key, x_t, belief, t, s):
        return draw(key, posterior(chain, x_t, belief, t, s))

    return Process(
        lambda key, shape: draw_law(key, chain, shape), corrupt, chain.transition, draw_posterior
    )


def one_hot(chain: Chain, x: Array, dtype=None) -> Array:
    """Tokens [...] as certain laws [..., states]."""
    return jax.nn.one_hot(x, len(chain.law), dtype=dtype or jnp.result_type(float))


def marginal(chain: Chain, x0: Array, t: Array) -> Array:
    """The law of x_t given tokens x0, [..., states]: equation (56)."""
    certain = one_hot(chain, x0, jnp.result_type(float, t))
    return chain.forward(certain, jnp.zeros_like(t), t)


def posterior(chain: Chain, x_t: Array, belief: Array, t: Array, s: Array) -> Array:
    """The law of x_s given x_t under a belief, s < t: equation (58), [..., states].

    Tokens x0 that can't have become x_t get no weight, whatever the belief: under `absorbing` a
    token that isn't masked stays. An x_t that none can have become (a mask where alpha_t rounds to
    1) says nothing. Exact at both ends: at s = 0 it is the belief itself.

    Args:
      x_t: [...] tokens.
      belief: [..., size] logits of p(x0 | x_t).
      t, s: scalars, or [b] where x_t is [b, ...].
    """
    belief = full_precision(belief)
    dtype = belief.dtype
    arrive = chain.backward(one_hot(chain, x_t, dtype), s, t)  # Q(s, t)_{i x_t}, by i
    through = chain.backward(arrive, jnp.zeros_like(s), s)[..., : chain.size]  # (57)'s denominator
    known = jnp.any(through > 0, -1, keepdims=True)
    arrive, through = jnp.where(known, arrive, 1), jnp.where(known, through, 1)
    finite = jnp.maximum(belief, jnp.finfo(dtype).min)
    weight = jax.nn.softmax(jnp.where(through > 0, finite, -jnp.inf))
    weight = weight / jnp.where(through > 0, through, 1)
    extra = len(chain.law) - chain.size
    weight = jnp.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, extra)])
    return chain.forward(weight, jnp.zeros_like(s), s) * arrive


def kept(schedule: Schedule, s: Array, t: Array) -> Array:
    """κ of equation (59), the probability that a token is not drawn anew between s and t."""
    (alpha_s, _), (alpha_t, _) = schedule(s), schedule(t)
    return jnp.where(alpha_s > 0, alpha_t / jnp.where(alpha_s > 0, alpha_s, 1), 0)


def draw(key: Array, probabilities: Array) -> Array:
    """Tokens [...] from probabilities [..., states], which need not sum to one; never one of zero.

    The Gumbel noise has all the bits that it needs: with the usual 23, likely tokens of a large
    vocabulary come too often (Zheng et al. 2024, arXiv:2409.02908).
    """
    return draw_logits(key, jnp.log(probabilities))


def draw_logits(key: Array, logits: Array) -> Array:
    """Tokens [...] from logits [..., size], as `draw`."""
    return jax.random.categorical(key, full_precision(logits), mode='high').astype(jnp.int32)


def draw_law(key: Array, chain: Chain, shape: tuple[int, ...]) -> Array:
    """Tokens of the given shape from the chain's prior."""
    law = jnp.asarray(chain.law, jnp.result_type(float))
    return jax.random.choice(key, len(chain.law), shape, p=law).astype(jnp.int32)


def full_precision(logits: Array) -> Array:
    """Logits in single precision at least: a denoiser's bfloat16 is its own business."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def check(schedule: Schedule, size: int, least: int) -> None:
    """Raises: ValueError for a vocabulary below `least`, or a schedule that keeps its data."""
    if int(size) != size or size < least:
        raise ValueError(f'size must be a whole number of at least {least}, got {size=}')
    with jax.ensure_compile_time_eval():
        ends = [schedule(t)[0] for t in (0.0, 1.0)]
    if any(isinstance(alpha, jax.core.Tracer) for alpha in ends):
        return  # a learned schedule
    first, last = map(float, ends)
    if not (abs(first - 1) < 1e-3 and last < 0.1):
        raise ValueError(
            f'alpha must fall from 1 at t = 0 to about 0 at t = 1, got {first:.3g} and {last:.3g}'
        )


def _redrawn(schedule, size, law):
    def forward(p, s, t):
        keep = broadcast(kept(schedule, s, t), p).astype(p.dtype)
        return keep * p + (1 - keep) * jnp.sum(p, -1, keepdims=True) * law.astype(p.dtype)

    def backward(v, s, t):
        keep = broadcast(kept(schedule, s, t), v).astype(v.dtype)
        return keep * v + (1 - keep) * jnp.sum(v * law.astype(v.dtype), -1, keepdims=True)

    def transition(key, x_s, s, t):
        keys = jax.random.split(key)
        keep = kept(schedule, s, t)
        stays = jax.random.uniform(keys[0], x_s.shape, keep.dtype) < keep
        return jnp.where(stays, x_s, draw_law(keys[1], chain, x_s.shape)).astype(x_s.dtype)

    chain = Chain(size, law, forward, backward, transition)
    return chain
