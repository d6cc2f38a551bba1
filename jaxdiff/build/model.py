"""From a config to data, codec and model."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff import codecs, data, nets
from jaxdiff.build import names
from jaxdiff.diffusion import denoiser, learned, prediction, schedule


class Model(NamedTuple):
    """A network and all that says what its output means; knows no parameters."""

    net: nn.Module
    schedule: schedule.Schedule | None  # None: learned, see `schedule_of`
    prediction: prediction.Prediction
    embedding: denoiser.Embedding
    sigma_data: float
    learned_variance: bool
    codec: codecs.Codec
    levels: int | None  # that the data take in diffusion space; None for a density
    shape: tuple[int, ...]  # of one example in diffusion space
    num_classes: int  # 0: unconditional
    dtype: str  # of the parameters: 'float32', or 'float64'


def dataset(config: ConfigDict) -> data.Dataset:
    """The data set of the config, checked."""
    c = config.data
    return data.load(c.name, c.path, c.dir, c.split, c.image_size)


def codec(config: ConfigDict, levels: int) -> codecs.Codec:
    """The way to diffusion space for data with so many levels."""
    return codecs.pixels(levels, config.codec.dequantize)


def model(config: ConfigDict, shape: tuple[int, ...], levels: int, num_classes: int) -> Model:
    """The model for data of `shape` (h, w, c), with so many levels and classes.

    Raises: ValueError where the data has no labels to condition on, or a size doesn't fit the net.
    """
    if config.net.condition and not num_classes:
        raise ValueError("net.condition='class', but the data has no labels; set net.condition=''")
    c = config.net
    num_classes = num_classes if c.condition else 0
    nets.check_size(shape, c.multipliers, 2)
    sizes = [shape[0] // 2**level for level in range(len(c.multipliers))]
    if not set(c.attention) <= set(sizes):
        raise ValueError(
            f'net.attention={c.attention} must be among the sizes that the network meets: {sizes}'
        )
    net = nets.UNet(
        out_channels=shape[-1] * (2 if config.diffusion.learned_variance else 1),
        channels=c.channels,
        multipliers=c.multipliers,
        blocks=c.blocks,
        attention=c.attention,
        heads=c.heads,
        dropout=c.dropout,
        num_classes=num_classes,
        dtype=c.dtype,
        remat=c.remat,
    )
    made = Model(
        net,
        noise_schedule(config),
        names.PREDICTIONS[config.diffusion.prediction](config.diffusion),
        names.EMBEDDINGS[config.diffusion.embedding],
        config.diffusion.sigma_data,
        config.diffusion.learned_variance,
        codec(config, levels),
        None if config.codec.dequantize else levels,
        tuple(shape),
        num_classes,
        'float64' if c.dtype == 'float64' else 'float32',
    )
    jax.eval_shape(functools.partial(init, made), jax.random.key(0))  # a net that can't be: now
    return made


def noise_schedule(config: ConfigDict) -> schedule.Schedule | None:
    """The schedule of the config; None where it is learned."""
    c = config.diffusion
    if c.schedule == names.LEARNED:
        return None
    made = names.SCHEDULES[c.schedule](c)
    if c.shift != 1 and c.schedule in names.VARIANCE_PRESERVING:
        made = schedule.shifted(made, c.shift)
    return schedule.zero_terminal_snr(made) if c.zero_terminal_snr else made


def schedule_of(model: Model, params: Any) -> schedule.Schedule:
    """The schedule, learned or not, of a model with such parameters."""
    return model.schedule or learned.schedule(params['schedule'])


def net_params(model: Model, params: Any) -> Any:
    """The network's share of the parameters."""
    return params if model.schedule else params['net']


def init(model: Model, key: Array) -> Any:
    """Initial parameters of the network and, where it is learned, {'net': …, 'schedule': …}."""
    cond = {'label': jnp.zeros(1, jnp.int32)} if model.num_classes else {}
    key_net, key_schedule = (key, None) if model.schedule else jax.random.split(key)
    params = model.net.init(key_net, jnp.zeros((1, *model.shape)), jnp.zeros(1), cond)
    if not model.schedule:
        params = {'net': params, 'schedule': learned.init(key_schedule)}
    return jax.tree.map(lambda x: x.astype(model.dtype), params)
