"""Jobs of two processes by `jaxdiff launch`: killed, preempted, and gone on with on other devices."""

import os
import re
import signal
import socket

import jax
import numpy as np
import pytest
import tiny
from processes import (
    apart,
    arguments,
    assert_same_end,
    children,
    curve,
    done,
    end,
    here,
    start,
    steps_in,
    succeed,
    wait_for,
)

LAUNCH = ('launch', '-n', 2, '--')
MESH = {'train__parallel': 'mesh', 'train__fsdp': 0}  # 0: one copy of the state on all devices
STEPS = 12


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def assert_close(one, other, tolerance):
    """Two runs ended within `tolerance` of the distance travelled since the first checkpoint."""
    (step, last), (again, found) = tiny.newest(one), tiny.newest(other)
    assert step == again
    travelled = apart(last, tiny.saved(one, min(steps_in(one))))
    distance = apart(last, found)
    print(f'apart / travelled: {distance / travelled:.1e}, of {travelled:.3g}')
    assert travelled > 1 and distance <= tolerance * travelled
    jax.tree.map(np.testing.assert_array_equal, last['health'], found['health'])


def assert_same_curve(one, other):
    """The losses of two runs are within 1e-5 of each other, step by step."""
    (steps, losses), (again, others) = np.transpose(curve(one)), np.transpose(curve(other))
    assert list(steps) == list(again) == list(range(1, STEPS + 1))
    print(f'losses apart: {np.abs(losses - others).max():.1e}')
    np.testing.assert_allclose(losses, others, atol=1e-5, rtol=0)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """A run that nothing disturbs, of one process and one device."""
    workdir = tmp_path_factory.mktemp('alone') / 'run'
    succeed(*arguments(workdir, '--devices', 1, train__steps=STEPS))
    return workdir


def test_a_preempted_job_saves_at_one_step_and_other_devices_go_on(tmp_path):
    """SIGTERM to the launcher of two processes with a device each; then eight devices in one."""
    changes = {'net__multipliers': '(1,)', 'train__steps': STEPS}
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    job = start(*LAUNCH, *arguments(run, '--devices', 1, **changes))
    wait_for(lambda: done(run), job)
    job.terminate()
    code, stdout, stderr = end(job)
    assert code == 0 and stdout == '', stderr
    stopped = done(run)
    assert f'preempted: saved step {stopped}; the same command goes on from it' in stderr
    assert 'again' not in stderr and stopped < STEPS and max(steps_in(run)) == stopped
    assert here(*arguments(run, **changes)) == here(*arguments(whole, **changes)) == 0
    assert_same_curve(whole, run)


@pytest.mark.slow
@pytest.mark.parametrize('second', ['empty', 'with a checkpoint'])
def test_processes_that_see_different_folders_are_refused(tmp_path, second):
    """Not left to wait for each other."""
    flags = '--devices', 1, '--num_processes', 2, '--coordinator', f'127.0.0.1:{free_port()}'
    folders = tmp_path / 'a', tmp_path / 'b'
    if second != 'empty':
        (folders[1] / 'checkpoints' / '3').mkdir(parents=True)
    job = [
        start(*arguments(folder, *flags, '--process_id', i, train__steps=STEPS))
        for i, folder in enumerate(folders)
    ]
    (code, _, stderr), (other_code, _, other) = map(end, job)
    told = f'the processes see different folders at {folders[1]}: give a shared one'
    assert other_code == 2 and other.strip().endswith(told), other
    assert code == 2 and 'the processes see different folders' in stderr, stderr


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """A job of two processes that nothing disturbs."""
    workdir = tmp_path_factory.mktemp('pair') / 'run'
    succeed(*LAUNCH, *arguments(workdir, '--devices', 1, train__steps=STEPS))
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize('target', ['launcher', 0, 1])
def test_a_job_preempted_at_any_process_ends_bit_for_bit_the_same(pair, tmp_path, target):
    run = tmp_path / 'run'
    command = (*LAUNCH, *arguments(run, '--devices', 1, train__steps=STEPS))
    job = start(*command)
    wait_for(lambda: done(run) >= 2, job)
    os.kill(job.pid if target == 'launcher' else children(job.pid)[target], signal.SIGTERM)
    code, _, stderr = end(job)
    assert code == 0 and f'preempted: saved step {done(run)}' in stderr and 'again' not in stderr
    assert max(steps_in(run)) == done(run) < STEPS
    succeed(*command)
    assert_same_end(pair, run)


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_costs_the_steps_since_the_last_checkpoint(pair, tmp_path, victim):
    run = tmp_path / 'run'
    job = start(*LAUNCH, *arguments(run, '--devices', 1, train__steps=STEPS))
    wait_for((run / 'checkpoints' / '3').exists, job)
    os.kill(children(job.pid)[victim], signal.SIGKILL)
    code, stdout, stderr = end(job)
    assert code == 0, stderr
    assert f'process {victim} died of SIGKILL; starting the job again (1 of 3)' in stderr
    assert stdout.strip() == f'{run}/samples/step_{STEPS:08d}.png'
    assert re.findall(r'step (\d+) of', stderr)[0] == '0' and f'step 3 of {STEPS}' in stderr
    assert_same_end(pair, run)


