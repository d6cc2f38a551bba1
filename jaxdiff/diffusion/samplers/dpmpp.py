"""DPM-Solver++: exponential integrators in half the logsnr, λ = log(alpha / sigma).

With h = λ_s − λ_t and a polynomial through beliefs D(λ) the exact solution of the probability flow,

    x_s = sigma_s / sigma_t x_t + alpha_s ∫_0^h e^(r − h) D(λ_t + r) dr,                   (14)

is integrated term by term. A step to sigma = 0 (h = ∞) returns the belief.

References: Lu et al. 2022, arXiv:2211.01095.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.schedule import Schedule, logsnr, time_of_logsnr

dpmpp_1s = ddim  # the first order is DDIM (Lu et al. 2022, section 4)


def dpmpp_2s(schedule: Schedule) -> Sampler:
    """Single-step, order 2, two evaluations a step: a belief at half of h (algorithm 1)."""

    def step(keys, state, t, s, denoise):
        x, nfe = _single(schedule, state.x, t, s, denoise, denoise(state.x, t))
        return State(x, state.nfe + 1 + nfe)

    return Sampler(start, step)


def dpmpp_2m(schedule: Schedule) -> Sampler:
    """Multi-step, order 2, one evaluation a step: a line through two beliefs (algorithm 2)."""

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), _half(schedule, t, s)
        mean = x0 + _line(schedule, state.memory, x0, t, h)[0] / 2
        x = _decay(schedule, t, s) * state.x - schedule(s)[0] * jnp.expm1(-h) * mean
        return State(x, state.nfe + 1, _remember(state.memory, x0, t))

    return Sampler(_with_memory(1), step)


def dpmpp_3m(schedule: Schedule) -> Sampler:
    """Multi-step, order 3: a parabola through three beliefs. It starts with 2S, then 2M.

    The second difference is 2 (D1_0 − D1_1) / (r0 + r1): the published formula lacks the 2, and
    with it an order.
    """

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), _half(schedule, t, s)
        (alpha, sigma), memory = schedule(s), state.memory

        def first(x):
            return _single(schedule, x, t, s, denoise, x0)

        def later(x):
            d1_0, r0 = _line(schedule, memory, x0, t, h)
            known = memory.count >= 2
            d1_1, r1 = _difference(
                schedule,
                *(z for k in (0, 1) for z in (memory.beliefs[k], memory.times[k])),
                h,
                known,
            )
            curved = known & (sigma > 0)
            bend = jnp.where(curved, (d1_0 - d1_1) / jnp.where(curved, r0 + r1, 1), 0)
            # ∫_0^h e^(r − h) (1, r/h, r²/2h²) dr
            phi_1 = -jnp.expm1(-h)
            phi_2 = 1 - phi_1 / h
            phi_3 = 0.5 - phi_2 / h
            parabola = phi_2 * (d1_0 + r0 * bend) + phi_3 * 2 * bend
            mean = phi_1 * x0 + jnp.where(curved, parabola, phi_1 * d1_0 / 2)
            return _decay(schedule, t, s) * x + alpha * mean, 0

        x, nfe = jax.lax.cond(memory.count == 0, first, later, state.x)
        return State(x, state.nfe + 1 + nfe, _remember(memory, x0, t))

    return Sampler(_with_memory(2), step)


def dpmpp_2m_sde(schedule: Schedule) -> Sampler:
    """The multi-step solver, order 2 in its drift, of the reverse SDE.

    x_s = sigma_s/sigma_t e^(−h) x_t + alpha_s (1 − e^(−2h)) (D0 + D1/2) + sigma_s sqrt(1 − e^(−2h)) z.

    References: Lu et al. 2022, arXiv:2211.01095, appendix (SDE-DPM-Solver++).
    """

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), _half(schedule, t, s)
        mean = x0 + _line(schedule, state.memory, x0, t, h)[0] / 2
        alpha, sigma = schedule(s)
        gain = -jnp.expm1(-2 * h)
        noise = sigma * jnp.sqrt(gain) * normal(keys, state.x)
        x = _decay(schedule, t, s) * jnp.exp(-h) * state.x + alpha * gain * mean + noise
        return State(x, state.nfe + 1, _remember(state.memory, x0, t))

    return Sampler(_with_memory(1), step)


class Memory(NamedTuple):
    """The last beliefs, newest first, [k, b, ...], their times [k], and how many there are."""

    beliefs: Array
    times: Array
    count: Array


def _with_memory(k):
    def init(x_1, denoise, times):
        belief = jax.eval_shape(denoise, x_1, times[0])
        memory = Memory(
            jnp.zeros((k, *belief.shape), belief.dtype), jnp.zeros(k, times.dtype), jnp.int32(0)
        )
        return State(x_1, jnp.zeros((), jnp.int32), memory)

    return init


def _remember(memory, x0, t):
    push = lambda old, new: jnp.concatenate([new[None], old[:-1]])
    return Memory(push(memory.beliefs, x0), push(memory.times, t), memory.count + 1)


def _line(schedule, memory, x0, t, h):
    """`_difference` between the belief at t and the one before it."""
    return _difference(schedule, x0, t, memory.beliefs[0], memory.times[0], h, memory.count >= 1)


def _difference(schedule, newer, t, older, t_older, h, known):
    """(D(t) − D(t_older)) / r and r = (λ_t − λ_older) / h: zero where `known` is false or h = ∞."""
    r = _half(schedule, t_older, t) / h
    usable = known & (r > 0) & jnp.isfinite(r)
    return jnp.where(usable, (newer - older) / jnp.where(usable, r, 1), 0), r


def _single(schedule, x, t, s, denoise, x0):
    """2S's step given the belief at t; with sigma_s = 0 the belief itself. Returns (x_s, evaluations)."""
    h = _half(schedule, t, s)
    alpha, sigma = schedule(s)

    def inside(x):
        m = time_of_logsnr(schedule, (logsnr(schedule, t) + logsnr(schedule, s)) / 2)
        middle = _decay(schedule, t, m) * x - schedule(m)[0] * jnp.expm1(-h / 2) * x0
        return _decay(schedule, t, s) * x - alpha * jnp.expm1(-h) * denoise(middle, m), 1

    return jax.lax.cond(sigma > 0, inside, lambda x: (alpha * x0, 0), x)


def _half(schedule, t, s):
    return (logsnr(schedule, s) - logsnr(schedule, t)) / 2


def _decay(schedule, t, s):
    return schedule(s)[1] / schedule(t)[1]
