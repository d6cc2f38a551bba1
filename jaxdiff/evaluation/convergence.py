"""How fast a deterministic sampler's error falls with its number of steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from jaxdiff.diffusion import exact, grid
from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.sample import sample
from jaxdiff.diffusion.samplers.base import Sampler
from jaxdiff.diffusion.schedule import Schedule, coefficients

WEIGHTS, MEANS, STDS = [0.5, 0.3, 0.2], [[-1.0, 0.3], [0.8, 0.9], [0.4, -1.1]], [0.5, 0.4, 0.6]
MIXTURE = WEIGHTS, MEANS, STDS
STARTS = [[-1.2, 0.4], [0.3, 0.2], [0.9, -1.0], [0.1, 1.4], [-0.2, -0.7]]


def orders(
    make: Callable[[Schedule], Sampler],
    schedule: Schedule,
    steps: tuple[int, ...] = (32, 64, 128),
    interval: tuple[float, float] = (0.8, 0.2),
    data: tuple = MIXTURE,
) -> np.ndarray:
    """The order that a sampler shows between each two numbers of steps, [len(steps) − 1].

    Its `errors` fall as steps^−order. Call it in double precision (`jax.enable_x64`): a sampler of
    your own,

        orders(my_sampler, schedule.cosine())[-1]        # at least its order − 0.25

    Args:
      make: a schedule's sampler, deterministic.
    """
    found = errors(make, schedule, steps, interval, data)
    return np.log(np.divide(found[:-1], found[1:])) / np.log(np.divide(steps[1:], steps[:-1]))


def errors(
    make: Callable[[Schedule], Sampler],
    schedule: Schedule,
    steps: tuple[int, ...] = (32, 64, 128),
    interval: tuple[float, float] = (0.8, 0.2),
    data: tuple = MIXTURE,
) -> list[float]:
    """A sampler's largest error for each number of steps, against SciPy's eighth-order solver.

    It walks the probability flow of a mixture of Gaussians in the plane, whose denoiser is known,
    between two times inside (0, 1), in equal steps.

    Args:
      data: weights [k], means [k, 2] and standard deviations [k] of the mixture.
    """
    t, s = interval
    denoise = exact.mixture(schedule, *data)
    alpha, sigma = schedule(t)
    start = jnp.asarray(STARTS) * jnp.hypot(alpha, sigma)
    expected = flow(denoise, schedule, start, t, s)
    keys = jax.random.split(jax.random.key(0), len(start))
    walk = jax.jit(lambda times: sample(keys, denoise, make(schedule), start, times))
    return [float(np.abs(walk(grid.uniform(n, t, s)) - expected).max()) for n in steps]


def flow(denoise: Denoiser, schedule: Schedule, x: jax.Array, t: float, s: float) -> np.ndarray:
    """The probability flow from x at t to time s, by SciPy's DOP853 to 12 digits."""

    @jax.jit
    def velocity(time, flat):
        x_t = flat.reshape(x.shape)
        c, x0 = coefficients(schedule, time, x_t), denoise(x_t, time)
        return (c.dalpha * x0 + c.dsigma * (x_t - c.alpha * x0) / c.sigma).ravel()

    start = np.asarray(x, np.float64).ravel()
    solved = solve_ivp(velocity, (t, s), start, method='DOP853', rtol=1e-12, atol=1e-13)
    return solved.y[:, -1].reshape(x.shape)
