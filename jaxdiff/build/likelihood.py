"""From a config to bits per dimension, by the variational bound or by the probability flow."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxdiff.build.model import Model, net_params, schedule_of
from jaxdiff.diffusion import bound, denoiser, likelihood, schedule as schedules, times

# The noise that both begin with, as a share of a level's width: VDM's for 256 levels, logsnr 13.3.
_FIRST = 1 / 6
KINDS = ('bound', 'flow')


def bits_per_dim(
    model: Model, levels: int, kind: str, steps: int = 50
) -> Callable[[Any, Array, Array, dict], Array]:
    """(params, keys [b], images uint8 [b, h, w, c], condition) -> −log₂ P(image) / D, [b].

    `bound` is that of infinitely many steps from one random time for each image: unbiased, and
    never below the truth in the mean. `flow` is the density under the probability flow, with
    Hutchinson's trace by one probe, the images spread evenly over the width of a level. Both begin
    where the noise is a sixth of that width: below it there is nothing to learn, and little error
    of the network would count for much.

    Args:
      levels: that the images take.
      steps: of the flow's Runge–Kutta method.

    Raises: ValueError where the model is one of latents, or `kind` is not one of the two.
    """
    if kind not in KINDS:
        raise ValueError(f'bits per dimension are found by {" or ".join(KINDS)}, got {kind!r}')
    if model.codec.shape:
        raise ValueError('a model in latents has no bits per dimension of images')

    width = 2 / levels if model.levels is None else likelihood.level_width(levels)
    t_min = 1e-5
    if model.schedule:
        first = schedules.time_of_logsnr(model.schedule, -2 * np.log(_FIRST * width))
        t_min = max(t_min, float(first))

    def measure(params, keys, images, cond):
        schedule = schedule_of(model, params)
        denoise = denoiser.mean_only(
            denoiser.from_network(
                lambda x, level: model.net.apply(net_params(model, params), x, level, cond),
                model.prediction,
                schedule,
                model.embedding,
                model.sigma_data,
                model.learned_variance,
            )
        )
        spread, time, inner = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        x0 = model.codec.encode(spread, images)

        def log_prob(keys, x):
            trace = likelihood.hutchinson(keys)
            asked = denoise, schedule, x, trace, steps, t_min
            return likelihood.log_density(*asked).log_prob

        if kind == 'bound':
            u = times.independent(time)
            nats = bound.continuous(inner, denoise, schedule, x0, u, model.levels, t_min).total
        elif model.levels is None:  # the codec has spread them
            nats = -log_prob(inner, x0)
        else:
            nats = -likelihood.dequantized(inner, log_prob, x0, width)
        bits = nats / (math.prod(x0.shape[1:]) * np.log(2))
        of_levels = kind == 'bound' and model.levels is not None  # a probability's already
        return bits if of_levels else bits - np.log2(width)

    return measure
