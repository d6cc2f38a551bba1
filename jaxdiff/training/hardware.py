"""Devices to plan for: those at hand, and TPUs that aren't there."""

import importlib.metadata
import importlib.util
import itertools
from collections.abc import Sequence

import jax
from jax.experimental import topologies

# GiB that a program may use of each device as JAX counts them: what libtpu 0.0.42 answers to a
# program that needs more. It is a little less than the chip has.
_MEMORY = {
    'TPU v2': 7.48,
    'TPU v3': 15.48,
    'TPU v4': 30.75,
    'TPU v5 lite': 15.75,
    'TPU v5': 95.74,
    'TPU v6 lite': 31.25,
    'TPU7x': 94.75,
}


def memory(device: jax.Device) -> int | None:
    """Bytes that a program may use of a device's memory; None where that isn't known."""
    if device.device_kind in _MEMORY:
        return int(_MEMORY[device.device_kind] * 2**30)
    return (device.memory_stats() or {}).get('bytes_limit')


def tpus(topology: str) -> Sequence[jax.Device]:
    """TPUs to compile for, on a machine that has none.

    `jaxdiff.devices.use_host` comes before jax is imported.

    Args:
      topology: TYPE:SHAPE, such as 'v5e:16x16', 'v5p:4x4x4', 'v4:2x2x1' or 'v5e:1x1'.

    Raises: ImportError without libtpu; ValueError where there are no such TPUs.
    """
    if not importlib.util.find_spec('libtpu'):
        pinned = next(r for r in importlib.metadata.requires('jax') if r.startswith('libtpu'))
        raise ImportError(
            f"--topology compiles by libtpu, which isn't installed: pip install "
            f"'{pinned.partition(';')[0].strip()}'"
        )
    kind, _, shape = topology.partition(':')
    try:
        sides = [int(n) for n in shape.split('x')]
        options = {'chip_config_name': 'megacore'} if kind == 'v4' else {}  # as it is in use
        host = [min(n, most) for n, most in itertools.zip_longest(sides, (2, 2, 1), fillvalue=1)]
        return topologies.get_topology_desc(
            topology, 'tpu', chips_per_host_bounds=host, **options
        ).devices
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--topology must be TYPE:SHAPE such as 'v5e:16x16' or 'v5p:4x4x4', got {topology!r}: "
            f'{str(error).splitlines()[0]}'
        ) from None
