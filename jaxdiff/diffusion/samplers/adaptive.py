"""The probability flow with a step size per example: Dormand and Prince's pair 5(4).

It is solved in the angle φ = arctan(sigma / alpha), for y = x / sqrt(alpha² + sigma²):

    y = cos φ x0 + sin φ eps,    dy/dφ = (cos φ y − x0) / sin φ = −sin φ x0 + cos φ eps,   (31)

which is smooth on all of 0 < φ ≤ π/2, alpha = 0 included, and the same for every schedule; y has the
scale of the data at one end and of unit noise at the other. The slope tends to E[eps | x_0] as
φ → 0, but a belief can't tell it there, 0 / 0. So a step to sigma = 0 is integrated down to
sigma / alpha = sigma_min, and then takes the belief,

    x0 = cos φ y − sin φ dy/dφ,                                                            (32)

whose difference from the flow's end is about sigma_min² / 2 times the score of the data.

The error of a trial of size h is estimated as that of order 5 minus that of order 4; with

    e = sqrt(mean((|error| / (atol + rtol max(|y|, |y_new|)))²))                           (33)

over the components of one example, never over the batch, it is accepted where e ≤ 1, and the next
size is h · 0.9 e^(−1/5), between h / 5 and 10 h.

References: Song et al. 2021, arXiv:2011.13456, section 4.3; Dormand and Prince 1980; Hairer, Nørsett
and Wanner, Solving Ordinary Differential Equations I, section II.4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.samplers.base import Sampler, State
from jaxdiff.diffusion.schedule import Schedule, broadcast, time_of_logsnr

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # the step itself, order 5
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
FIRST = 0.05  # the first size tried, of an angle that is π/2 in all


def ode_adaptive(
    schedule: Schedule,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
    sigma_min: float = 2e-3,
) -> Sampler:
    """Dormand–Prince 5(4) between each two times of the grid; a grid of two times is a whole run.

    Every example has its own time and step size (which is remembered from one interval of the grid
    to the next); the denoiser is asked with t [b], and examples that have arrived stand still until
    the last has. `nfe` counts evaluations of the whole batch: 6 a trial and 1 an interval, the last
    slope of a step being the first of the next.

    An example that has not arrived after `max_steps` trials in an interval, or whose step size has
    shrunk to nothing (a denoiser that returns NaN, a tolerance below the rounding of x), is NaN.
    The loop has no fixed length: JAX differentiates it forwards only.

    Args:
      rtol, atol: the tolerance of one step, in units of y, equation (33).
      max_steps: trials, rejected ones too, allowed to an example in each interval.
      sigma_min: sigma / alpha at which a step to sigma = 0 takes the belief.

    Raises: ValueError for a tolerance, number or level that is not positive (rtol may be 0).
    """
    if rtol < 0 or atol <= 0:
        raise ValueError(f'rtol must be 0 or more and atol positive, got {rtol=}, {atol=}')
    if max_steps < 1:
        raise ValueError(f'max_steps must be 1 or more, got {max_steps=}')
    if sigma_min <= 0:
        raise ValueError(f'sigma_min must be positive, got {sigma_min=}')

    def init(x_1, denoise, times):
        sizes = jnp.full(x_1.shape[0], FIRST, x_1.dtype)
        return State(x_1, jnp.zeros((), jnp.int32), sizes)

    def step(keys, state, t, s, denoise):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        start = jnp.arctan2(sigma_t, alpha_t)
        end = jnp.arctan2(sigma_s, alpha_s)
        end = jnp.where(sigma_s > 0, end, jnp.minimum(start, jnp.arctan(sigma_min)))
        earlier, later = jnp.minimum(t, s), jnp.maximum(t, s)

        def slope(y, angle):
            sin, cos = jnp.sin(angle), jnp.maximum(jnp.cos(angle), 0)
            time = time_of_logsnr(schedule, 2 * (jnp.log(cos) - jnp.log(sin)))
            time = jnp.clip(time, earlier, later)
            x0 = denoise(broadcast(jnp.hypot(*schedule(time)), y) * y, time)
            return (broadcast(cos, y) * y - x0) / broadcast(sin, y)

        def arrived(walk):
            return walk.angle == end

        def going(walk):
            stuck = walk.angle + walk.size == walk.angle
            return jnp.any(~arrived(walk) & ~stuck) & (walk.trials < max_steps)

        y = state.x / jnp.hypot(alpha_t, sigma_t)
        angle = jnp.full(y.shape[0], start, y.dtype)
        end = end.astype(y.dtype)
        walk = _Walk(y, angle, slope(y, angle), state.memory, jnp.int32(0))
        walk = jax.lax.while_loop(going, lambda walk: _try(slope, walk, end, rtol, atol), walk)

        sin, cos = jnp.sin(end), jnp.cos(end)
        inside, belief = jnp.hypot(alpha_s, sigma_s) * walk.y, cos * walk.y - sin * walk.slope
        x = jnp.where(sigma_s > 0, inside, alpha_s * belief)
        x = jnp.where(broadcast(arrived(walk), x), x, jnp.nan)
        return State(x, state.nfe + 1 + 6 * walk.trials, walk.size)

    return Sampler(init, step)


class _Walk(NamedTuple):
    y: Array  # [b, ...]
    angle: Array  # [b]
    slope: Array  # dy/dφ there, [b, ...]
    size: Array  # of the step to try next, [b]
    trials: Array


def _try(slope, walk, end, rtol, atol):
    """One trial of every example; those that have arrived, or are rejected, stay where they are."""
    left = end - walk.angle
    last = jnp.abs(left) <= walk.size
    h = jnp.where(last, left, jnp.sign(left) * walk.size)
    wide = broadcast(h, walk.y)

    slopes = [walk.slope]
    for node, row in zip(NODES, STAGES, strict=True):
        y = walk.y + wide * sum(a * k for a, k in zip(row, slopes, strict=True) if a)
        slopes.append(slope(y, walk.angle + node * h))
    error = wide * sum(c * k for c, k in zip(ERROR, slopes, strict=True) if c)
    error = error / (atol + rtol * jnp.maximum(jnp.abs(walk.y), jnp.abs(y)))
    e = jnp.sqrt(jnp.mean(jnp.reshape(error, (error.shape[0], -1)) ** 2, axis=1))

    moved = (e <= 1) & (left != 0)
    factor = jnp.clip(jnp.where(jnp.isfinite(e), 0.9 * e**-0.2, 0), 0.2, 10)
    size = jnp.abs(h) * factor
    size = jnp.where(moved & last, jnp.maximum(size, walk.size), size)  # cut short by the grid
    choose = lambda new, old: jnp.where(broadcast(moved, new), new, old)
    return _Walk(
        choose(y, walk.y),
        choose(jnp.where(last, end, walk.angle + h), walk.angle),
        choose(slopes[-1], walk.slope),
        jnp.where(left != 0, size, walk.size),
        walk.trials + 1,
    )
