"""The times that a sampler visits: N steps are N + 1 times, from `t_max` down to `t_min`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff.diffusion import schedule as schedules
from jaxdiff.diffusion.schedule import Schedule, time_of_logsnr


def uniform(steps: int, t_max: float = 1.0, t_min: float = 0.0) -> Array:
    """Equal steps in t. On DDPM's schedule and with its number of steps it is DDPM's own grid."""
    return t_min + (t_max - t_min) * _fractions(steps)


def quadratic(steps: int, t_max: float = 1.0, t_min: float = 0.0) -> Array:
    """Equal steps in sqrt(t): finer towards the data (Song et al. 2020, DDIM, appendix D.2)."""
    root_min, root_max = t_min**0.5, t_max**0.5
    return (root_min + (root_max - root_min) * _fractions(steps)) ** 2


def leading(steps: int, train_steps: int = 1000, offset: int = 1) -> Array:
    """diffusers' 'leading' spacing of timesteps, k · (train_steps // steps) + offset, then t = 0.

    diffusers' timestep i is our t = (i + 1) / train_steps.
    """
    _check(steps, train_steps)
    last = max(steps - 1, 0) * (train_steps // max(steps, 1)) + offset
    if steps and last >= train_steps:
        raise ValueError(
            f'{steps=} and {offset=} start at timestep {last}, but the last is {train_steps - 1}'
        )
    i = jnp.arange(steps - 1, -1, -1) * (train_steps // max(steps, 1)) + offset
    return jnp.concatenate([(i + 1) / train_steps, jnp.zeros(1)])


def trailing(steps: int, train_steps: int = 1000) -> Array:
    """diffusers' 'trailing' spacing, round(train_steps (1 − k / steps)) − 1, then t = 0.

    References: Lin et al. 2024, arXiv:2305.08891, table 2.
    """
    _check(steps, train_steps)
    i = np.round(train_steps * (1 - np.arange(steps) / max(steps, 1))) - 1  # float64: ties are ties
    return jnp.asarray([*(i + 1) / train_steps, 0.0])


def karras(
    schedule: Schedule,
    steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    to_zero: bool = True,
) -> Array:
    """Noise levels sigma / alpha with equal steps in their rho-th root, as times of `schedule`.

    They start at `sigma_max`, or at the schedule's own last level where that is lower, and end at
    `sigma_min`, or at twice its own first where that is higher (as a learned schedule's may be).
    With `to_zero` the last step goes from there to t = 0, and `steps` counts it.

    Raises: ValueError where nothing lies between the two, or for fewer than no steps.

    References: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    levels = _fractions(max(steps - to_zero, 0))
    _check(steps)
    first, last = jnp.exp(-schedules.logsnr(schedule, jnp.asarray([0.0, 1.0])) / 2)
    sigma_min, sigma_max = jnp.maximum(sigma_min, 2 * first), jnp.minimum(sigma_max, last)
    if not isinstance(last, jax.core.Tracer) and not sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min must be less than sigma_max and the schedule's last level {last:g}, got "
            f'{float(sigma_min):g} and {float(sigma_max):g}'
        )
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    times = time_of_logsnr(schedule, -2 * rho * jnp.log(low + (high - low) * levels))
    return jnp.concatenate([times, jnp.zeros(1)])[: steps + 1] if to_zero else times


def logsnr(
    schedule: Schedule, steps: int, t_max: float = 1.0, t_min: float = 1e-3, to_zero: bool = False
) -> Array:
    """Equal steps in logsnr between two times, at both of which it is finite, as DPM-Solver's are.

    With `to_zero` a last step goes from t_min to t = 0, and `steps` counts it.

    References: Lu et al. 2022, arXiv:2206.00927, section 3.4.
    """
    _check(steps)
    end, start = schedules.logsnr(schedule, t_max), schedules.logsnr(schedule, t_min)
    levels = _fractions(max(steps - to_zero, 0))
    times = time_of_logsnr(schedule, start + (end - start) * levels).at[0].set(t_max)
    return jnp.concatenate([times, jnp.zeros(1)])[: steps + 1] if to_zero else times


def _check(steps, most=math.inf):
    if not 0 <= steps <= most:
        allowed = '0 or more' if most == math.inf else f'between 0 and {most}'
        raise ValueError(f'the number of steps must be {allowed}, got {steps=}')


def _fractions(steps):
    _check(steps)
    return jnp.arange(steps, -1, -1) / max(steps, 1) if steps else jnp.ones(1)


def repaint(times: Array, jump: int, resamplings: int) -> Array:
    """A grid that goes every stretch of `jump` steps so many times, and back in between.

    So with times a > b > c > d > e, 2 and 2 it visits a b c, a b c, c d e, c d e: from c up to a the
    chain's transition leads in one step, see `inverse.repaint`.

    References: Lugmayr et al. 2022, arXiv:2201.09865, section 4.2 and appendix B.
    """
    if jump < 1 or resamplings < 1:
        raise ValueError(f'jump and resamplings must be positive, got {jump=}, {resamplings=}')
    visited, last = [0], len(times) - 1
    for start in range(0, last, jump):
        stretch = list(range(start + 1, min(start + jump, last) + 1))
        visited += ([*stretch, start] * resamplings)[:-1]
    return jnp.asarray(times)[jnp.asarray(visited)]
