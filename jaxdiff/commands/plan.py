"""`jaxdiff plan`: what a training run will ask of its devices, told before it is paid for.

The step is compiled from shapes alone, for the devices at hand or for TPUs that aren't there. No
array is made, nothing is run or written.
"""

import collections
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxdiff import build, data
from jaxdiff.commands import features, latents, memory
from jaxdiff.commands.tables import operations, size
from jaxdiff.data.describe import describe
from jaxdiff.training import hardware, parallel, program
from jaxdiff.training.state import TrainState


class Job(NamedTuple):
    """A checked request for a plan."""

    config: ConfigDict
    dataset: data.Dataset
    model: build.Model
    devices: Sequence[jax.Device]
    topology: str  # '' for the devices at hand


def prepare(config: ConfigDict, topology: str = '') -> Job:
    """Checks config, data and devices against each other.

    Args:
      topology: TPUs to compile for, TYPE:SHAPE, see `hardware.tpus`; '' takes the devices at hand.

    Raises: ValueError, FileNotFoundError or ImportError where that can't be planned.
    """
    build.check(config)
    devices = hardware.tpus(topology) if topology else jax.devices()
    build.check_devices(config, len(devices))
    c = config.data
    dataset = describe(c.name, c.path, c.dir, c.split, c.image_size)
    frozen = latents.of_config(config, dataset.shape)
    kept = features.of_config(config, dataset.shape)
    classes = len(dataset.class_names)
    others = frozen and frozen.codec(), kept and kept.features
    model = build.model(config, dataset.shape, dataset.levels, classes, *others)
    return Job(config, dataset, model, devices, topology)


def run(job: Job) -> Iterator[str]:
    """The lines of the plan, those that need no compiling first.

    Raises: MemoryError where a device has less memory than the step needs.
    """
    yield from _head(job)
    state = jax.eval_shape(
        functools.partial(build.train_state, job.config, job.model), jax.random.key(0)
    )
    yield from _parameters(state.params)
    step, state, batch = on_devices(job, state)
    held, limit = _held(state, batch), hardware.memory(job.devices[0])
    try:
        with memory.advised():
            compiled = step.lower(state, batch).compile()
    except MemoryError:
        yield from _memory(held, limit, 'before temporaries')
        raise
    work, moved = build.flops(job.config, job.model), program.moved(compiled)
    exchanged = program.exchanged(compiled.as_text())
    yield from _work(job, work, moved)
    held |= _needed(compiled, sum(held.values()))
    held['copy at a save'] = program.device_bytes(state)
    yield from _memory(held, limit, 'sum')
    yield from _exchange(exchanged)
    yield from _at_best(job, work, moved, exchanged)
    if limit and sum(held.values()) > limit:
        raise MemoryError(
            f'a step beside a save needs {size(sum(held.values()))} of each device, it has {size(limit)}: '
            f'{memory.ADVICE}'
        )


def on_devices(job: Job, state: TrainState):
    """(the step as it is spread over the job's devices, the shapes of its state, of its batch).

    For TPUs that aren't there pmap is planned as a mesh that shards nothing.
    """
    config, devices = job.config, job.devices
    if job.topology and config.train.parallel == 'pmap':
        config = config.copy_and_resolve_references()
        config.train.parallel = 'mesh'
    driver = build.driver(
        config, build.train_step(config, job.model, jax.random.key(0), devices), devices
    )
    batch = build.batch_shapes(config, job.model, bool(job.dataset.class_names))
    if config.train.parallel == 'mesh':
        grid = parallel.mesh_of(devices, config.train.fsdp or len(devices))
        rows = NamedSharding(grid, PartitionSpec(grid.axis_names))
        return driver.step, driver.layout(state), parallel.placed(batch, lambda _: rows)
    each = NamedSharding(Mesh(np.array(devices), ('data',)), PartitionSpec('data'))

    def stacked(x, *shape):
        return jax.ShapeDtypeStruct((len(devices), *shape), x.dtype, sharding=each)

    state = jax.tree.map(lambda x: stacked(x, *x.shape), state)
    split = config.train.batch_size // len(devices)
    return driver.step, state, {k: stacked(x, split, *x.shape[1:]) for k, x in batch.items()}


