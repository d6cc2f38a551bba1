"""Runge–Kutta solvers of the probability-flow ODE.

With the belief x0 at x_t and eps = (x_t − alpha x0) / sigma, the ODE whose solutions have the
marginals of the forward process is, in one of two variables,

    variable='t':      dx/dt = alpha' x0 + sigma' eps                                      (23)
    variable='sigma':  dy/du = eps,    y = x / alpha,  u = sigma / alpha                   (24)

(24) is k-diffusion's and EDM's. From and to alpha = 0, where it has no value, and in (23) a time where
alpha' is infinite, as the sigmoid schedule's is at t = 1, the step is DDIM's, equation (20); a step
to sigma = 0 returns the belief. Either takes one evaluation.

References: Song et al. 2021, arXiv:2011.13456, eq. 13; Karras et al. 2022, arXiv:2206.00364, eq. 4.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.samplers.base import Sampler, State, start
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.schedule import Schedule, coefficients, time_of_logsnr

Variable = Literal['t', 'sigma']


def euler(schedule: Schedule, variable: Variable = 'sigma') -> Sampler:
    """Euler's method, order 1; in 'sigma' it is DDIM with eta = 0."""
    if variable == 'sigma':
        return ddim(schedule)

    def step(ode, x, t, s, denoise):
        y = ode.into(x, t) + (ode.u(s) - ode.u(t)) * ode.slope(x, t, denoise)
        return ode.back(y, s), 1

    return _runge_kutta(schedule, variable, step)


def heun(schedule: Schedule, variable: Variable = 'sigma') -> Sampler:
    """Heun's method, order 2: the mean of the slopes at both ends (EDM's algorithm 1)."""

    def step(ode, x, t, s, denoise):
        y, h = ode.into(x, t), ode.u(s) - ode.u(t)
        k_t = ode.slope(x, t, denoise)
        k_s = ode.slope(ode.back(y + h * k_t, s), s, denoise)
        return ode.back(y + h * (k_t + k_s) / 2, s), 2

    return _runge_kutta(schedule, variable, step)


def rk4(schedule: Schedule, variable: Variable = 'sigma') -> Sampler:
    """The classical Runge–Kutta method, order 4."""

    def step(ode, x, t, s, denoise):
        y, h = ode.into(x, t), ode.u(s) - ode.u(t)
        m = ode.middle(t, s)
        k_1 = ode.slope(x, t, denoise)
        k_2 = ode.slope(ode.back(y + h * k_1 / 2, m), m, denoise)
        k_3 = ode.slope(ode.back(y + h * k_2 / 2, m), m, denoise)
        k_4 = ode.slope(ode.back(y + h * k_3, s), s, denoise)
        return ode.back(y + h * (k_1 + 2 * k_2 + 2 * k_3 + k_4) / 6, s), 4

    return _runge_kutta(schedule, variable, step)


class _ODE(NamedTuple):
    regular: Callable[[Array], Array]  # whether the ODE has a slope at a time
    u: Callable[[Array], Array]  # the variable at a time
    middle: Callable[[Array, Array], Array]  # the time at which u is half-way
    into: Callable[[Array, Array], Array]  # (x, t) -> y
    back: Callable[[Array, Array], Array]  # (y, t) -> x
    slope: Callable[..., Array]  # (x, t, denoise) -> dy/du


def _in_t(schedule):
    def slope(x, t, denoise):
        c, x0 = coefficients(schedule, t, x), denoise(x, t)
        return c.dalpha * x0 + c.dsigma * (x - c.alpha * x0) / c.sigma

    def regular(t):
        return jnp.isfinite(coefficients(schedule, t, t).dalpha)

    same = lambda x, t: x
    return _ODE(regular, lambda t: t, lambda t, s: (t + s) / 2, same, same, slope)


def _in_sigma(schedule):
    def u(t):
        alpha, sigma = schedule(t)
        return sigma / alpha

    def slope(x, t, denoise):
        c = coefficients(schedule, t, x)
        return (x - c.alpha * denoise(x, t)) / c.sigma

    return _ODE(
        lambda t: schedule(t)[0] > 0,
        u,
        lambda t, s: time_of_logsnr(schedule, -2 * jnp.log((u(t) + u(s)) / 2)),
        lambda x, t: x / schedule(t)[0],
        lambda y, t: y * schedule(t)[0],
        slope,
    )


def _runge_kutta(schedule, variable, method):
    if variable not in ('t', 'sigma'):
        raise ValueError(f"variable must be 't' or 'sigma', got {variable!r}")
    ode = (_in_t if variable == 't' else _in_sigma)(schedule)

    def step(keys, state, t, s, denoise):
        def inside(x):
            x, nfe = method(ode, x, t, s, denoise)
            return State(x, state.nfe + nfe)

        def end(x):  # to sigma = 0 it is the belief
            return ddim(schedule).step(keys, state._replace(x=x), t, s, denoise)

        regular = ode.regular(t) & ode.regular(s) & (schedule(s)[1] > 0)
        return jax.lax.cond(regular, inside, end, state.x)

    return Sampler(start, step)
