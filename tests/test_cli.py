"""The command line as a user runs it: real processes, real signals."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

from jaxdiff import arguments, cli

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(arguments):
    """Starts `python -m jaxdiff` on two CPU devices."""
    environment = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
    command = [sys.executable, '-m', 'jaxdiff', *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def jaxdiff(*arguments, check=False):
    """Runs it to its end."""
    process = start(arguments)
    stdout, stderr = process.communicate()
    assert not check or process.returncode == 0, stderr
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def train(workdir, **changes):
    return ['train', '--config', 'digits', '--workdir', workdir, *tiny.flags(**changes)]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp('cli') / 'run'
    relative = pathlib.Path(os.path.relpath(path, ROOT))  # as most people give it
    done = jaxdiff(*train(relative, train__steps=30, train__checkpoint_every=5), check=True)
    assert done.stdout.strip() == str(relative / 'samples' / 'step_00000030.png')
    assert 'step 0 of 30' in done.stderr and 'loss=' in done.stderr
    return path


def test_it_ends_quietly_where_nobody_reads_on(workdir):
    process = start(['show', workdir / 'samples' / 'step_00000030.png'])
    process.stdout.close()  # as `| head -1` does
    assert process.wait() == 128 + signal.SIGPIPE and process.stderr.read() == ''


def test_from_training_to_samples(workdir, tmp_path):
    out = tmp_path / 'sub' / 'seven'
    arguments = ['--num', 4, '--label', 7, '--guidance', 2, '--steps', 3, '--seed', 1, '--film']
    done = jaxdiff('sample', '--workdir', workdir, '--out', out, *arguments, check=True)
    assert done.stdout.split() == [f'{out}{e}' for e in ('.png', '.npz', '_film.png', '_film.gif')]
    found = np.load(f'{out}.npz')
    assert found['samples'].shape == (4, 8, 8, 1) and set(found['labels']) == {7}
    done = jaxdiff('noise', '--config', 'digits', '--out', tmp_path / 'noise', check=True)
    assert (tmp_path / 'noise.gif').exists()


def test_killed_at_any_moment_it_ends_bit_for_bit_the_same(workdir, tmp_path):
    """kill -9 at random moments of its life, then the same command again, till it ends."""
    path, draw, kills = tmp_path / 'run', random.Random(0), 0
    for _ in range(4):
        process = start(train(path, train__steps=30, train__checkpoint_every=5))
        before = _progress(path)
        while process.poll() is None and _progress(path) == before:
            time.sleep(0.002)  # until it lives, so that the moment is one of work
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    assert start(train(path, train__steps=30, train__checkpoint_every=5)).wait() == 0
    whole, broken = _arrays(workdir), _arrays(path)
    assert whole.keys() == broken.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], broken[name], err_msg=name)
    curves = [_curve(workdir), _curve(path)]
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[1]] == list(range(1, 31))


def _progress(workdir):
    path = workdir / 'metrics.jsonl'
    return path.read_bytes().count(b'\n') if path.exists() else 0


def _curve(workdir):
    records = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [(r['step'], r['loss']) for r in records]


def _arrays(workdir):
    """Every array of the newest checkpoint by its path, read by Orbax alone."""
    import jax
    import orbax.checkpoint as ocp

    newest = max((workdir / 'checkpoints').glob('*'), key=lambda p: int(p.name))
    assert newest.name == '30'
    arrays = {}
    for item in ('params', 'ema', 'optimizer'):
        tree = ocp.StandardCheckpointer().restore(newest / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def refused(capsys, *arguments):
    """The line with which it refuses in this process, of eight devices."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, arguments)))
    stderr = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and len(stderr.splitlines()) == 1, stderr
    return stderr


BAD = {
    'unknown key': (['--config.train.step=3'], "unknown config key 'train.step'; the nearest is"),
    'wrong type': (['--config.train.steps=x'], "'train.steps' must be of type int"),
    'impossible': (['--config.diffusion.schedule=linear'], 'diffusion.schedule must be one of'),
    'no data': (['--config.data.name=', '--config.data.path=/nowhere'], '/nowhere does not exist'),
    'devices': (['--config.train.batch_size=33'], 'must be a multiple of 8 devices'),
    'size': (['--config.net.multipliers=(1,1,1,1,1)'], 'divisible by 16'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_request_is_one_line_and_writes_nothing(name, tmp_path, capsys):
    flags, message = BAD[name]
    command = ['train', '--config', 'digits', '--workdir', tmp_path / 'run', *flags]
    assert message in refused(capsys, *command)
    assert not (tmp_path / 'run').exists()


def test_a_process_of_its_own_refuses_as_well(tmp_path):
    flags, message = BAD['devices']
    done = jaxdiff('train', '--config', 'digits', '--workdir', tmp_path / 'run', *flags)
    assert done.returncode == 2 and not done.stdout and not (tmp_path / 'run').exists()
    assert message.replace('8', '2') in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_config_that_raises_is_one_line(tmp_path, capsys):
    (tmp_path / 'mine.py').write_text('def get_config():\n    return 1 / 0\n')
    command = ['train', '--config', tmp_path / 'mine.py', '--workdir', tmp_path / 'run']
    line = refused(capsys, *command)
    assert line.endswith('mine.py:2 raised ZeroDivisionError: division by zero')
    assert not (tmp_path / 'run').exists()


def test_another_runs_folder_and_missing_checkpoints_and_labels(workdir, capsys):
    before = sorted(workdir.rglob('*'))
    for command, message in (
        (train(workdir, train__steps=30, train__checkpoint_every=5, seed=1), 'seed: 0 -> 1'),
        (['sample', '--workdir', workdir, '--step', 7], 'no checkpoint of step 7'),
        (['sample', '--workdir', workdir, '--label', 'ten'], "no label 'ten'; it has 0"),
        (['sample', '--workdir', workdir.parent], 'no training run in'),
    ):
        assert message in refused(capsys, *command)
    assert sorted(workdir.rglob('*')) == before


def test_unknown_flags_and_commands_are_usage_errors(capsys):
    for given in (['train', '--config', 'digits', '--steps', '3'], ['fly'], []):
        with pytest.raises(SystemExit) as ended:
            cli.main(given)
        assert ended.value.code == 2 and 'usage: jaxdiff' in capsys.readouterr().err


def test_sampling_changes_its_own_section_of_the_config_only(capsys):
    args = arguments.parse(['sample', '--workdir', 'x', '--config.sample.grid=karras'])
    assert args.overrides == [('sample.grid', 'karras')]
    with pytest.raises(SystemExit):
        arguments.parse(['sample', '--workdir', 'x', '--config.train.steps=3'])
    assert 'unrecognized arguments: train.steps' in capsys.readouterr().err
