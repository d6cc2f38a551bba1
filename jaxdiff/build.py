"""From a config to objects: the only file that knows both, and the only tables of names.

`check` refuses a config that can't work before anything else happens; the other functions take a
checked config.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from jaxdiff import codecs, config as configs, data, nets
from jaxdiff.diffusion import denoiser, grid, guidance, loss, prediction, samplers, schedule, times
from jaxdiff.diffusion.gaussian import gaussian
from jaxdiff.diffusion.sample import run

SCHEDULES = {
    'cosine': schedule.cosine,
    'cosine_ddpm': functools.partial(schedule.cosine, offset=0.008),
    'ddpm_linear': schedule.ddpm_linear,
}
PREDICTIONS = {p.name: p for p in (prediction.x0, prediction.eps, prediction.v)}
EMBEDDINGS = {'time': denoiser.time_embedding, 'logsnr': denoiser.logsnr_embedding}
WEIGHTINGS = {
    'simple': lambda c: None,
    'min_snr': lambda c: loss.min_snr(c.min_snr_gamma),
    'p2': lambda c: loss.p2(c.p2_gamma, c.p2_k),
}
SAMPLERS = {
    'ddim': lambda s, c: samplers.ddim(s, c.eta),
    'ddpm': lambda s, c: samplers.ddpm(s, c.variance),
}
GRIDS = {'uniform': grid.uniform, 'quadratic': grid.quadratic}
OPTIMIZERS = {
    'adam': lambda rate, c: optax.adam(rate, c.b1, c.b2, c.eps),
    'adamw': lambda rate, c: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay),
}
CHOICES = {
    'codec.name': ('pixels',),
    'diffusion.schedule': tuple(SCHEDULES),
    'diffusion.prediction': tuple(PREDICTIONS),
    'diffusion.embedding': tuple(EMBEDDINGS),
    'loss.weighting': tuple(WEIGHTINGS),
    'loss.times': ('low_discrepancy', 'independent'),
    'net.name': ('unet',),
    'net.condition': ('', 'class'),
    'net.dtype': ('float32', 'bfloat16'),
    'optimizer.name': tuple(OPTIMIZERS),
    'optimizer.decay': ('constant', 'cosine'),
    'train.parallel': ('pmap',),
    'sample.sampler': tuple(SAMPLERS),
    'sample.variance': ('small', 'large'),
    'sample.grid': tuple(GRIDS),
}
# The least and the largest allowed; None is no bound.
RANGES = {
    'seed': (0, 2**31 - 1),
    'data.image_size': (0, None),
    'diffusion.sigma_data': (1e-6, None),
    'loss.min_snr_gamma': (1e-6, None),
    'loss.p2_gamma': (0, None),
    'loss.p2_k': (1e-6, None),
    'loss.t_min': (1e-6, 0.5),
    'loss.discrete_steps': (0, None),
    'loss.condition_dropout': (0, 1),
    'net.channels': (1, None),
    'net.blocks': (1, None),
    'net.heads': (1, None),
    'net.dropout': (0, 0.99),
    'optimizer.learning_rate': (0, None),
    'optimizer.warmup': (0, None),
    'optimizer.weight_decay': (0, None),
    'optimizer.clip': (0, None),
    'optimizer.b1': (0, 0.999999),
    'optimizer.b2': (0, 0.999999),
    'optimizer.eps': (0, None),
    'ema.decay': (0, 0.9999999),
    'train.steps': (1, None),
    'train.batch_size': (1, None),
    'train.accumulate': (1, None),
    'train.log_every': (1, None),
    'train.checkpoint_every': (1, None),
    'train.sample_every': (0, None),
    'train.keep': (1, None),
    'sample.steps': (1, None),
    'sample.eta': (0, 1),
    'sample.guidance': (0, None),
    'sample.num': (1, None),
    'sample.batch_size': (1, None),
}


class Model(NamedTuple):
    """A network and all that says what its output means; knows no parameters."""

    net: nn.Module
    schedule: schedule.Schedule
    prediction: prediction.Prediction
    embedding: denoiser.Embedding
    sigma_data: float
    codec: codecs.Codec
    shape: tuple[int, ...]  # of one example in diffusion space
    num_classes: int  # 0: unconditional


def check(config: ConfigDict) -> None:
    """Raises a ValueError that names the key where a value or a combination can't work."""
    values = configs.flat(config)
    for key, allowed in CHOICES.items():
        if values[key] not in allowed:
            raise ValueError(
                f'{key} must be one of {", ".join(map(repr, allowed))}, got {values[key]!r}'
            )
    for key, (low, high) in RANGES.items():
        if not low <= values[key] <= (sys.float_info.max if high is None else high):
            bound = f'at least {low}' if high is None else f'between {low} and {high}'
            raise ValueError(f'{key} must be {bound}, got {values[key]!r}')
    if not config.net.multipliers or min(config.net.multipliers) < 1:
        raise ValueError(f'net.multipliers must be positive, got {config.net.multipliers}')
    if bool(config.data.name) == bool(config.data.path):
        raise ValueError(
            'exactly one of data.name and data.path must be given; set the other to ""'
        )
    if config.train.batch_size % config.train.accumulate:
        raise ValueError(
            f'train.batch_size={config.train.batch_size} must be a multiple of '
            f'train.accumulate={config.train.accumulate}'
        )
    if config.optimizer.weight_decay and config.optimizer.name != 'adamw':
        raise ValueError("optimizer.weight_decay needs optimizer.name='adamw'")
    if config.sample.guidance != 1 and not guided(config):
        raise ValueError(
            f'sample.guidance={config.sample.guidance} needs a model trained with '
            "net.condition='class' and loss.condition_dropout between 0 and 1"
        )
    if config.sample.eta and config.sample.sampler != 'ddim':
        raise ValueError(f"sample.eta is DDIM's; sample.sampler is {config.sample.sampler!r}")


