"""From a config to data, codec and model."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxdiff import codecs, data, text
from jaxdiff.build import autoencoder, names, tasks
from jaxdiff.build.autoencoder import Autoencoder
from jaxdiff.build.text import text_encoder
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
    data_shape: tuple[int, ...]  # of one example as the data has it
    num_classes: int  # 0: without labels
    text: text.Encoder | None  # that reads prompts; its weights are None where it is trained too
    dtype: str  # of the parameters: 'float32', or 'float64'
    task: tasks.Task | None = None  # of a model that is shown a picture


def dataset(config: ConfigDict) -> data.Dataset:
    """The data set of the config, checked."""
    c = config.data
    return data.load(c.name, c.path, c.dir, c.split, c.image_size)


def codec(config: ConfigDict, levels: int) -> codecs.Codec:
    """The way to diffusion space for data with so many levels, in pixels.

    Raises: ValueError for latents, whose codec is an autoencoder's; see `commands.latents`.
    """
    if config.codec.name != 'pixels':
        raise ValueError(f'codec.name={config.codec.name!r} is known from its run only')
    return codecs.pixels(levels, config.codec.dequantize)


def model(
    config: ConfigDict,
    shape: tuple[int, ...],
    levels: int,
    num_classes: int,
    latents: codecs.Codec | None = None,
    features: autoencoder.Features | None = None,
) -> Model | Autoencoder:
    """The model for data of `shape` (h, w, c), with so many levels and classes.

    Args:
      latents: the codec where it is an autoencoder's.
      features: that an autoencoder is trained with, where it has a perceptual loss.

    Raises: ValueError where the data has no labels to condition on, or a size doesn't fit the net.
    """
    if config.model == 'autoencoder':
        return autoencoder.model(config, shape, levels, features)
    way = latents or codec(config, levels)
    data_shape, shape = tuple(shape), way.shape or shape
    c = config.net
    if config.model == 'classifier':
        return _classifier(config, way, data_shape, tuple(shape), num_classes)
    if 'class' in c.condition and not num_classes:
        without = c.condition.removeprefix('class').removeprefix('+')
        raise ValueError(
            f'net.condition={c.condition!r}, but the data has no labels; '
            f'set net.condition={without!r}'
        )
    num_classes = num_classes if 'class' in c.condition else 0
    encoder = text_encoder(config)
    task = None
    if config.task:
        task = tasks.task(config, config.task, data_shape, levels, shape)
    net = names.NETS[c.name](
        c,
        shape,
        out_channels=shape[-1] * (2 if config.diffusion.learned_variance else 1),
        heads=c.heads,
        dropout=c.dropout,
        num_classes=num_classes,
        text_width=encoder.width if encoder else 0,
        image_channels=tasks.channels(task, data_shape) if task else 0,
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
        way,
        None if config.codec.dequantize or latents else levels,
        tuple(shape),
        data_shape,
        num_classes,
        encoder,
        'float64' if c.dtype == 'float64' else 'float32',
        task,
    )
    jax.eval_shape(functools.partial(init, made), jax.random.key(0))  # a net that can't be: now
    return made


def _classifier(config, way, data_shape, shape, num_classes):
    """The model of a classifier, which is told no condition."""
    if num_classes < 2:
        raise ValueError(
            f"model='classifier' needs data with two classes or more, got {num_classes}"
        )
    made = Model(
        names.classifier(config, num_classes),
        noise_schedule(config),
        prediction.x0,  # of no account
        names.EMBEDDINGS[config.diffusion.embedding],
        config.diffusion.sigma_data,
        False,
        way,
        None,
        shape,
        data_shape,
        0,
        None,
        'float64' if config.net.dtype == 'float64' else 'float32',
    )
    jax.eval_shape(functools.partial(init, made), jax.random.key(0))
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


def _parts(model):
    """What has parameters, by its name."""
    encoder = model.text
    made = {'net': lambda key: model.net.init(key, *_example(model))}
    if not model.schedule:
        made['schedule'] = learned.init
    if encoder and encoder.params is None:
        tokens = jnp.zeros((1, encoder.length), jnp.int32)
        made['text'] = lambda key: encoder.module.init(key, tokens, tokens == 0)
    return made


def _example(model):
    cond = {}
    if model.num_classes:
        cond['label'] = jnp.zeros(1, jnp.int32)
    if model.text:
        cond['text'] = jnp.zeros((1, model.text.length, model.text.width))
        cond['mask'] = jnp.ones((1, model.text.length), bool)
    if model.task:
        cond['image'] = jnp.zeros((1, *model.shape[:-1], model.net.image_channels))
    return jnp.zeros((1, *model.shape)), jnp.zeros(1), cond


def net_params(model: Model, params: Any) -> Any:
    """The network's share of the parameters."""
    return params.get('net', params)  # alone it has no name


def with_codec(model: Model, params: Any) -> Any:
    """All that a sampling run computes with: the parameters, and the codec's weights beside them.

    The weights are placed as the parameters are, whole.
    """
    if not jax.tree.leaves(model.codec.weights):
        return params
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    whole = NamedSharding(mesh, PartitionSpec())

    def put(x):
        return jax.make_array_from_callback(x.shape, whole, lambda index: x[index])

    parts = params if 'net' in params else {'net': params}
    return parts | {'codec': jax.tree.map(put, model.codec.weights)}


def init(model: Model | Autoencoder, key: Array) -> Any:
    """Initial parameters of the network; {'net': …} with 'schedule' and 'text' where they learn too."""
    if isinstance(model, Autoencoder):
        return autoencoder.init(model, key)
    parts = _parts(model)
    if len(parts) == 1:
        params = parts['net'](key)
    else:
        keys = jax.random.split(key, len(parts))
        params = {name: make(key) for (name, make), key in zip(parts.items(), keys)}
    return jax.tree.map(lambda x: x.astype(model.dtype), params)
