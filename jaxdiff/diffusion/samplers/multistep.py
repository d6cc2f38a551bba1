"""What multi-step samplers share: a memory, steps in half the logsnr, polynomials through the past.

The polynomial P through values f_0, …, f_n at nodes r_0, …, r_n, in Newton's form, is integrated
against a kernel w that is known by its moments m_k = ∫ w(r) r^k dr:

    ∫ w P dr = Σ_i f[r_0, …, r_i] ∫ w(r) (r − r_0) … (r − r_{i−1}) dr,                   (26)

f[…] being divided differences. Half of the logsnr is called λ = log(alpha / sigma) here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.samplers.base import State
from jaxdiff.diffusion.schedule import Schedule, logsnr, time_of_logsnr


class Memory(NamedTuple):
    """The last beliefs (or noises), newest first, [k, b, ...], their times [k], and how many."""

    beliefs: Array
    times: Array
    count: Array


def with_memory(k: int) -> Callable[..., State]:
    """The `init` of a sampler that remembers `k` beliefs."""

    def init(x_1, denoise, times):
        belief = jax.eval_shape(denoise, x_1, times[0])
        memory = Memory(
            jnp.zeros((k, *belief.shape), belief.dtype), jnp.zeros(k, times.dtype), jnp.int32(0)
        )
        return State(x_1, jnp.zeros((), jnp.int32), memory)

    return init


def remember(memory: Memory, belief: Array, t: Array) -> Memory:
    """The memory with one more belief in it and the oldest forgotten."""
    push = lambda old, new: jnp.concatenate([new[None], old[:-1]])
    return Memory(push(memory.beliefs, belief), push(memory.times, t), memory.count + 1)


def half(schedule: Schedule, t: Array, s: Array) -> Array:
    """λ_s − λ_t: ∞ where sigma_s = 0 or alpha_t = 0."""
    return (logsnr(schedule, s) - logsnr(schedule, t)) / 2


def decay(schedule: Schedule, t: Array, s: Array) -> Array:
    """sigma_s / sigma_t."""
    return schedule(s)[1] / schedule(t)[1]


def integral(
    moments: Sequence[Array],
    nodes: Sequence[Array],
    values: Sequence[Array],
    known: Sequence[Array],
) -> Array:
    """Equation (26), up to the first node that isn't known.

    Args:
      moments: m_k, as many as nodes.
      nodes: r_k, scalars; all that are known differ.
      values: f_k, [b, ...] each.
      known: whether each may be used; the first is.
    """
    nodes = [jnp.where(ok, r, 2 + k) for k, (r, ok) in enumerate(zip(nodes, known, strict=True))]
    total = moments[0] * values[0]
    for k in range(1, len(nodes)):
        values = [
            (later - earlier) / (nodes[i + k] - nodes[i])
            for i, (earlier, later) in enumerate(zip(values, values[1:]))
        ]
        moments = [later - nodes[k - 1] * m for m, later in zip(moments, moments[1:])]
        total = total + jnp.where(known[k], moments[0], 0) * values[0]
    return total


def midpoint(
    schedule: Schedule, x: Array, t: Array, s: Array, denoise: Denoiser, x0: Array
) -> tuple[Array, Array]:
    """A step of order 2 that needs no past, DPM-Solver++'s 2S: a belief at half of λ_s − λ_t.

    `x0` is the belief at t; with sigma_s = 0 it is the result. Returns: x_s and the evaluations.
    """
    h = half(schedule, t, s)
    alpha, sigma = schedule(s)

    def inside(x):
        m = time_of_logsnr(schedule, (logsnr(schedule, t) + logsnr(schedule, s)) / 2)
        middle = decay(schedule, t, m) * x - schedule(m)[0] * jnp.expm1(-h / 2) * x0
        return decay(schedule, t, s) * x - alpha * jnp.expm1(-h) * denoise(middle, m), 1

    return jax.lax.cond(sigma > 0, inside, lambda x: (alpha * x0, 0), x)
