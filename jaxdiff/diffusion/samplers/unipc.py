"""UniPC: a predictor and a corrector of one family, with one evaluation a step.

With λ = log(alpha / sigma), h = λ_s − λ_t and r = (λ − λ_t) / h, both replace the belief D(λ) in
equation (25) by a polynomial P(r) and integrate it exactly:

    x_s = sigma_s / sigma_t x_t + alpha_s Σ_i P[r_0, …, r_i] M_i,    M_0 = 1 − e^(−h),     (27)

M_i being those of equation (26) for the kernel h e^(h (r − 1)) on 0 ≤ r ≤ 1. The predictor UniP-p
takes the beliefs at t and at the p − 1 times before it; the corrector UniC-p that at s too. The
belief at s was asked at the predicted point, and the next step needs it anyway: so a step begins by
correcting where it stands, by the difference of the two sums. Where P is a line, its weight M_1 is replaced by B(h) / 2, with

    B(h) = h  ('bh1')    or    B(h) = 1 − e^(−h)  ('bh2').                                 (28)

References: Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 in their data-prediction form.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.samplers.base import Sampler, State
from jaxdiff.diffusion.samplers.multistep import decay, half, integral, remember, with_memory
from jaxdiff.diffusion.schedule import Schedule


def unipc(schedule: Schedule, p: int = 2, variant: Literal['bh1', 'bh2'] = 'bh2') -> Sampler:
    """UniPC-p: UniP-p predicts, UniC-p corrects; one evaluation a step.

    UniP-p alone has order p, and the corrector adds one. It begins with lower orders, of which the
    first, a corrected DDIM step, errs by O(h³) once: so UniPC-1 is of order 2, UniPC-2 and UniPC-3
    of order 3. A larger p could not show its order and is refused.

    The state's x is the predictor's: the last step is not corrected, which would take one more
    evaluation, and loses no order by that, being one step. A step to sigma = 0 returns the belief.
    The orders are not lowered before the end, as diffusers does for p = 3 (`lower_order_final`).

    Args:
      p: 1, 2 or 3.
      variant: B(h), equation (28). 'bh2' bears large steps; UniP-2 is then DPM-Solver++ 2M.

    Raises: ValueError for another p or variant.
    """
    if p not in (1, 2, 3):
        raise ValueError(f'p must be 1, 2 or 3, got {p=}')
    if variant not in ('bh1', 'bh2'):
        raise ValueError(f"variant must be 'bh1' or 'bh2', got {variant!r}")

    def step(keys, state, t, s, denoise):
        x0, past = denoise(state.x, t), state.memory
        gain = lambda past, s, end: schedule(s)[0] * _sum(schedule, p, variant, past, s, end)
        x = jax.lax.cond(
            past.count == 0,
            lambda: state.x,
            lambda: state.x + gain(past, t, [x0]) - gain(past, t, []),
        )
        past = remember(past, x0, t)
        x_s = decay(schedule, t, s) * x + gain(past, s, [])
        return State(x_s, state.nfe + 1, past)

    return Sampler(with_memory(p), step)


def _sum(schedule, p, variant, past, s, end):
    """The sum in equation (27) from the newest time of `past` to s; `end`: [belief at s] or []."""
    t, h = past.times[0], half(schedule, past.times[0], s)
    m_0 = -jnp.expm1(-h)
    moments = [m_0]
    for k in range(1, p + len(end)):
        moments.append(1 - k * moments[-1] / h)  # ∫_0^1 h e^(h (r − 1)) r^k dr, by parts
    used = jnp.minimum(p, past.count) + len(end)
    if len(moments) > 1:
        size = jnp.where(jnp.isfinite(h), h, 1) if variant == 'bh1' else m_0
        moments[1] = jnp.where(used == 2, size / 2, moments[1])
    nodes, values = [jnp.zeros_like(h), *(jnp.ones_like(h) for _ in end)], [past.beliefs[0], *end]
    known = [True] * len(nodes)
    for time, belief in zip(past.times[1:], past.beliefs[1:], strict=True):
        r = half(schedule, t, time) / h
        known.append((len(nodes) < used) & jnp.isfinite(r) & (r != 0))
        nodes.append(r)
        values.append(belief)
    return integral(moments, nodes, values, known)