def guided(config: ConfigDict) -> bool:
    """Whether the model knows its condition and its absence, as guidance needs."""
    return bool(config.net.condition) and 0 < config.loss.condition_dropout < 1


def decides(key: str, config: ConfigDict) -> bool:
    """Whether a config key decides the parameters that training ends with, beyond rounding."""
    if key == 'train.steps':
        return config.optimizer.decay != 'constant'
    if key.startswith('train.'):
        return key == 'train.batch_size'
    return not key.startswith('sample.') and key not in ('data.dir', 'net.remat')


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
        out_channels=shape[-1],
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
        SCHEDULES[config.diffusion.schedule](),
        PREDICTIONS[config.diffusion.prediction],
        EMBEDDINGS[config.diffusion.embedding],
        config.diffusion.sigma_data,
        codec(config, levels),
        tuple(shape),
        num_classes,
    )
    jax.eval_shape(functools.partial(init, made), jax.random.key(0))  # a net that can't be: now
    return made


def init(model: Model, key: Array) -> Any:
    """The network's initial parameters."""
    cond = {'label': jnp.zeros(1, jnp.int32)} if model.num_classes else {}
    return model.net.init(key, jnp.zeros((1, *model.shape)), jnp.zeros(1), cond)


def training_loss(config: ConfigDict, model: Model) -> Callable[[Any, dict, Array], Array]:
    """The loss of each example: (params, batch, key of the step) -> [b]; see `training.step`."""
    c = config.loss
    weighting = WEIGHTINGS[c.weighting](c)

    def draw_times(key, keys, index):
        if c.times == 'low_discrepancy':
            u = times.low_discrepancy(key, index, config.train.batch_size)
        else:
            u = times.independent(keys)
        return (
            times.discrete(u, c.discrete_steps) if c.discrete_steps else times.uniform(u, c.t_min)
        )

    def losses(params, batch, key):
        key_times, key_examples = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_examples, batch['index'])
        encode, time, noise, drop, hide = jax.vmap(lambda k: jax.random.split(k, 5), out_axes=1)(
            keys
        )
        cond = {}
        if model.num_classes:
            hidden = jax.vmap(jax.random.bernoulli, (0, None))(hide, c.condition_dropout)
            cond['label'] = jnp.where(hidden, model.num_classes, batch['label'])
        dropout = drop if config.net.dropout else None
        predict = denoiser.ask(
            lambda x, level: model.net.apply(params, x, level, cond, dropout),
            model.schedule,
            model.embedding,
            model.sigma_data,
        )
        x0 = model.codec.encode(encode, batch['image'])
        t = draw_times(key_times, time, batch['index'])
        return loss.denoising(noise, predict, x0, t, model.schedule, model.prediction, weighting)

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
    return optax.chain(clip, OPTIMIZERS[c.name](rate, c))


def sampling(
    config: ConfigDict, model: Model, film: bool = False
) -> Callable[[Any, dict, Array], Array]:
    """The whole of a sampling run as one pure function, to be compiled once per batch shape.

    Returns: (params, cond, keys [b]) -> images, uint8 [b, h, w, c]; with `film` those of every time
    visited, x_1 … x_0, [steps + 1, b, h, w, c]. `cond` is {'label': [b]} for a model with classes.
    """
    c = config.sample
    times_visited = visited(config, model)
    sampler = SAMPLERS[c.sampler](model.schedule, c)
    prior = gaussian(model.schedule).prior

    def denoise_with(params, cond):
        return denoiser.from_network(
            lambda x, level: model.net.apply(params, x, level, cond),
            model.prediction,
            model.schedule,
            model.embedding,
            model.sigma_data,
        )

    def draw(params, cond, keys):
        denoise = denoise_with(params, cond)
        if c.guidance != 1:
            null = {'label': jnp.full_like(cond['label'], model.num_classes)}
            denoise = guidance.classifier_free(denoise, denoise_with(params, null), c.guidance)
        if c.clip:
            denoise = denoiser.clip(denoise)
        start, walk = jax.vmap(jax.random.split, out_axes=1)(keys)
        x_1 = jax.vmap(lambda key: prior(key, model.shape))(start)
        record = (lambda state: model.codec.decode(state.x)) if film else None
        state, frames = run(walk, denoise, sampler, x_1, times_visited, record)
        if film:
            return jnp.concatenate([model.codec.decode(x_1)[None], frames])
        return model.codec.decode(state.x)

    return draw


def visited(config: ConfigDict, model: Model) -> Array:
    """The times that a sampling run visits, [steps + 1].

    A prediction that says nothing about x0 at alpha = 0 starts where alpha is large enough.
    """
    end = prediction.determinant(
        model.prediction, schedule.coefficients(model.schedule, 1.0, jnp.zeros(()))
    )
    t_max = 1.0 if abs(end) > 1e-3 else schedule.t_max(model.schedule)
    return GRIDS[config.sample.grid](config.sample.steps, t_max)
