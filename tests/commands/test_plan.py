import functools
import itertools
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.commands import plan
from jaxdiff.training import hardware


def planned(config='digits', **changes):
    """{title of a table: {label: (value, unit, note)}} of a plan, and the job."""
    job = plan.prepare(configs.load(config, tiny.overrides(**changes)))
    return tables(plan.run(job)), job


def tables(lines):
    found, rows = {}, {}
    for line in lines:
        if not line.startswith(' '):
            rows = found[line.rstrip()] = {}
        elif parts := re.match(r'\s+(\S+(?: \S+)*)  +([\d,.]+)(?: (\w+))?(?:  (.*))?', line):
            rows[parts[1]] = float(parts[2].replace(',', '')), parts[3], parts[4]
    return found


def size(row):
    return row[0] * {'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30}[row[1]]


PARTS = {'parameters': 'params', 'average (EMA)': 'ema', 'profiles': 'profiles'}
PARTS |= {'optimiser': 'optimizer'}


@pytest.fixture(scope='module')
def by_pmap():
    return planned(ema__profiles='(0.05, 0.1)')


@pytest.fixture(scope='module')
def by_mesh():
    changes = {'train__parallel': 'mesh', 'train__fsdp': 8}
    return planned(ema__profiles='(0.05, 0.1)', **changes)


@pytest.mark.parametrize('fixture', ['by_pmap', 'by_mesh'])
def test_memory_is_what_real_arrays_take(fixture, request):
    found, job = request.getfixturevalue(fixture)
    config, key = job.config, jax.random.key(0)
    make = functools.partial(build.train_state, config, job.model)
    driver = build.driver(config, lambda state, batch, **_: (state, {}), jax.devices())
    like = driver.layout(jax.eval_shape(make, key))
    state = driver.put_state(
        jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), like)
    )
    rows = np.zeros(config.train.batch_size, np.int32)
    images = np.zeros((len(rows), *job.model.shape), np.uint8)
    batch = driver.put_batch({'image': images, 'label': rows, 'index': rows})
    held = {label: getattr(state, part) for label, part in PARTS.items()}
    for label, tree in (held | {'batch': batch, 'copy at a save': driver.get(state)}).items():
        of_first = [
            shard.data.nbytes
            for x in jax.tree.leaves(tree)
            for shard in x.addressable_shards
            if shard.device == jax.devices()[0]
        ]
        row = found['memory of each device'][label]
        assert size(row) == pytest.approx(sum(of_first), abs=0.01 * 2**10), label


def test_data_parallel_reduces_the_gradients_and_gathers_nothing(by_pmap):
    found, job = by_pmap
    exchanged = found['exchanged in a step']
    assert set(exchanged) == {'all-reduce'}
    gradients = 4 * found['parameters']['sum'][0]
    assert 0.99 * gradients < size(exchanged['all-reduce']) < 1.1 * gradients


def test_a_sharded_state_takes_less_and_is_gathered(by_pmap, by_mesh):
    (whole, _), (sharded, _) = by_pmap, by_mesh
    assert 'mesh of data 1 x fsdp 8' in ''.join(sharded)
    gathered = size(sharded['exchanged in a step']['all-gather'])
    assert gathered > 0.5 * 4 * sharded['parameters']['sum'][0]
    for label in PARTS:
        parts = [found['memory of each device'][label] for found in (sharded, whole)]
        assert size(parts[0]) < 0.4 * size(parts[1])  # a tiny net has many small arrays


def test_the_sum_is_that_of_the_parts(by_pmap):
    memory = dict(by_pmap[0]['memory of each device'])
    total = size(memory.pop('sum'))
    assert total == pytest.approx(sum(map(size, memory.values())), rel=0.01)
    assert size(memory['temporaries']) > size(memory['parameters'])  # at least the gradients


def test_the_work_of_a_run_is_that_of_its_steps(by_pmap):
    found, job = by_pmap
    value, unit, note = found['one step']['operations']
    _, whole = re.fullmatch(r'(the whole run) ([\d.]+) MFLOP', note).groups()
    assert unit == 'MFLOP' and float(whole) == pytest.approx(job.config.train.steps * value, 1e-3)
    assert found['one step']['of each device'][0] == pytest.approx(value / 8, abs=0.01)
    assert found['one step']['bytes accessed'][0] > 0


def test_a_step_takes_as_long_as_what_its_chips_are_slowest_at(monkeypatch):
    """Of a chip that does a million of all in a millisecond."""
    chip = hardware.Chip(operations=1e9, memory=1e9, links=1e9)
    monkeypatch.setattr(hardware, 'chip', lambda device: chip)
    found, _ = planned()
    least, step = found['a step, with chips at their best'], found['one step']
    ms = {label: value for label, (value, _, _) in least.items()}
    assert ms['operations'] == pytest.approx(step['of each device'][0], rel=0.01)  # MFLOP
    assert ms['memory'] == pytest.approx(size(step['bytes accessed']) / 1e6, rel=0.01)
    sent = 2 * 7 / 8 * size(found['exchanged in a step']['all-reduce'])
    assert ms['exchange'] == pytest.approx(sent / 1e6, rel=0.01)
    assert ms['the longest'] == max(ms['operations'], ms['memory'], ms['exchange'])


