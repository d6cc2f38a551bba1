import json
import math
import shutil

import jax.numpy as jnp
import pytest
from etils import epath

from jaxdiff import build, config as configs, manifest
from jaxdiff.commands.checkpoints import table
from jaxdiff.training import checkpoint

STATE = {
    'params': {'w': jnp.ones((256, 1024))},
    'ema': {'w': jnp.zeros((256, 1024))},
    'health': {'skipped': jnp.zeros(())},
}
LOSSES = {5: 3.0, 10: 1.25, 15: math.nan, 20: 2.0}


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Four checkpoints: the second is the best, the third's loss is no number."""
    config = configs.load('digits')
    made = manifest.manifest(config, build.dataset(config))
    made['devices'] |= {'kind': 'TPU v5e', 'count': 8, 'processes': 2}
    made['commit'] = 'a4cb9c0bb127b2511d881a7ab2e77239561f71da+'
    path = tmp_path_factory.mktemp('saved')
    writer = checkpoint.Writer(epath.Path(path), keep=4)
    for step, loss in LOSSES.items():
        if step == 20:
            made = made | {'config': made['config'] | {'seed': 1}, 'commit': None}
        writer.save(step, STATE, made, loss)
        writer.check(wait=True)
    writer.close()
    return path


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / 'run')


def rows(workdir):
    """The table's lines as dicts by column, by the places of the header's words; the rest."""
    head, *lines = table(str(workdir)).split('\n')
    names = head.replace('saved (UTC)', 'saved_(UTC)').split()
    ends = {name: head.replace(' (', '_(').index(name) + len(name) for name in names}
    found = {}
    for line in lines[: len(LOSSES)]:
        step = int(line.split()[0])
        found[step] = {'line': line, 'loss': line[: ends['loss']].split()[-1]}
        found[step]['MiB'] = float(line[: ends['MiB']].split()[-1])
        found[step]['whole'] = line[head.index('whole') :].split()[0]
    return found, lines[len(LOSSES) :]


def test_a_line_each_with_metrics_size_and_making(workdir):
    found, rest = rows(workdir)
    assert list(found) == [5, 10, 15, 20] and not rest
    assert [row['loss'] for row in found.values()] == ['3', '1.25', 'nan', '2']
    for row in found.values():
        assert 0 < row['MiB'] < 3 and row['whole'] == 'yes'
        assert 'jax 0.' in row['line'] and '8 TPU v5e in 2 processes' in row['line']
    assert 'a4cb9c0+' in found[5]['line'] and 'a4cb9c0' not in found[20]['line']
    digest = found[10]['line'].split()[-2]
    assert digest in found[5]['line'] and digest not in found[20]['line']  # its seed is another


def test_the_newest_and_the_best_are_marked(workdir):
    found, _ = rows(workdir)
    marked = {s: row['line'].split()[-1] for s, row in found.items() if row['line'][-1] in 'tw'}
    assert marked == {10: 'best', 20: 'newest'}
    shutil.rmtree(workdir / 'checkpoints' / '20')
    shutil.rmtree(workdir / 'checkpoints' / '15')
    shutil.rmtree(workdir / 'checkpoints' / '5')
    assert table(str(workdir)).endswith('newest, best')


@pytest.mark.parametrize('name', ['params', 'made', 'metrics', '_CHECKPOINT_METADATA', 'digests'])
def test_a_broken_one_is_listed_told_and_not_marked(workdir, name):
    """Whatever part of the newest and best is lost, or no longer what was written."""
    shutil.rmtree(workdir / 'checkpoints' / '10')
    shutil.copytree(workdir / 'checkpoints' / '5', workdir / 'checkpoints' / '10')
    part = workdir / 'checkpoints' / '20' / name
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    made = workdir / 'checkpoints' / '15' / 'made' / 'metadata'
    made.write_text(made.read_text().replace('"devices"', '"dewices"'))
    found, rest = rows(workdir)
    assert [row['whole'] for row in found.values()] == ['yes', 'yes', 'no', 'no']
    assert found[10]['line'].endswith('newest') and found[5]['line'].endswith('best')
    assert any(line.startswith('step 15 is not whole: made/metadata') for line in rest)
    assert any(line.startswith('step 20 is not whole: ') for line in rest)
    assert '?' in found[15]['line']


def test_other_metrics_have_their_columns(workdir):
    for step, more in {5: {'a_distance': 12.5}, 10: {}, 15: {}, 20: {}}.items():
        path = workdir / 'checkpoints' / str(step) / 'metrics' / 'metrics'
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    head, first, second, *_ = table(str(workdir)).split('\n')
    assert head.split()[:3] == ['step', 'loss', 'a_distance']
    assert first.split()[:3] == ['5', '3', '12.5'] and second.split()[:3] == ['10', '1.25', '?']


def test_what_a_kill_left_half_written_is_no_checkpoint(workdir):
    (workdir / 'checkpoints' / '25.orbax-checkpoint-tmp').mkdir()
    assert list(rows(workdir)[0]) == [5, 10, 15, 20]


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no training run in'):
        table(str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(ValueError, match='no checkpoint in .*train first'):
        table(str(tmp_path))
