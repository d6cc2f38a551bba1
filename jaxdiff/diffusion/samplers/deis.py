"""DEIS: Adams–Bashforth steps for the noise, in the time of the schedule (tAB-DEIS).

With eps the noise that the belief at t means and P a polynomial in time through eps at t and at the
times before it, the probability flow, d(x / alpha) = eps d(sigma / alpha), gives

    x_s = alpha_s x0 + sigma_s eps + alpha_s ∫_t^s (P(τ) − eps) d(sigma_τ / alpha_τ).      (29)

The first two terms are DDIM's step, equation (20), which is therefore order 1. With
v = (τ − t) / (s − t) the integral is equation (26) for the moments m_0 = 0 and, by parts,

    m_k = sigma_s − k alpha_s ∫_0^1 (sigma_τ / alpha_τ) v^(k−1) dv,                        (30)

found by Gauss–Legendre quadrature; no derivative of the schedule is needed.

The paper's other choice, a polynomial in sigma / alpha (rhoAB-DEIS), needs no quadrature, but the
paper measures tAB as the better one at few steps, and where alpha(1) = 0 its node at t = 1 is finite.

References: Zhang and Chen 2022, arXiv:2204.13902, section 3 (tAB-DEIS).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.samplers.base import Sampler, State
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.samplers.multistep import integral, midpoint, remember, with_memory
from jaxdiff.diffusion.schedule import Schedule

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(16)
POINTS, WEIGHTS = (POINTS + 1) / 2, WEIGHTS / 2  # on [0, 1]


def deis(schedule: Schedule, order: int = 2) -> Sampler:
    """tAB-DEIS, one evaluation a step; order 1 is DDIM.

    It begins with lower orders, which errs by O(h²) once and costs order 2 nothing; order 3 begins
    with a step of DPM-Solver++'s 2S, one evaluation more. A higher order would need a start of
    order 3 and is refused. A step to sigma = 0 returns the belief.

    Args:
      order: 1, 2 or 3: the paper's tAB0, tAB1 and tAB2.

    Raises: ValueError for another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f'order must be 1, 2 or 3, got {order=}')
    if order == 1:
        return ddim(schedule)

    def step(keys, state, t, s, denoise):
        x0, past = denoise(state.x, t), state.memory
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = (state.x - alpha_t * x0) / sigma_t

        def first(x):
            return midpoint(schedule, x, t, s, denoise, x0)

        def later(x):
            nodes = [jnp.zeros_like(t), *((time - t) / (s - t) for time in past.times)]
            known = [True, *((k < past.count) & (sigma_s > 0) for k in range(order - 1))]
            moments = _moments(schedule, t, s, order)
            bend = integral(moments, nodes, [eps, *past.beliefs], known)
            return alpha_s * x0 + sigma_s * eps + bend, 0

        if order == 2:
            x, nfe = later(state.x)
        else:
            x, nfe = jax.lax.cond(past.count == 0, first, later, state.x)
        return State(x, state.nfe + 1 + nfe, remember(past, eps, t))

    return Sampler(with_memory(order - 1), step)


def _moments(schedule, t, s, order):
    """Equation (30), and m_0 = 0."""
    v, weights = jnp.asarray(POINTS, t.dtype), jnp.asarray(WEIGHTS, t.dtype)
    alpha, sigma = schedule(t + v * (s - t))
    alpha_s, sigma_s = schedule(s)
    tail = lambda k: jnp.sum(weights * sigma / alpha * v ** (k - 1))
    return [jnp.zeros_like(t), *(sigma_s - k * alpha_s * tail(k) for k in range(1, order))]
