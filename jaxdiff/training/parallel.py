"""How a pure step is spread over devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Driver(NamedTuple):
    """A step on devices, and the ways in and out.

    `put_state` and `put_batch` bring a state and a host batch to the devices, `step` runs them and
    may reuse the state's buffers, `get` brings the step's results back as plain arrays.
    """

    put_state: Callable[[Any], Any]
    put_batch: Callable[[dict], Any]
    step: Callable[[Any, Any], tuple[Any, Any]]
    get: Callable[[Any], Any]


def pmap(train_step: Callable[..., tuple[Any, Any]], devices: list[jax.Device]) -> Driver:
    """Data parallel over this process's `devices`: the state on each, the batch split among them.

    `train_step(state, batch, axis_name=...)` averages over the mapped axis itself.
    """
    n = len(devices)
    rows = NamedSharding(Mesh(np.array(devices), ('data',)), PartitionSpec('data'))

    def put_state(state):
        return jax.tree.map(
            lambda x: jax.device_put(np.broadcast_to(np.asarray(x), (n, *np.shape(x))), rows), state
        )

    def put_batch(batch):
        return {k: jax.device_put(x.reshape(n, -1, *x.shape[1:]), rows) for k, x in batch.items()}

    step = jax.pmap(
        lambda state, batch: train_step(state, batch, axis_name='data'),
        axis_name='data',
        devices=devices,
        donate_argnums=0,
    )
    return Driver(put_state, put_batch, step, lambda tree: jax.tree.map(_first, tree))


def _first(x):
    return x.addressable_shards[0].data.reshape(x.shape[1:])  # new buffers, not the step's own
