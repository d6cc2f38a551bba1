"""How a pure step is spread over the devices of one process or many."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdiff import distributed

# Arrays with fewer elements stand on every device: moving them costs more than keeping them.
SHARDED_FROM = 2**10
# The axis of a mesh that holds one device of each process.
EACH_PROCESS = ('process',)


class Driver(NamedTuple):
    """A step on devices, and the ways in and out.

    Between runs of the step a state is a tree of global arrays placed as `layout` says: so it is
    initialised, saved, and restored, whatever driver and devices wrote it.
    """

    layout: Callable[[Any], Any]  # a state's arrays or shapes -> its shapes with their shardings
    put_state: Callable[[Any], Any]  # a state so placed, which is used up -> what `step` takes
    put_batch: Callable[[dict], Any]  # this process's rows of a batch -> what `step` takes
    step: Callable[[Any, Any], tuple[Any, Any]]  # may reuse the state's buffers
    get: Callable[[Any], Any]  # what `step` gave -> global arrays of their own


def pmap(
    train_step: Callable[..., tuple[Any, Any]], devices: Sequence[jax.Device], frozen: Any = None
) -> Driver:
    """Data parallel: the state on each device, the batch split among them.

    `train_step(state, batch, axis_name=...)` averages over the mapped axis itself. What is `frozen`
    stands on each device too, and goes with each batch under that name.
    """
    mine = [d for d in devices if d.process_index == jax.process_index()]
    rows = NamedSharding(Mesh(np.array(mine), ('data',)), PartitionSpec('data'))
    copies = copy_in_each_process(devices)

    def put_state(state):
        def put(x):
            local = np.array(x.addressable_data(0))  # a copy: devices may share its memory
            copied = jax.device_put(np.broadcast_to(local, (len(mine), *local.shape)), rows)
            jax.block_until_ready(copied)
            x.delete()
            return copied

        return jax.tree.map(put, state)

    def on_each(x):
        return jax.device_put(np.broadcast_to(x, (len(mine), *np.shape(x))), rows)

    always = {} if frozen is None else {'frozen': jax.tree.map(on_each, frozen)}

    def put_batch(batch):
        def put(x):
            return jax.device_put(x.reshape(len(mine), -1, *x.shape[1:]), rows)

        return {name: put(x) for name, x in batch.items()} | always

    def get(x):
        first = x.addressable_shards[0].data.reshape(x.shape[1:])  # a buffer of its own
        return jax.make_array_from_single_device_arrays(first.shape, copies, [first])

    step = jax.pmap(
        lambda state, batch: train_step(state, batch, axis_name='data'),
        axis_name='data',
        devices=devices,
        donate_argnums=0,
    )
    return Driver(
        lambda state: placed(state, lambda _: copies),
        put_state,
        put_batch,
        step,
        lambda tree: jax.tree.map(get, tree),
    )


def mesh(
    train_step: Callable[..., tuple[Any, Any]],
    devices: Sequence[jax.Device],
    fsdp: int,
    frozen: Any = None,
) -> Driver:
    """One program over a mesh of devices / `fsdp` × `fsdp`, for states too large for one device.

    Parameters, averages and optimiser state are sharded over the second axis; the batch is split
    over both. `train_step(state, batch, whole=...)` gathers the parameters that it computes with, all
    of them at once: a device needs room for its part of the state, and during the step for one copy
    of the parameters and their gradients. What is `frozen` stands on each, as in `pmap`.

    References: Rajbhandari et al. 2020, ZeRO (stage 3 but for that copy); Zhao et al. 2023, FSDP.
    """
    grid = mesh_of(devices, fsdp)
    rows, everywhere = (
        NamedSharding(grid, spec) for spec in (PartitionSpec(grid.axis_names), PartitionSpec())
    )

    def layout(state):
        return placed(state, lambda x: sharding(x.shape, grid))

    def on_each(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, everywhere, lambda index: x[index])

    always = {} if frozen is None else {'frozen': jax.tree.map(on_each, frozen)}

    def put_batch(batch):
        placed = {k: jax.make_array_from_process_local_data(rows, x) for k, x in batch.items()}
        return placed | always

    def constrain(tree, where):
        return jax.tree.map(jax.lax.with_sharding_constraint, tree, where)

    def whole(params):
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere), params)

    def step(state, batch):
        state, metrics = train_step(state, batch, whole=whole)
        return constrain(state, shardings(layout(state))), whole(metrics)

    get = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    return Driver(layout, lambda state: state, put_batch, jax.jit(step, donate_argnums=0), get)


def ahead(driver: Driver, ready: Callable[[jax.stages.Compiled, float], Callable]) -> Driver:
    """The driver, its step compiled before it first runs, once.

    In one process a batch or a state of another shape, dtype or placement is an error, not another
    compilation.

    Args:
      ready: called as ready(compiled step, seconds that it took), gives what is called from then
        on; of many processes the step itself is.
    """
    found = []

    def step(state, batch):
        if not found:
            began = time.monotonic()
            compiled = distributed.compile_together(driver.step, state, batch)
            run = ready(compiled, time.monotonic() - began)
            # Of many processes pmap's compiled step would take the arrays of all, not this one's own.
            found.append(run if jax.process_count() == 1 else driver.step)
        return found[0](state, batch)

    return driver._replace(step=step)


def mesh_of(devices: Sequence[jax.Device], fsdp: int) -> Mesh:
    """The devices as a mesh with the axes data × fsdp."""
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(
        shape, ('data', 'fsdp'), devices=devices, axis_types=(AxisType.Auto, AxisType.Auto)
    )


def sharding(shape: Sequence[int], grid: Mesh) -> NamedSharding:
    """The rule: an array's longest axis that the fsdp axis divides is split over it.

    Arrays of fewer than `SHARDED_FROM` elements, and those that nothing divides, stand everywhere.
    """
    parts = grid.shape['fsdp']
    axes = [i for i, n in enumerate(shape) if n % parts == 0]
    if parts == 1 or not axes or np.prod(shape) < SHARDED_FROM:
        return NamedSharding(grid, PartitionSpec())
    longest = max(axes, key=lambda i: shape[i])
    return NamedSharding(grid, PartitionSpec(*[None] * longest, 'fsdp'))


def copy_in_each_process(devices: Sequence[jax.Device] | None = None) -> NamedSharding:
    """One copy on the first device of each process, by default of all processes."""
    firsts = {d.process_index: d for d in reversed(jax.devices() if devices is None else devices)}
    ordered = [firsts[process] for process in sorted(firsts)]
    return NamedSharding(Mesh(np.array(ordered), EACH_PROCESS), PartitionSpec())


def placed(tree: Any, rule: Callable[[Any], NamedSharding]) -> Any:
    """The shapes of a tree of arrays or shapes, each with the sharding that `rule` gives it."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rule(x)), tree)


def shardings(tree: Any) -> Any:
    """The sharding of each array or shape of a tree."""
    return jax.tree.map(lambda x: x.sharding, tree)


def everywhere(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A tree of whole arrays, `copy_in_each_process`, on each of the devices."""
    copies = NamedSharding(Mesh(np.array(devices), ('data',)), PartitionSpec())

    def put(x):
        local = np.asarray(x.addressable_data(0))
        return jax.make_array_from_callback(local.shape, copies, lambda index: local[index])

    return jax.tree.map(put, tree)


def local(tree: Any) -> Any:
    """A tree of arrays as those of this process's first device, each whole."""
    grid = jax.tree.leaves(tree)[0].sharding.mesh
    if not all(x.is_fully_replicated for x in jax.tree.leaves(tree)):
        tree = jax.jit(_same, out_shardings=NamedSharding(grid, PartitionSpec()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _same(tree):
    return tree


def scalar(value: int, where: NamedSharding) -> jax.Array:
    """An int32 number as a global array."""
    return jax.make_array_from_callback((), where, lambda _: np.int32(value))
