"""From a config to a classifier of noisy data, for `config.model = 'classifier'`.

It is a `Model` whose network gives log-odds of the classes of x_t instead of a prediction, and is
trained by the same step on −log p(label | x_t), at the times of diffusion's training.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff.build import names
from jaxdiff.build.model import Model, net_params
from jaxdiff.diffusion import denoiser
from jaxdiff.diffusion.gaussian import marginal
from jaxdiff.diffusion.samplers.base import normal
from jaxdiff.diffusion.schedule import logsnr


def log_probabilities(
    model: Model, params: Any, dropout_keys: Array | None = None
) -> Callable[[Array, Array], Array]:
    """(x_t [b, ...], t, a scalar or [b]) -> log p(class | x_t), [b, classes]."""
    ask = denoiser.ask(
        lambda x, level: model.net.apply(net_params(model, params), x, level, {}, dropout_keys),
        model.schedule,
        model.embedding,
        model.sigma_data,
    )
    return lambda x_t, t: jax.nn.log_softmax(ask(x_t, t))


def loss(config: ConfigDict, model: Model) -> Callable[[Any, dict, Array], tuple[Array, Array]]:
    """(params, batch, key of the step) -> each example's loss in nats, and logsnr, [b]."""

    def losses(params, batch, key):
        key_times, key_examples = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_examples, batch['index'])
        encode, time, noise, drop = jax.vmap(lambda k: jax.random.split(k, 4), out_axes=1)(keys)
        x0 = model.codec.encode(encode, batch['image'])
        t = names.draw_times(config, model.schedule, key_times, time, batch['index'])
        x_t = marginal(model.schedule, x0, normal(noise, x0), t)
        dropout = drop if config.net.dropout else None
        logp = log_probabilities(model, params, dropout)(x_t, t)
        right = jnp.take_along_axis(logp, batch['label'][:, None], 1)[:, 0]
        return -right, logsnr(model.schedule, t)

    return losses