def _head(job):
    config, dataset, devices = job.config, job.dataset, job.devices
    shape, count = 'x'.join(map(str, dataset.shape)), len(dataset.source)
    examples = f'{count:,} examples of {shape}' if count else f'{shape}, not prepared here'
    yield _line('data', f'{dataset.name}: {examples}')
    fsdp = config.train.fsdp or len(devices)
    driver = f'mesh of data {len(devices) // fsdp} x fsdp {fsdp}'
    named = f' ({job.topology})' if job.topology else ''
    yield _line(
        'devices',
        f'{len(devices)} {devices[0].device_kind}{named}, '
        f'{driver if config.train.parallel == "mesh" else "pmap"}',
    )
    each, parts = config.train.batch_size // len(devices), config.train.accumulate
    one_by_one = f', {each // parts} at a time' if parts > 1 else ''
    yield _line('batch', f'{config.train.batch_size} examples, {each} a device{one_by_one}')


def _line(label, text):
    return f'{label:<10}{text}'


def _table(title, rows):
    """Lines of a title and rows (label, value, note)."""
    yield from ('', title)
    yield from (f'  {label:<20}{value:>14}  {note}'.rstrip() for label, value, note in rows)


def _parameters(params):
    counts = collections.Counter()
    for path, x in jax.tree.leaves_with_path(params):
        names = jax.tree_util.keystr(path, simple=True, separator='/').split('/')
        name = next(name for name in names if name not in ('net', 'params'))
        counts[name.partition('_')[0]] += x.size  # such as 'down', of 'down_0_block_0'
    rows = [(name, f'{count:,}', '') for name, count in counts.most_common()]
    yield from _table('parameters', [*rows, ('sum', f'{counts.total():,}', '')])


def _held(state, batch):
    """{what stands on each device between steps: bytes}."""
    averages = {'profiles': program.device_bytes(state.profiles)} if state.profiles else {}
    return {
        'parameters': program.device_bytes(state.params),
        'average (EMA)': program.device_bytes(state.ema),
        **averages,
        'optimiser': program.device_bytes(state.optimizer),
        'batch': program.device_bytes(batch),
    }


def _needed(compiled, held):
    """{what the program takes of each device besides: bytes}."""
    found = program.memory(compiled)
    return {
        'temporaries': found.temporaries,
        'padding': max(0, found.arguments - held),
        'program': found.code + found.results,
    }


def _memory(held, limit, title):
    total = sum(held.values())
    of = f'of {size(limit)}: {total / limit:.1%}' if limit else ''
    notes = {
        'temporaries': 'activations, gradients, gathered parameters',
        'padding': 'of the above, as the device lays arrays out',
        'program': 'its code, and results besides the state',
        'copy at a save': 'of the state, on its way; with pmap on the first alone',
    }
    rows = [(label, size(count), notes.get(label, '')) for label, count in held.items()]
    yield from _table('memory of each device', [*rows, (title, size(total), of)])


def _work(job, work, moved):
    devices = len(job.devices)
    run = operations(work * job.config.train.steps)
    rows = [
        ('operations', operations(work), f'the whole run {run}'),
        ('  of each device', operations(work / devices), ''),
    ]
    # XLA counts a loop's body once, and accumulation is one where `training.step` makes it one.
    once = job.config.train.accumulate > 1 and job.devices[0].platform != 'cpu'
    if moved:
        note = 'of each device' + ', the parts of accumulation counted once' * once
        rows.append(('bytes accessed', size(moved), note))
    yield from _table('one step', rows)


def _exchange(exchanged):
    rows = [(kind, size(c.bytes), f'by {c.count} operation(s)') for kind, c in exchanged.items()]
    yield from _table('exchanged in a step', rows or [('nothing', '', '')])


def _at_best(job, work, moved, exchanged):
    """What a step would take if the chips did what they are said to do at best."""
    if not (chip := hardware.chip(job.devices[0])):
        return
    devices = len(job.devices)
    sent = hardware.sent({kind: c.bytes for kind, c in exchanged.items()}, devices)
    each = work / devices
    rows = [
        ('operations', each / chip.operations, f'at {operations(chip.operations)}/s, bfloat16'),
        ('memory', moved / chip.memory, f'at {size(chip.memory)}/s, all that XLA counts'),
        ('exchange', sent / chip.links, f'at {size(chip.links)}/s'),
    ]
    longest = max(seconds for _, seconds, _ in rows)
    share = f"{each / chip.operations / longest:.0%} of the chips' operations"
    rows.append(
        (
            'the longest',
            longest,
            f'{job.config.train.batch_size / longest:,.0f} examples/s, {share}',
        )
    )
    ms = [(label, f'{1e3 * seconds:,.3f} ms', note) for label, seconds, note in rows]
    yield from _table('a step, with chips at their best', ms)
