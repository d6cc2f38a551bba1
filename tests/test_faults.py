"""What a run does when something goes wrong: the table of docs/faults.md, fault by fault."""

import contextlib
import itertools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
import tiny
from processes import (
    assert_same_end,
    curve,
    done,
    end,
    finish,
    here,
    start,
    steps_in,
    succeed,
    wait_for,
)

from jaxdiff import build
from jaxdiff.data import order
from jaxdiff.training import checkpoint, preemption

STEPS, SAVED = 12, 6


def arguments(workdir, *flags, **changes):
    """Of `jaxdiff train`, for a network of one level."""
    return processes.arguments(workdir, *flags, **{'net__multipliers': '(1,)'} | changes)


def train(workdir, **changes):
    """`jaxdiff train` in this process: its exit code."""
    return here(*arguments(workdir, **changes))


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The folder of a run that nothing disturbs."""
    workdir = tmp_path_factory.mktemp('faults') / 'whole'
    assert train(workdir, train__steps=STEPS) == 0
    return workdir


@pytest.fixture(scope='module')
def half(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('faults') / 'half'
    assert train(workdir, train__steps=SAVED) == 0
    return workdir


@pytest.fixture
def run(half, tmp_path):
    """The folder of a run that stands at its half, with checkpoints of steps 3 and 6."""
    shutil.copytree(half, tmp_path / 'run')
    return tmp_path / 'run'


def written(folder):
    """What lies in a folder."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob('*')}


def last_line(text):
    return text.replace('\r', '\n').strip().splitlines()[-1]


# --- the disk ---


def largest(checkpoint):
    """The largest file of arrays."""
    return max(checkpoint.glob('*/ocdbt.process_0/d/*'), key=lambda p: p.stat().st_size)


