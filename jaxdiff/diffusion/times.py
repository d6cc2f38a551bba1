"""The times that training draws: first a number in [0, 1) per example, then a quantile function."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr, ndtri

from jaxdiff.diffusion.schedule import Schedule, logsnr, time_of_logsnr


def independent(keys: Array) -> Array:
    """One uniform number per example, each from its own key [b]."""
    return jax.vmap(jax.random.uniform)(keys)


def low_discrepancy(key: Array, index: Array, batch_size: int) -> Array:
    """Uniform numbers that share one draw and cover [0, 1) evenly: frac(u + index / batch_size).

    Each is uniform; the mean of a loss over the batch varies less than with independent ones.

    Args:
      key: one for the step, the same on every device.
      index: [b], the examples' indices in the global batch of `batch_size`.

    References: Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
    """
    return (jax.random.uniform(key) + index / batch_size) % 1.0


def uniform(u: Array, t_min: float, t_max: float = 1.0) -> Array:
    """Times uniform on [t_min, t_max)."""
    return t_min + (t_max - t_min) * u


def discrete(u: Array, steps: int) -> Array:
    """Times uniform on the chain's grid 1/steps, 2/steps, …, 1, as DDPM trains."""
    return (jnp.floor(u * steps) + 1) / steps


def logit_normal(u: Array, mean: float = 0.0, std: float = 1.0) -> Array:
    """Times whose logit, log(t / (1 − t)), is normal: mostly in the middle, as SD3 trains.

    References: Esser et al. 2024, arXiv:2403.03206, eq. 19.
    """
    return jax.nn.sigmoid(mean + std * ndtri(_inside(u)))


def logit_normal_density(t: Array, mean: float = 0.0, std: float = 1.0) -> Array:
    """The density of `logit_normal` at t in (0, 1)."""
    z = (jnp.log(t) - jnp.log1p(-t) - mean) / std
    return _normal_density(z) / (std * t * (1 - t))


def log_normal(
    u: Array,
    schedule: Schedule,
    mean: float = -1.2,
    std: float = 1.2,
    t_min: float = 0.0,
    t_max: float = 1.0,
) -> Array:
    """Times at which the noise log(sigma / alpha) is normal, as EDM trains.

    The normal distribution is cut to the noise that the schedule has from `t_min` to `t_max`.

    References: Karras et al. 2022, arXiv:2206.00364, table 1 and section 5.
    """
    low, high = _reach(u, schedule, mean, std, t_min, t_max)
    z = ndtri(_inside(low + u * (high - low)))
    return jnp.clip(time_of_logsnr(schedule, -2 * (mean + std * z)), t_min, t_max)


def log_normal_density(
    t: Array,
    schedule: Schedule,
    mean: float = -1.2,
    std: float = 1.2,
    t_min: float = 0.0,
    t_max: float = 1.0,
) -> Array:
    """The density of `log_normal` at t: a loss's mean over uniform times is that of loss / density."""
    value, slope = jax.jvp(lambda t: logsnr(schedule, t), (t,), (jnp.ones_like(t),))
    low, high = _reach(t, schedule, mean, std, t_min, t_max)
    return _normal_density((-value / 2 - mean) / std) * -slope / (2 * std * (high - low))


def ladder(u: Array, levels: Array) -> Array:
    """One of the times `levels` [n], each as often as another, for instance a `noise_ladder`."""
    return levels[jnp.minimum(jnp.floor(u * len(levels)).astype(int), len(levels) - 1)]


def noise_ladder(
    schedule: Schedule, levels: int = 10, sigma_max: float = 1.0, sigma_min: float = 0.01
) -> Array:
    """The times [levels] of a geometric ladder of noise sigma / alpha, from the highest down.

    Raises: ValueError for fewer than two levels, or noise that the schedule doesn't reach.

    References: Song and Ermon 2019, arXiv:1907.05600, sections 3 and 5.
    """
    if levels < 2 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            'a ladder needs 2 levels or more and 0 < sigma_min < sigma_max, '
            f'got {levels=}, {sigma_min=}, {sigma_max=}'
        )
    with jax.ensure_compile_time_eval():
        reach = jnp.exp(-logsnr(schedule, jnp.asarray([0.0, 1.0])) / 2)
        if not (reach[0] <= sigma_min and sigma_max <= reach[1] * (1 + 1e-5)):
            raise ValueError(
                f'the schedule has noise sigma / alpha from {reach[0]:g} to {reach[1]:g}, '
                f'got {sigma_min=}, {sigma_max=}'
            )
    return time_of_logsnr(
        schedule, -2 * jnp.linspace(math.log(sigma_max), math.log(sigma_min), levels)
    )


def _reach(like, schedule, mean, std, t_min, t_max):
    """The normal distribution function at the ends of the schedule's noise."""
    ends = jnp.asarray([t_min, t_max], jnp.result_type(like))
    return ndtr((-logsnr(schedule, ends) / 2 - mean) / std)


def _inside(u):
    """u kept off 0 and 1, whose normal quantiles are infinite."""
    return jnp.clip(u, jnp.finfo(u.dtype).eps / 2, 1 - jnp.finfo(u.dtype).eps / 2)


def _normal_density(z):
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
