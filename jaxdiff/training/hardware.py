"""Devices to plan for: those at hand, and TPUs that aren't there."""

import importlib.metadata
import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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


class Chip(NamedTuple):
    """What a chip does at best, in a second."""

    operations: float  # products of bfloat16, which are also those of float32 by JAX's default
    memory: float  # bytes from and to its memory
    links: float  # bytes to other chips, over all links


# Google Cloud TPU, System architecture: v4, v5e, v5p, v6e (https://docs.cloud.google.com/tpu/docs).
_CHIPS = {
    'TPU v4': Chip(275e12, 1228e9, 300e9),
    'TPU v5 lite': Chip(197e12, 819e9, 200e9),
    'TPU v5': Chip(459e12, 2765e9, 600e9),
    'TPU v6 lite': Chip(918e12, 1638e9, 400e9),
}


def chip(device: jax.Device) -> Chip | None:
    """None where that isn't known."""
    return _CHIPS.get(device.device_kind)


def sent(exchanged: Mapping[str, int], devices: int) -> float:
    """Bytes that each device sends in one ring of all, for {kind of operation: its bytes, see `program.exchanged`}.

    2 (n - 1) / n of an all-reduce, all of a permutation, (n - 1) / n of the others. On a mesh of several
    axes the rings are shorter, and it is less.
    """
    share = (devices - 1) / devices
    shares = {'all-reduce': 2 * share, 'collective-permute': 1.0}
    return sum(count * shares.get(kind, share) for kind, count in exchanged.items())


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