@pytest.mark.slow
def test_damage_to_what_another_process_wrote_is_found(pair, tmp_path):
    """By two processes, each of which checks its share of the files, and the one before is used."""
    run = tmp_path / 'run'
    command = (*LAUNCH, *arguments(run, '--devices', 1, **MESH, train__steps=6))
    succeed(*command)
    newest = run / 'checkpoints' / '6'
    path = max(newest.glob('*/ocdbt.process_1/d/*'), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    stderr = succeed(*command)
    assert f'the checkpoint {newest} is broken and not used: ' in stderr
    assert 'step 3 of 6' in stderr and (run / 'broken' / '6_0').exists()
    assert steps_in(run) == [3, 6]


@pytest.mark.slow
@pytest.mark.parametrize('other', ['mesh of eight', 'one device', 'two meshes of two'])
def test_saved_by_two_processes_it_goes_on_on_other_devices(alone, tmp_path, other):
    """From 2 x 2 devices by pmap at step 6, to a 1 x 8 mesh in one process, and others."""
    run = tmp_path / 'run'
    succeed(*LAUNCH, *arguments(run, '--devices', 2, train__steps=6))
    how = {
        'mesh of eight': lambda: arguments(run, '--devices', 8, **MESH, train__steps=STEPS),
        'one device': lambda: arguments(run, '--devices', 1, train__steps=STEPS),
        'two meshes of two': lambda: [
            *LAUNCH,
            *arguments(run, '--devices', 2, **MESH | {'train__fsdp': 2}, train__steps=STEPS),
        ],
    }[other]
    assert f'step 6 of {STEPS}' in succeed(*how())
    assert_same_curve(alone, run)


LONG = {
    'train__steps': 60,
    'train__checkpoint_every': 20,
    'train__keep': 3,
    'train__accumulate': 2,
    'net__dropout': 0.1,
}
PRECISIONS = {
    'float32': (1e-4, {}, {}),
    'float64': (1e-10, {'JAX_ENABLE_X64': '1'}, {'net__dtype': 'float64'}),
}


@pytest.fixture(scope='module', params=PRECISIONS)
def alone_for_long(request, tmp_path_factory):
    tolerance, environment, changes = PRECISIONS[request.param]
    run = tmp_path_factory.mktemp('long') / 'run'
    succeed(*arguments(run, '--devices', 1, **LONG, **changes), environment=environment)
    return run, request.param


@pytest.mark.slow
@pytest.mark.parametrize('driver', ['pmap', 'mesh'])
def test_two_processes_of_two_devices_end_at_the_same_state(alone_for_long, tmp_path, driver):
    alone, precision = alone_for_long
    tolerance, environment, changes = PRECISIONS[precision]
    run, changes = tmp_path / 'run', changes | (MESH if driver == 'mesh' else {})
    succeed(*LAUNCH, *arguments(run, '--devices', 2, **LONG, **changes), environment=environment)
    assert_close(alone, run, tolerance)
