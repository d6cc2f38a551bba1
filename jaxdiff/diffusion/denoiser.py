"""Denoisers: functions (x_t, t) -> belief about x0.

Samplers, guidance and inverse problems know denoisers only. Here a network becomes one: it is asked
with its input scaled and the noise level embedded, and its prediction is solved for x0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.prediction import Prediction, to_x0_eps
from jaxdiff.diffusion.schedule import Schedule, broadcast, coefficients, logsnr

Denoiser = Callable[[Array, Array], Any]  # (x_t [b, ...], t a scalar or [b]) -> belief about x0
Embedding = Callable[
    [Schedule, Array], Array
]  # (schedule, t) -> the noise level that a net is told


class Learned(NamedTuple):
    """A belief with a learned variance, for `samplers.ddpm(variance='learned')`.

    `x0` is E[x0 | x_t]; `nu` says where the reverse step's log variance lies between the posterior's
    (0) and the forward step's (1), component by component.

    References: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 15.
    """

    x0: Array
    nu: Array


def mean(belief: Any) -> Array:
    """E[x0 | x_t] of a belief with or without a learned variance."""
    return belief.x0 if isinstance(belief, Learned) else belief


def on_mean(f: Callable[[Array], Array], belief: Any) -> Any:
    """The belief with its mean changed by `f`, a learned variance left as it is."""
    return belief._replace(x0=f(belief.x0)) if isinstance(belief, Learned) else f(belief)


def mean_only(denoise: Denoiser) -> Denoiser:
    """The denoiser without its learned variance, as every sampler but DDPM's takes it."""
    return lambda x_t, t: mean(denoise(x_t, t))


def time_embedding(schedule: Schedule, t: Array) -> Array:
    """1000 t: DDPM's timestep, as most networks know it."""
    return 1000 * t


def logsnr_embedding(schedule: Schedule, t: Array) -> Array:
    """logsnr clipped to ±20 and spread over 0 (noise) … 1000 (data); the same for every schedule."""
    return 500 + 25 * jnp.clip(logsnr(schedule, t), -20, 20)


def ask(
    net: Callable[[Array, Array], Array],
    schedule: Schedule,
    embedding: Embedding = time_embedding,
    sigma_data: float = 1.0,
) -> Callable[[Array, Array], Array]:
    """How a network is asked, in training and in sampling alike: (x_t, t) -> y.

    The input is scaled to unit variance, c_in = 1 / sqrt(alpha² sigma_data² + sigma²), which is 1
    for a variance-preserving schedule and `sigma_data` = 1.

    Args:
      net: (x [b, ...], noise level, a scalar or [b]) -> y [b, ...], its condition closed over.
      sigma_data: standard deviation of the data, in the data's units.

    References: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def predict(x_t, t):
        alpha, sigma = schedule(t)
        c_in = 1 / jnp.sqrt(alpha**2 * sigma_data**2 + sigma**2)
        return net(broadcast(c_in, x_t) * x_t, embedding(schedule, t))

    return predict


def from_network(
    net: Callable[[Array, Array], Array],
    prediction: Prediction,
    schedule: Schedule,
    embedding: Embedding = time_embedding,
    sigma_data: float = 1.0,
    learned_variance: bool = False,
) -> Denoiser:
    """The denoiser of a network: `ask` it and solve its prediction for x0, equation (4).

    With `learned_variance` the network's last axis is twice as long: its second half r means
    nu = (r + 1) / 2, and the belief is `Learned`.
    """
    predict = ask(net, schedule, embedding, sigma_data)

    def denoise(x_t, t):
        y = predict(x_t, t)
        if learned_variance:
            y, r = jnp.split(y, 2, axis=-1)
        x0, _ = to_x0_eps(prediction, coefficients(schedule, t, x_t), x_t, y)
        return Learned(x0, (r + 1) / 2) if learned_variance else x0

    return denoise


def clip(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """The denoiser with its belief clipped to the range of the data, as DDPM's code does."""
    return lambda x_t, t: on_mean(lambda x0: jnp.clip(x0, low, high), denoise(x_t, t))


def dynamic_threshold(denoise: Denoiser, percentile: float = 99.5, bound: float = 1.0) -> Denoiser:
    """The belief clipped to its own range, then scaled into the data's.

    With m the larger of `bound` and the example's `percentile` of |x0|: clip(x0, −m, m) · bound / m,
    which keeps strong guidance from saturating.

    References: Saharia et al. 2022, arXiv:2205.11487, section 2.3.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f'percentile must lie between 0 (excluded) and 100, got {percentile=}')

    def threshold(x0):
        axes = tuple(range(1, x0.ndim))
        m = jnp.maximum(jnp.percentile(jnp.abs(x0), percentile, axes, keepdims=True), bound)
        return jnp.clip(x0, -m, m) * (bound / m)

    return lambda x_t, t: on_mean(threshold, denoise(x_t, t))


def precise(denoise: Denoiser) -> Denoiser:
    """The denoiser with its matrix products in full float32, which TPUs don't take by themselves."""

    def exact(x_t, t):
        with jax.default_matmul_precision('highest'):
            return denoise(x_t, t)

    return exact