def test_a_set_that_is_not_here_is_planned_from_its_description(tmp_path):
    """DDPM's network on CIFAR-10; the head and the parameters come before anything is compiled."""
    job = plan.prepare(configs.load('cifar10', [('data.dir', str(tmp_path))]))
    lines = plan.run(job)
    head = [next(lines) for _ in range(12)]
    assert head[0] == 'data      cifar10: 32x32x3, not prepared here'
    assert head[2] == 'batch     128 examples, 16 a device'
    assert tables(head)['parameters']['sum'][0] == 35_746_307
    assert not list(tmp_path.iterdir())


def test_a_learned_schedule_is_a_part_of_the_parameters():
    changes = {'diffusion__schedule': 'learned', 'diffusion__embedding': 'logsnr'}
    config = configs.load('digits', tiny.overrides(**changes, loss__name='variational'))
    parameters = tables(itertools.islice(plan.run(plan.prepare(config)), 14))['parameters']
    assert parameters['schedule'][0] > 0 and 'net' not in parameters
    assert sum(value for value, *_ in parameters.values()) == 2 * parameters['sum'][0]


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'train__batch_size': 12}, 'train.batch_size=12 must be a multiple of 8 devices'),
        (
            {'train__batch_size': 32, 'train__accumulate': 8},
            'multiple of 8 devices x train.accumulate=8',
        ),
        ({'train__fsdp': 4}, "needs train.parallel='mesh'"),
        ({'train__parallel': 'mesh', 'train__fsdp': 3}, 'fsdp=3 must divide the number of devices'),
        ({'net__multipliers': '(1, 2, 2, 2, 2)'}, 'divisible by 16'),
        ({'data__name': '', 'data__path': '/nowhere'}, '/nowhere does not exist'),
    ],
)
def test_what_contradicts_is_refused(changes, message):
    config = configs.load('digits', tiny.overrides(**changes))
    with pytest.raises((ValueError, OSError), match=message) as refused:
        plan.prepare(config)
    assert '\n' not in str(refused.value)


@pytest.fixture
def quick(monkeypatch):
    """A job whose step does nothing, on one device, and the means to give it another step."""
    monkeypatch.setattr(build, 'flops', lambda *_: 1e12)
    config = configs.load('digits', tiny.overrides(train__accumulate=2))
    job = plan.prepare(config)._replace(devices=jax.devices()[:1])

    def lines(step=jax.jit(lambda state, batch: (state, {}), donate_argnums=0), limit=None):
        spread = plan.on_devices
        monkeypatch.setattr(plan, 'on_devices', lambda *args: (step, *spread(*args)[1:]))
        monkeypatch.setattr(hardware, 'memory', lambda device: limit)
        return plan.run(job)

    return lines


def test_a_plan_is_read_at_a_glance(quick):
    lines = list(quick())
    assert len(lines) < 40 and max(map(len, lines)) <= 100
    assert lines[:3] == [
        'data      digits: 1,442 examples of 8x8x1',
        'devices   1 cpu, pmap',
        'batch     32 examples, 32 a device, 16 at a time',
    ]
    assert tables(lines)['one step']['operations'] == (1, 'TFLOP', 'the whole run 6.00 TFLOP')
    assert lines[-2:] == ['exchanged in a step', '  nothing']


def test_more_memory_than_there_is_is_refused_after_all_is_told(quick):
    lines = []
    with pytest.raises(MemoryError, match='needs .* of each device, it has 100.00 KiB: give .*'):
        lines.extend(quick(limit=100 * 2**10))
    found = tables(lines)
    total = found['memory of each device']['sum']
    of, share = total[2].split(': ')
    assert of == 'of 100.00 KiB'
    assert float(share[:-1]) == pytest.approx(size(total) / 2**10, rel=0.01)
    assert list(found)[-1] == 'exchanged in a step'


def test_a_program_that_no_device_can_hold_is_one_line(quick):
    class Step:
        def lower(self, *_):
            return self

        def compile(self):
            raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: needs 48.00G.\nAnd more.')

    lines = []
    with pytest.raises(MemoryError, match='^RESOURCE_EXHAUSTED: needs 48.00G: give [^\n]*$'):
        lines.extend(quick(Step()))
    assert 'before temporaries' in tables(lines)['memory of each device']


AHEAD = """
from jaxdiff import devices
devices.use_host()
import tiny
from jaxdiff import config as configs
from jaxdiff.commands import plan
for changes in ({}, {'train__parallel': 'mesh', 'train__fsdp': 4}):
    config = configs.load('digits', tiny.overrides(**changes))
    print(*plan.run(plan.prepare(config, 'v5e:2x2')), sep='\\n')
"""


@pytest.mark.slow
def test_tpus_that_are_not_there():
    pytest.importorskip('libtpu')
    done = subprocess.run(
        [sys.executable, '-c', AHEAD],
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    second = 1 + lines[1:].index(lines[0])
    whole, sharded = tables(lines[:second]), tables(lines[second:])
    assert 'devices   4 TPU v5 lite (v5e:2x2), pmap' in whole
    assert 'devices   4 TPU v5 lite (v5e:2x2), mesh of data 1 x fsdp 4' in sharded
    gradients = 4 * whole['parameters']['sum'][0]
    reduced, exchanged = whole['exchanged in a step'], sharded['exchanged in a step']
    assert set(reduced) == {'all-reduce'}
    assert size(reduced['all-reduce']) == pytest.approx(gradients, rel=0.1)
    # The parameters are gathered as the bfloat16 that they are multiplied as.
    assert size(exchanged['all-gather']) > 0.25 * gradients
    assert whole['memory of each device']['sum'][2].startswith('of 15.75 GiB')
    assert (
        whole['a step, with chips at their best']['operations'][2] == 'at 197.00 TFLOP/s, bfloat16'
    )
