"""What is computed of each row of an array, by all devices, some of the rows at a time."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BLOCK = 1024  # rows at a time, of all devices together
_ROWS, _WHOLE = PartitionSpec('rows'), PartitionSpec()


def of(f: Callable[..., Any], *whole: Any, block: int | None = None) -> Callable[[np.ndarray], Any]:
    """x [n, ...] -> f(x, *whole), a tree of NumPy arrays [n, ...], whatever the number of devices.

    Args:
      f: (rows [b, ...], *whole) -> a tree of arrays [b, ...], each row by its own; compiled once for
        a shape, rows being filled up with zeros.
      whole: what each device has all of.
      block: rows at a time; None are 1,024, or all where x has fewer.

    Raises: ValueError for no rows.
    """
    devices = jax.local_devices()
    grid = Mesh(np.array(devices), ('rows',))
    split, same = (NamedSharding(grid, spec) for spec in (_ROWS, _WHOLE))
    whole = jax.device_put(whole, same)

    def each(x: np.ndarray) -> Any:
        if not len(x):
            raise ValueError('there are no rows')
        size = -(-(block or min(BLOCK, len(x))) // len(devices)) * len(devices)
        found = []
        for i in range(0, len(x), size):
            part = x[i : i + size]
            more = ((0, size - len(part)), *[(0, 0)] * (part.ndim - 1))
            out = _run(f, grid, jax.device_put(np.pad(part, more), split), whole)
            found.append(jax.tree.map(lambda y, n=len(part): np.asarray(y)[:n], out))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    return each


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(f, grid, x, whole):
    part = lambda x, whole: f(x, *whole)  # of one device
    return jax.shard_map(part, mesh=grid, in_specs=(_ROWS, _WHOLE), out_specs=_ROWS)(x, whole)