def flip(checkpoint):
    path = largest(checkpoint)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(checkpoint):
    path = largest(checkpoint)
    os.truncate(path, path.stat().st_size // 2)


def forget_metadata(checkpoint):
    (checkpoint / '_CHECKPOINT_METADATA').unlink()


def forget_digests(checkpoint):
    shutil.rmtree(checkpoint / 'digests')


@pytest.mark.slow
@pytest.mark.parametrize('damage', [flip, truncate, forget_metadata, forget_digests])
def test_of_a_damaged_checkpoint_the_one_before_is_used(run, whole, capsys, damage):
    damage(run / 'checkpoints' / str(SAVED))
    assert train(run, train__steps=STEPS) == 0
    told = capsys.readouterr().err
    assert f'warning: the checkpoint {run}/checkpoints/6 is broken and not used: ' in told
    assert 'step 3 of 12' in told
    assert [p.name for p in (run / 'broken').iterdir()] == ['6_0']
    assert_same_end(whole, run)


def test_where_all_are_damaged_nothing_is_touched(run, capsys):
    for step in steps_in(run):
        flip(run / 'checkpoints' / str(step))
    before = written(run / 'checkpoints')
    assert train(run, train__steps=STEPS) == 3
    *warnings, told = capsys.readouterr().err.strip().splitlines()
    assert len(warnings) == 2 and told.startswith(f'jaxdiff train: no checkpoint in {run}')
    assert 'is whole (step 6: ' in told and 'restore one from a copy' in told
    assert written(run / 'checkpoints') == before


@pytest.mark.slow
@pytest.mark.parametrize('how', ['deleted', 'cut short'])
def test_what_describes_the_run_is_written_again(run, whole, how):
    for name in ('manifest.json', 'config.json'):
        if how == 'deleted':
            (run / name).unlink()
        else:
            os.truncate(run / name, 100)
    assert train(run, train__steps=STEPS) == 0
    assert_same_end(whole, run)
    assert (run / 'config.json').read_text() == (whole / 'config.json').read_text()


def test_a_broken_description_without_a_checkpoint_is_refused(run, capsys):
    shutil.rmtree(run / 'checkpoints')
    os.truncate(run / 'manifest.json', 100)
    before = written(run)
    assert train(run, train__steps=STEPS) == 2
    told = capsys.readouterr().err.strip()
    assert f'{run}/manifest.json is broken' in told and 'remove it' in told and '\n' not in told
    assert written(run) == before


@pytest.fixture
def small_files():
    """Files of at most 50 kB, less than a checkpoint's arrays."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

    def lift():
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    yield lift
    lift()


def test_a_save_that_fails_ends_the_run_and_leaves_the_others(run, whole, capsys, small_files):
    """Files can't grow; then they can again, and the same command goes on."""
    assert train(run, train__steps=STEPS) == 3
    small_files()
    told = last_line(capsys.readouterr().err)
    assert (
        told.startswith('jaxdiff train: a checkpoint could not be written to') and 'whole' in told
    )
    assert steps_in(run) == [3, 6]
    assert train(run, train__steps=STEPS) == 0
    assert 'is broken' not in capsys.readouterr().err
    assert_same_end(whole, run)


def mounts():
    """Whether this process may mount, in a name space of its own."""
    try:
        return not subprocess.run(
            ['unshare', '-m', 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True
        ).returncode
    except OSError:
        return False


MAY_MOUNT = pytest.mark.skipif(not mounts(), reason='mounting is not permitted here')

# $1: where the disk is mounted; $2: its size; $3: where to leave the run; the rest: the command.
ON_A_SMALL_DISK = """
disk=$1 size=$2 kept=$3; shift 3
mount -t tmpfs -o size=$size none $disk
"$@"; echo first $? >&2
cp -r $disk/run $kept
mount -o remount,size=64m $disk
"$@"; echo second $? >&2
cp -r $disk/run $kept.again
"""


@pytest.mark.slow
@MAY_MOUNT
def test_a_disk_that_is_full(whole, tmp_path):
    """It has room for one checkpoint and a half; then for all, and the same command goes on."""
    disk, kept = tmp_path / 'disk', tmp_path / 'kept'
    disk.mkdir()
    one = sum(p.stat().st_blocks * 512 for p in (whole / 'checkpoints' / '12').rglob('*'))
    given = (str(disk), str(one * 3 // 2), str(kept))
    script = ['unshare', '-m', 'sh', '-c', ON_A_SMALL_DISK, 'sh', *given]
    given = arguments(disk / 'run', train__steps=STEPS)
    stderr = succeed(*given, before=script)
    first, second = stderr.split('first 3')
    told = last_line(first)
    assert told.startswith('jaxdiff train: ') and 'No space left on device' in told
    assert 'Traceback' not in first
    saved = steps_in(kept)
    assert saved and max(saved) < STEPS
    assert f'step {max(saved)} of {STEPS}' in second and 'is broken' not in second
    assert 'second 0' in second
    assert_same_end(whole, tmp_path / 'kept.again')


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_refused(run):
    before, readonly = written(run), ()
    if os.geteuid():
        run.chmod(0o555)
    elif mounts():  # root may write anywhere but there
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
        readonly = ('unshare', '-m', 'sh', '-c', script, 'sh', str(run))
    else:
        pytest.skip('root may write anywhere, and mounting is not permitted here')
    code, _, stderr = finish(*arguments(run, train__steps=STEPS), before=readonly)
    run.chmod(0o755)
    assert code == 2
    assert stderr.strip() == f'jaxdiff train: {run} is not writable: give another folder'
    assert written(run) == before


# --- what the user does ---


def test_another_config_is_refused(run, capsys):
    before = written(run)
    assert train(run, train__steps=STEPS, seed=1, net__channels=16) == 2
    told = capsys.readouterr().err.strip()
    assert 'holds a run of another config (net.channels: 8 -> 16, seed: 0 -> 1)' in told
    assert '\n' not in told and written(run) == before


def test_a_second_run_is_refused_and_a_preempted_one_goes_on(whole, tmp_path, capsys):
    """A real process meets a second run, gets SIGTERM, and is followed by the same command."""
    run = tmp_path / 'run'
    first = start(*arguments(run, train__steps=STEPS))
    wait_for(lambda: done(run), first)
    first.send_signal(signal.SIGSTOP)  # it must not end before the second has come
    before = written(run)
    assert train(run, train__steps=STEPS) == 3
    told = capsys.readouterr().err.strip()
    assert f'another run is at work in {run} (process {first.pid} on ' in told and '\n' not in told
    assert written(run) == before
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    code, stdout, stderr = end(first)
    assert code == 0, stderr
    stopped = done(run)
    saved = f'preempted: saved step {stopped}; the same command goes on from it'
    assert stdout == '' and last_line(stderr) == saved
    assert stopped < STEPS and max(steps_in(run)) == stopped
    assert train(run, train__steps=STEPS) == 0
    assert f'step {stopped} of {STEPS}' in capsys.readouterr().err
    assert_same_end(whole, run)


@pytest.mark.slow
def test_ctrl_c_costs_the_steps_since_the_last_checkpoint(whole, tmp_path, capsys):
    run = tmp_path / 'run'
    process = start(*arguments(run, train__steps=STEPS))
    wait_for((run / 'checkpoints' / '3').exists, process)
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = end(process)
    assert code == 130 and stdout == '' and 'Traceback' not in stderr
    assert last_line(stderr) == 'stopped; the same command goes on from the last checkpoint'
    assert not any(run.glob('*/*.orbax-checkpoint-tmp'))  # a save that was under way has ended
    saved = max(steps_in(run))
    assert train(run, train__steps=STEPS) == 0
    assert f'step {saved} of {STEPS}' in capsys.readouterr().err
    assert_same_end(whole, run)


# --- numbers that aren't finite ---


class Changed:
    """A source whose images are `change(image, whether it is one of the examples)`."""

    def __init__(self, source, examples, change):
        self._source, self._examples, self._change = source, set(examples), change

    def __len__(self):
        return len(self._source)

    def __getitem__(self, i):
        element = self._source[i]
        return element | {'image': self._change(element['image'], i in self._examples)}


def no_number(image, spoilt):
    image = image.astype(np.float32)
    if spoilt:
        image[0, 0, 0] = np.nan
    return image


def white(image, spoilt):
    return np.full_like(image, 255) if spoilt else image


def spoil(patch, examples, change=no_number):
    """Training meets these examples changed; `patch` sets an attribute of a module."""
    real = build.dataset

    def dataset(config):
        found = real(config)
        return found._replace(source=Changed(found.source, examples, change))

    patch(build, 'dataset', dataset)


def examples_of(step, size=32, n=1442, **which):
    """The examples that a step, counted from 1, takes of the digits."""
    return order.examples(0, (step - 1) * size + np.arange(size), n, **which)


def test_a_spoilt_example_costs_a_step(tmp_path, monkeypatch):
    spoil(monkeypatch.setattr, [examples_of(4)[5]])
    assert train(tmp_path, train__steps=SAVED) == 0
    assert [skipped for _, skipped in curve(tmp_path, 'skipped_steps')] == [0, 0, 0, 1, 0, 0]
    step, items = tiny.newest(tmp_path)
    assert step == SAVED and items['health']['skipped'] == 1
    assert items['health']['in_row'] == items['health']['rollbacks'] == 0
    leaves = jax.tree.leaves([items[i] for i in ('params', 'ema', 'optimizer')])
    assert all(np.isfinite(x).all() for x in leaves)


# A streak from step 4 to step 6 that another order of the data breaks up.
STREAK = [examples_of(step)[0] for step in (4, 5, 6)]


def test_a_streak_is_left_by_another_order_of_the_data(tmp_path, monkeypatch, capsys):
    spoil(monkeypatch.setattr, STREAK)
    assert train(tmp_path, train__steps=STEPS, train__bad_steps=3) == 0
    told = capsys.readouterr().err
    assert (
        'warning: steps 4 to 6 gave no finite loss or gradient; back to step 3, with another order '
        'of the data (rollback 1 of 3)' in told
    )
    assert [count for _, count in curve(tmp_path, 'rollbacks')] == [0] * 3 + [1] * 9
    step, items = tiny.newest(tmp_path)
    assert step == STEPS and items['health']['rollbacks'] == 1


def test_a_rollback_is_to_a_whole_checkpoint(tmp_path, monkeypatch, capsys):
    """The newest one was damaged since it was written."""
    spoil(monkeypatch.setattr, [examples_of(step)[0] for step in (7, 8)])
    settle = checkpoint.settle

    def damaged(workdir, before=None):
        if before is not None:
            flip(tmp_path / 'checkpoints' / '6')
        return settle(workdir, before)

    monkeypatch.setattr(checkpoint, 'settle', damaged)
    assert train(tmp_path, train__steps=9, train__bad_steps=2) == 0
    told = capsys.readouterr().err
    assert 'checkpoints/6 is broken' in told and 'back to step 3, with another order' in told
    assert (tmp_path / 'broken' / '6_0').exists() and steps_in(tmp_path)[-2:] == [6, 9]


def preempted(patch, after):
    """A notice of preemption comes when training has asked for one so many times."""
    asked = itertools.count()

    @contextlib.contextmanager
    def listen():
        yield lambda: next(asked) >= after

    patch.setattr(preemption, 'listen', listen)


@pytest.mark.slow
def test_a_preemption_amid_bad_steps_loses_nothing(tmp_path, monkeypatch, capsys):
    """It saves there; where the streak is too long, the run stands where it would go back to."""
    spoil(monkeypatch.setattr, STREAK)
    limits = {'train__steps': STEPS, 'train__bad_steps': 3}
    whole = tmp_path / 'whole'
    assert train(whole, **limits) == 0
    for asked, stands in ((5, 5), (6, 3)):
        run = tmp_path / f'run{asked}'
        with monkeypatch.context() as patch:
            preempted(patch, asked)
            assert train(run, **limits) == 0
        assert f'preempted: saved step {stands};' in capsys.readouterr().err
        assert train(run, **limits) == 0
        assert_same_end(whole, run)


def test_a_preemption_before_the_first_step_ends_well(run, tmp_path, monkeypatch, capsys):
    preempted(monkeypatch, 0)
    assert train(tmp_path / 'new', train__steps=STEPS) == 0
    assert steps_in(tmp_path / 'new') == []
    told = last_line(capsys.readouterr().err)
    assert told == 'preempted: before the first step; the same command starts anew'
    assert train(run, train__steps=STEPS) == 0
    told = last_line(capsys.readouterr().err)
    assert told == 'preempted: saved step 6; the same command goes on from it'
    assert steps_in(run) == [3, 6]


def test_data_that_no_order_helps_stops_the_run(run, monkeypatch, capsys):
    """It says at which step, by which examples and at what noise level."""
    spoil(monkeypatch.setattr, range(0, 1442, 4))
    limits = {'train__bad_steps': 2, 'train__rollbacks': 1}
    assert train(run, train__steps=STEPS, **limits) == 3
    told = last_line(capsys.readouterr().err)
    assert told.startswith(
        'jaxdiff train: steps 7 to 8 gave no finite loss or gradient, after 1 rollbacks to other '
        'orders of the data. At step 7: example '
    )
    named = {int(part.split()[0]) for part in told.split('example ')[1:]}
    spoilt = [i for i in examples_of(7, order=1) if i % 4 == 0]
    assert named == set(spoilt[:5]) and f'and {len(spoilt) - 5} more of 32' in told
    assert 'at log SNR ' in told and '(loss nan, gradient nan)' in told
    assert steps_in(run) == [3, 6]


def test_a_gradient_that_is_no_number_is_found_where_the_loss_is_finite(
    tmp_path, monkeypatch, capsys
):
    """The loss of one example has a square root of 0 x params in it."""
    marked, made = examples_of(3)[7], build.training_loss

    def loss(config, model):
        real = made(config, model)

        def with_root(params, batch, key):
            losses, logsnr = real(params, batch, key)
            nothing = 0.0 * sum(jnp.sum(x) for x in jax.tree.leaves(params))
            others = jnp.where((batch['image'] == 255).all((1, 2, 3)), 0.0, 1.0)
            return losses + jnp.sqrt(nothing + others) - others, logsnr

        return with_root

    monkeypatch.setattr(build, 'training_loss', loss)
    monkeypatch.setattr('jaxdiff.build.step.training_loss', loss)
    spoil(monkeypatch.setattr, [marked], white)
    limits = {'train__bad_steps': 1, 'train__rollbacks': 0}
    assert train(tmp_path, train__steps=SAVED, **limits) == 3
    told = last_line(capsys.readouterr().err)
    assert 'steps 3 to 3 gave no finite' in told and f'At step 3: example {marked} at log' in told
    assert 'loss nan' not in told and 'gradient nan)' in told


# --- kill -9 ---


def begun(process):
    """Waits until a run says so; the step that it goes on from."""
    line = ''
    while 'device(s)' not in line:
        line = process.stderr.readline()
        assert line, 'it ended'
    return int(re.search(r'step (\d+) of', line)[1])


def kill(process):
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()


@pytest.mark.slow
def test_killed_twenty_times_it_ends_bit_for_bit_the_same(tmp_path):
    """At random moments of its work, saves of both kinds among them."""
    changes = {'train__steps': 300, 'train__checkpoint_every': 3}
    changes |= {'ema__profiles': (0.1,), 'ema__snapshot_every': 7}
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    succeed(*arguments(whole, '--devices', 2, **changes))
    draw, in_saves, began = random.Random(0), 0, []
    for _ in range(20):
        process = start(*arguments(run, '--devices', 2, **changes))
        began.append(stands := begun(process))
        if draw.random() < 0.8:  # else it is killed while it restores or compiles
            more = draw.randint(0, 20)
            wait_for(lambda: done(run) <= stands, process)
            wait_for(lambda: done(run) >= stands + more, process)
        time.sleep(draw.uniform(0, 0.3))
        kill(process)
        in_saves += any(run.glob('*/*.orbax-checkpoint-tmp'))
    print(f'kills in saves: {in_saves} of 20; began at the steps {began}')
    assert in_saves >= 3 and len(set(began)) >= 5 and max(began) < 300
    assert 'is broken' not in succeed(*arguments(run, '--devices', 2, **changes))
    assert_same_end(whole, run)
    assert steps_in(run, 'ema') == steps_in(whole, 'ema')
    assert not any(run.glob('*/*.orbax-checkpoint-tmp'))


# The command line, on data that it rolls back from.
SPOILT = 'import sys, test_faults as t; t.spoil(setattr, t.STREAK); sys.exit(t.here(*sys.argv[1:]))'


@pytest.mark.slow
def test_killed_after_a_rollback_it_ends_bit_for_bit_the_same(tmp_path):
    """Before the first save since, and after it."""
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    changes = {'train__steps': 30, 'train__bad_steps': 3}
    succeed(*arguments(whole, **changes), program=('-c', SPOILT))
    for saved in (3, 6):
        process = start(*arguments(run, **changes), program=('-c', SPOILT))
        wait_for(lambda: done(run) and curve(run, 'rollbacks')[-1] >= (4, 1), process)
        wait_for((run / 'checkpoints' / str(saved)).exists, process)
        kill(process)
    stderr = succeed(*arguments(run, **changes), program=('-c', SPOILT))
    assert 'step 3 of' not in stderr and 'back to step' not in stderr
    assert_same_end(whole, run)
