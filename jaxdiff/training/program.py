"""What a compiled program asks of each device: memory, and exchange with the others.

Read from XLA's own analysis, and from the text of the program as it stands after all passes.
Nothing is executed here.
"""

import collections
import math
import re
from typing import Any, NamedTuple

import jax

KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')


class Memory(NamedTuple):
    """Bytes on each device while the program runs."""

    arguments: int  # as they lie in memory, with padding
    results: int  # that don't take the place of arguments
    temporaries: int
    code: int


def memory(compiled: jax.stages.Compiled) -> Memory:
    """What the program needs, by XLA's assignment of its buffers."""
    found = compiled.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )


def moved(compiled: jax.stages.Compiled) -> float:
    """Bytes that each device reads and writes, by XLA's count; 0 where it has none."""
    return (compiled.cost_analysis() or {}).get('bytes accessed', 0.0)


def device_bytes(tree: Any) -> int:
    """Bytes on each device of a tree of arrays, or of shapes with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


class Collective(NamedTuple):
    """All operations of a kind by which the devices exchange data."""

    count: int
    bytes: int  # on each device: the larger of what goes into an operation and what comes out


def exchanged(text: str) -> dict[str, Collective]:
    """The collective operations of a program, by kind, from `compiled.as_text()`.

    What stands in a loop counts as often as the loop runs, where XLA knows that, and else once.
    One device exchanges nothing, whatever its program says.

    References: OpenXLA, Operation semantics (https://openxla.org/xla/operation_semantics).
    """
    header, _, _ = text.partition('\n')
    if 'num_partitions=' not in header and 'num_replicas=' not in header:
        return {}
    computations, entry = _parse(text)
    size = {line.name: _bytes(line.shape) for lines in computations.values() for line in lines}

    def walk(computation, times=1):
        """{what tells an operation from others: (kind, times, bytes)} of all that is run."""
        found = {}
        for line in computations[computation]:
            kind = line.operation.removesuffix('-start')
            if kind in KINDS:
                given = sum(size[name] for name in _OPERAND.findall(line.operands))
                # What a '-start' gives is a tuple of what it takes and what will come.
                came = size[line.name] - (given if kind != line.operation else 0)
                # TPUs spread one operation over several fusions, in each of which it stands, and
                # know a reduce-scatter only as a fusion of an all-reduce with slices.
                spread = '"async_collective_fusion_config"' in line.rest
                name = _CHANNEL.search(line.rest)[0] if spread else line.name
                kind = 'reduce-scatter' if 'all-reduce-scatter' in computation else kind
                found[kind, name] = kind, times, max(given, came)
            if not line.operation.endswith(('-update', '-done')):  # which only name their start's
                runs = _RUNS.search(line.rest)
                for called in _called(line.rest):
                    found |= walk(called, times * int(runs[1] if runs else 1))
        return found

    counts, sizes = collections.Counter(), collections.Counter()
    for kind, times, count in walk(entry).values():
        counts[kind] += times
        sizes[kind] += times * count
    return {kind: Collective(counts[kind], sizes[kind]) for kind in KINDS if counts[kind]}


class _Line(NamedTuple):
    name: str
    shape: str
    operation: str
    operands: str
    rest: str


_HEAD = re.compile(r'(ENTRY )?%?([\w.-]+) .*{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)')
_OPERAND = re.compile(r'%([\w.-]+)')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition|\w+_computations?)=({[^}]*}|%?[\w.-]+)')
_CHANNEL = re.compile(r'channel_id=\d+')
_RUNS = re.compile(r'"known_trip_count":{"n":"(\d+)"}')
_ARRAY = re.compile(r'(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')


def _parse(text):
    """({computation: its lines}, the name of the one that is run)."""
    computations, entry, lines = {}, None, None
    for each in text.splitlines():
        if found := _INSTRUCTION.match(each):
            name, shape, operation, rest = found.groups()
            operands, _, rest = rest.partition('), ')
            lines.append(_Line(name, shape, operation, operands, rest))
        elif found := _HEAD.match(each):
            lines = computations[found[2]] = []
            entry = found[2] if found[1] else entry
    return computations, entry


def _called(rest):
    for names in _CALLED.findall(rest):
        yield from (name.strip(' %') for name in names.strip('{}').split(','))


def _bytes(shape):
    """Of a shape such as 'bf16[2,3]{1,0}' or a tuple of such."""
    return sum(
        math.prod(int(n) for n in sizes.split(',') if n) * int(bits or 8) // 8
        for _, bits, sizes in _ARRAY.findall(shape)
    )
