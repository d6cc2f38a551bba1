import shutil

import jax
import numpy as np
import pytest
import tiny

from jaxdiff import config as configs
from jaxdiff.commands import run as runs, sample, train


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp('averages') / 'run'
    changes = {
        'ema__profiles': '(0.05, 0.1)',
        'ema__snapshot_every': 2,
        'optimizer__decay': 'constant',
    }
    train.run(train.prepare(configs.load('digits', tiny.overrides(**changes)), str(path)))
    return path


def read(workdir, **options):
    return jax.device_get(runs.parameters(runs.find(str(workdir), **options)))


def test_a_tracked_width_is_found_again_from_the_snapshots(workdir):
    """The profile of width 0.1 that the checkpoint itself holds, from those kept apart."""
    kept = tiny.newest(workdir)[1]['profiles'][1]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), read(workdir, ema_width=0.1), kept
    )


def test_a_wider_average_is_farther_from_the_last_parameters(workdir):
    last = read(workdir, ema=False)

    def distance(width):
        gaps = jax.tree.map(np.subtract, read(workdir, ema_width=width), last)
        return np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(gaps)))

    assert 0 < distance(0.05) < distance(0.08) < distance(0.15)


@pytest.mark.parametrize('ema_width', [None, 0.08])
def test_parameters_are_read_sharded_where_the_run_was(workdir, tmp_path, monkeypatch, ema_width):
    """Each array straight to the devices that it is shared among, averages too."""
    whole = read(workdir, ema_width=ema_width)
    made = tiny.newest(workdir)[1]['made']
    made['config']['train'] |= {'parallel': 'mesh', 'fsdp': 4}
    monkeypatch.setattr(runs.checkpoint, 'made', lambda place, step: made)
    found = runs.parameters(runs.find(str(workdir), ema_width=ema_width))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), whole)
    largest = max(jax.tree.leaves(found), key=lambda x: x.size)
    assert largest.sharding.mesh.shape == {'data': 2, 'fsdp': 4}
    assert largest.addressable_shards[0].data.size == largest.size // 4


def test_a_damaged_snapshot_is_left_out(workdir, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / 'run')
    (tmp_path / 'run' / 'ema' / '2' / 'profile_1' / '_METADATA').write_text('')
    found = read(tmp_path / 'run', ema_width=0.1)
    assert 'ema/2 is broken and not used: profile_1/_METADATA is' in capsys.readouterr().err
    kept = tiny.newest(workdir)[1]['profiles'][1]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, kept)


def test_samples_of_a_width_say_so(workdir, tmp_path):
    job = sample.prepare(
        str(workdir), [('sample.num', '2')], ema_width=0.08, out=str(tmp_path / 'x')
    )
    assert job.made['parameters'] == 'ema0.08'
    assert all(path.exists() for path in sample.run(job))


def test_what_cannot_be_averaged_is_refused(workdir, tmp_path, capsys):
    with pytest.raises(ValueError, match='must be above 0 and below 0.2887'):
        runs.find(str(workdir), ema_width=0.3)
    shutil.copytree(workdir, tmp_path / 'run')
    for step in (4, 6):
        shutil.rmtree(tmp_path / 'run' / 'ema' / str(step))
    read(tmp_path / 'run', ema_width=0.1)
    assert 'of width 0.1 at step 6 is missed by' in capsys.readouterr().err
    shutil.rmtree(tmp_path / 'run' / 'ema')
    with pytest.raises(ValueError, match='no whole snapshot of the profiles up to step 6'):
        read(tmp_path / 'run', ema_width=0.1)


def test_a_run_without_profiles_has_one_average(workdir, monkeypatch):
    made = tiny.newest(workdir)[1]['made']
    made['config']['ema']['profiles'] = []
    monkeypatch.setattr(runs.checkpoint, 'made', lambda place, step: made)
    with pytest.raises(ValueError, match='needs a run that was trained with ema.profiles'):
        runs.find(str(workdir), ema_width=0.1)
