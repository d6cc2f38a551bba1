"""From a config to the step that training takes, what it takes it from, and how much work it is."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff.build import conditions
from jaxdiff.build.model import Model, init
from jaxdiff.build.training import gammas, optimizer, training_loss
from jaxdiff.nets import linear
from jaxdiff.training import state, step


def train_step(
    config: ConfigDict, model: Model, key: Array, devices: Sequence[jax.Device]
) -> Callable:
    """The pure step, see `training.step`, to be spread over devices by `driver`.

    Args:
      key: the run's training key.
      devices: that it is for.
    """
    loss, on_cpu = training_loss(config, model), devices[0].platform == 'cpu'
    # A mesh's batch is sharded where the rule would part it.
    if on_cpu and config.train.parallel == 'pmap':
        loss = linear.in_reverse_mode(loss)
    return functools.partial(
        step.train_step,
        loss=loss,
        optimizer=optimizer(config),
        key=key,
        ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup,
        gammas=gammas(config),
        accumulate=config.train.accumulate,
        unroll=on_cpu,
    )


def train_state(config: ConfigDict, model: Model, key: Array) -> state.TrainState:
    """The state before the first step."""
    return state.init(init(model, key), optimizer(config), len(config.ema.profiles))


def batch_shapes(
    config: ConfigDict, model: Model, labelled: bool
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global batch, see `data.batches`."""
    rows = config.train.batch_size
    index = jax.ShapeDtypeStruct((rows,), jnp.int32)
    images = jax.ShapeDtypeStruct((rows, *model.data_shape), jnp.uint8)
    prepared = jax.eval_shape(model.codec.prepare, model.codec.weights, images)
    shapes = {'image': prepared, 'index': index}
    shapes |= conditions.shapes(model, rows)
    return shapes | ({'label': index} if labelled else {})


def flops(config: ConfigDict, model: Model) -> float:
    """The model's operations in one step, by XLA's count of its program for a CPU.

    Only there XLA counts without compiling; loops (accumulation) would count once, and recomputed
    activations (remat) are no operations of the model.
    """
    model = model._replace(net=model.net.clone(remat=False))
    key, cpus = jax.random.key(0), jax.local_devices(backend='cpu')
    plain = {'accumulate': 1, 'loss': training_loss(config, model)}
    whole = functools.partial(train_step(config, model, key, cpus), **plain)
    shapes = jax.eval_shape(functools.partial(train_state, config, model), key)
    labelled = bool(model.num_classes) or config.model == 'classifier'
    batch = batch_shapes(config, model, labelled)
    with jax.default_device(cpus[0]):
        return jax.jit(whole).lower(shapes, batch).cost_analysis()['flops']
