"""DPM-Solver++: exponential integrators in half the logsnr, λ = log(alpha / sigma).

With h = λ_s − λ_t and a polynomial through beliefs D(λ) the exact solution of the probability flow,

    x_s = sigma_s / sigma_t x_t + alpha_s ∫_0^h e^(r − h) D(λ_t + r) dr,                   (25)

is solved with D half-way (2S) or a polynomial through the last beliefs: 3M's parabola is integrated
exactly, 2M's line by the weight (1 − e^(−h)) / 2. A step to sigma = 0 (h = ∞) returns the belief.

References: Lu et al. 2022, arXiv:2211.01095.
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.samplers.multistep import decay, half, midpoint, remember, with_memory
from jaxdiff.diffusion.schedule import Schedule

dpmpp_1s = ddim  # the first order is DDIM (Lu et al. 2022, section 4)


def dpmpp_2s(schedule: Schedule) -> Sampler:
    """Single-step, order 2, two evaluations a step: a belief at half of h (algorithm 1)."""

    def step(keys, state, t, s, denoise):
        x, nfe = midpoint(schedule, state.x, t, s, denoise, denoise(state.x, t))
        return State(x, state.nfe + 1 + nfe)

    return Sampler(start, step)


def dpmpp_2m(schedule: Schedule) -> Sampler:
    """Multi-step, order 2, one evaluation a step: a line through two beliefs (algorithm 2)."""

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), half(schedule, t, s)
        mean = x0 + _line(schedule, state.memory, x0, t, h)[0] / 2
        x = decay(schedule, t, s) * state.x - schedule(s)[0] * jnp.expm1(-h) * mean
        return State(x, state.nfe + 1, remember(state.memory, x0, t))

    return Sampler(with_memory(1), step)


def dpmpp_3m(schedule: Schedule) -> Sampler:
    """Multi-step, order 3: a parabola through three beliefs. It starts with 2S, then 2M.

    The second difference is 2 (D1_0 − D1_1) / (r0 + r1): the published formula lacks the 2, and
    with it an order.
    """

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), half(schedule, t, s)
        (alpha, sigma), memory = schedule(s), state.memory

        def first(x):
            return midpoint(schedule, x, t, s, denoise, x0)

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
            return decay(schedule, t, s) * x + alpha * mean, 0

        x, nfe = jax.lax.cond(memory.count == 0, first, later, state.x)
        return State(x, state.nfe + 1 + nfe, remember(memory, x0, t))

    return Sampler(with_memory(2), step)


def dpmpp_2m_sde(schedule: Schedule) -> Sampler:
    """The multi-step solver, order 2 in its drift, of the reverse SDE.

    x_s = sigma_s/sigma_t e^(−h) x_t + alpha_s (1 − e^(−2h)) (D0 + D1/2) + sigma_s sqrt(1 − e^(−2h)) z.

    References: Lu et al. 2022, arXiv:2211.01095, appendix (SDE-DPM-Solver++).
    """

    def step(keys, state, t, s, denoise):
        x0, h = denoise(state.x, t), half(schedule, t, s)
        mean = x0 + _line(schedule, state.memory, x0, t, h)[0] / 2
        alpha, sigma = schedule(s)
        gain = -jnp.expm1(-2 * h)
        noise = sigma * jnp.sqrt(gain) * normal(keys, state.x)
        x = decay(schedule, t, s) * jnp.exp(-h) * state.x + alpha * gain * mean + noise
        return State(x, state.nfe + 1, remember(state.memory, x0, t))

    return Sampler(with_memory(1), step)


def _line(schedule, memory, x0, t, h):
    """`_difference` between the belief at t and the one before it."""
    return _difference(schedule, x0, t, memory.beliefs[0], memory.times[0], h, memory.count >= 1)


def _difference(schedule, newer, t, older, t_older, h, known):
    """(D(t) − D(t_older)) / r and r = (λ_t − λ_older) / h: zero where `known` is false or h = ∞."""
    r = half(schedule, t_older, t) / h
    usable = known & (r > 0) & jnp.isfinite(r)
    return jnp.where(usable, (newer - older) / jnp.where(usable, r, 1), 0), r
