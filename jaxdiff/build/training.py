"""From a config to a loss, an optimiser and how the step is spread over devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from jaxdiff.build import autoencoder, classifier, conditions, names
from jaxdiff.build.model import Model, net_params, schedule_of
from jaxdiff.diffusion import denoiser, learned, loss, variational
from jaxdiff.diffusion.schedule import Schedule, logsnr
from jaxdiff.training import parallel, posthoc


def training_loss(
    config: ConfigDict, model: Model
) -> Callable[[Any, dict, Array], tuple[Array, Array]]:
    """(params, batch, key of the step) -> each example's loss and logsnr, [b]; see `training.step`.

    A bound is in bits per dimension.
    """
    kinds = {'autoencoder': autoencoder.loss, 'classifier': classifier.loss}
    return kinds.get(config.model, _diffusion_loss)(config, model)


def _diffusion_loss(config, model):
    c = config.loss
    weighting = names.WEIGHTINGS[c.weighting](c, config.diffusion)

    def losses(params, batch, key):
        key_times, key_examples = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_examples, batch['index'])
        encode, time, noise, drop, hide = jax.vmap(lambda k: jax.random.split(k, 5), out_axes=1)(
            keys
        )
        hidden = jax.vmap(jax.random.bernoulli, (0, None))(hide, c.condition_dropout)
        cond = conditions.of_batch(model, batch, keys)
        cond = conditions.told(model, params, conditions.hide(model, cond, hidden))
        dropout = drop if config.net.dropout else None
        x0 = model.codec.encode(encode, batch['image'])

        def draw_times(schedule: Schedule) -> Array:
            return names.draw_times(config, schedule, key_times, time, batch['index'])

        def under(schedule: Schedule) -> Array:
            predict = denoiser.ask(
                lambda x, level: model.net.apply(
                    net_params(model, params), x, level, cond, dropout
                ),
                schedule,
                model.embedding,
                model.sigma_data,
            )
            t = draw_times(schedule)
            asked = (noise, predict, x0, t, schedule, model.prediction)
            if c.name == 'hybrid':
                return variational.hybrid(
                    *asked, c.discrete_steps, c.hybrid_weight, weighting, model.levels
                )
            if c.name == 'variational':
                nats = variational.continuous(*asked, model.levels, c.t_min).total
                return nats / (np.log(2) * x0[0].size)
            return loss.denoising(*asked, weighting)

        schedule = schedule_of(model, params)
        level = logsnr(schedule, draw_times(schedule))
        if model.schedule:
            return under(schedule), level
        found = learned.lower_variance(lambda p: under(learned.schedule(p)), params['schedule'])
        return found, level

    return losses


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Clipping, then Adam with warm-up and the chosen decay."""
    c = config.optimizer
    if c.decay == 'cosine':
        rest = max(config.train.steps - c.warmup, 1)
        after = optax.cosine_decay_schedule(c.learning_rate, rest)
    else:
        after = optax.constant_schedule(c.learning_rate)
    warmup = optax.linear_schedule(0.0, c.learning_rate, c.warmup) if c.warmup else None
    rate = optax.join_schedules([warmup, after], [c.warmup]) if c.warmup else after
    clip = optax.clip_by_global_norm(c.clip) if c.clip else optax.identity()
    return optax.chain(clip, names.OPTIMIZERS[c.name](rate, c))


def gammas(config: ConfigDict) -> tuple[float, ...]:
    """The exponents of the power-function averages."""
    return tuple(posthoc.gamma(width) for width in config.ema.profiles)


def driver(
    config: ConfigDict, step: Callable, devices: Sequence[jax.Device], frozen: Any = None
) -> parallel.Driver:
    """The step, see `training.step`, spread over devices, with what is frozen on each."""
    if config.train.parallel == 'mesh':
        return parallel.mesh(step, devices, config.train.fsdp or len(devices), frozen)
    return parallel.pmap(step, devices, frozen)
