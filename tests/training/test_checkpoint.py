import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from jaxdiff.training import checkpoint, parallel, state as states


def make(seed):
    params = {'w': jax.random.normal(jax.random.key(seed), (3, 2)), 'b': jnp.ones(2, jnp.bfloat16)}
    state = states.init(params, optax.adam(1e-3), profiles=1)
    return state._replace(step=jnp.int32(seed))


def like():
    return parallel.placed(make(0), lambda _: parallel.copy_in_each_process())


def assert_restored(place, step):
    state = checkpoint.restore_state(place, step, like())
    jax.tree.map(np.testing.assert_array_equal, state, make(step))
    assert state.params['b'].dtype == jnp.bfloat16


def write(workdir, losses, first=1, keep=2):
    writer = checkpoint.Writer(epath.Path(workdir), keep)
    for step, loss in enumerate(losses, first):
        checkpoint.save_state(writer, make(step), loss, {'config': {'step': step}})
        writer.check(wait=True)
    writer.close()


@pytest.fixture
def saved(tmp_path):
    """The folder of checkpoints of steps 1 to 5, the second the best by loss."""
    write(tmp_path, [3.0, 1.0, 2.0, 4.0, 5.0])
    return checkpoint.folder(epath.Path(tmp_path))


def test_what_is_saved_comes_back_bit_for_bit(saved):
    assert checkpoint.choose(saved, None) == 5
    assert_restored(saved, 5)
    assert checkpoint.made(saved, 5) == {'config': {'step': 5}}


def test_the_newest_and_the_best_are_kept(saved):
    assert checkpoint.steps_in(saved) == [2, 4, 5]


def test_they_are_kept_across_restarts(saved, tmp_path):
    """What an earlier process wrote counts, and a loss that is no number is never the best."""
    write(tmp_path, [9.0, float('nan'), 8.0], first=6)
    assert checkpoint.steps_in(saved) == [2, 7, 8]


def test_one_item_alone_is_read(saved):
    params = checkpoint.restore(saved, 2, {'params': make(0).params})
    assert set(params) == {'params'}
    np.testing.assert_array_equal(params['params']['w'], make(2).params['w'])


def test_steps_are_chosen_or_refused(saved, tmp_path):
    assert checkpoint.choose(saved, 2) == 2
    with pytest.raises(ValueError, match='no checkpoint of step 3 .*there are 2, 4, 5'):
        checkpoint.choose(saved, 3)
    (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
    with pytest.raises(ValueError, match='no checkpoint in .*train first'):
        checkpoint.choose(tmp_path / 'empty' / 'checkpoints', None)


def flip(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.integers(len(content))] ^= 1 << draw.integers(8)
    path.write_bytes(content)


def truncate(path, draw):
    os.truncate(path, draw.integers(path.stat().st_size))


def remove(path, draw):
    path.unlink()


@pytest.mark.parametrize('damage', [flip, truncate, remove])
def test_damage_to_any_file_is_found_and_the_one_before_used(tmp_path, capsys, damage):
    write(tmp_path, [2.0, 1.0])
    place = checkpoint.folder(epath.Path(tmp_path))
    names = [p.relative_to(place / '2') for p in _walk(place / '2')]
    assert len(names) > 20
    draw = np.random.default_rng(0)
    for name in map(str, names):
        if name == 'commit_success.txt':  # Orbax's mark, whose content is never read
            continue
        path = tmp_path / 'checkpoints' / '2' / name
        content = path.read_bytes()
        damage(path, draw)
        assert checkpoint.choose(place, None) == 1, name
        with pytest.raises(ValueError, match='no whole checkpoint in .*step 2'):
            checkpoint.choose(place, 2)
        path.write_bytes(content)
    assert checkpoint.choose(place, 2) == 2
    damage(tmp_path / 'checkpoints' / '2' / 'ema' / '_METADATA', draw)
    capsys.readouterr()
    assert checkpoint.settle(epath.Path(tmp_path)) == 1
    assert 'checkpoints/2 is broken and not used: ema/_METADATA is' in capsys.readouterr().err
    assert checkpoint.steps_in(place) == [1]
    assert (tmp_path / 'broken' / '2_0').exists()
    assert_restored(place, 1)
    write(tmp_path, [0.5], first=2)  # the run goes on over it
    assert checkpoint.settle(epath.Path(tmp_path)) == 2


@pytest.mark.parametrize('name', ['metrics/metrics', '_CHECKPOINT_METADATA', 'params/_METADATA'])
def test_a_kept_checkpoint_that_is_damaged_does_not_hinder_the_run(tmp_path, name):
    """Orbax reads the metrics of all checkpoints as soon as it is to write another."""
    write(tmp_path, [1.0, 2.0])
    os.truncate(tmp_path / 'checkpoints' / '1' / name, 5)
    assert checkpoint.settle(epath.Path(tmp_path)) == 2
    write(tmp_path, [3.0], first=3)


def test_what_orbax_adds_to_its_metadata_late_is_no_damage(tmp_path):
    """On a busy machine the digest is of what is there before."""
    write(tmp_path, [1.0])
    place = checkpoint.folder(epath.Path(tmp_path))
    path = place / '1' / '_CHECKPOINT_METADATA'
    told = json.loads(path.read_text())
    assert told['item_handlers'] and told['commit_timestamp_nsecs']
    for late in ('commit_timestamp_nsecs', 'item_handlers'):
        path.write_text(json.dumps(told | {late: None}))
        assert not checkpoint.problems(place, 1, ('params',))
    path.write_text(json.dumps(told | {'init_timestamp_nsecs': 1}))
    assert checkpoint.problems(place, 1, ('params',)) == [f'{path.name} is not as it was written']


def write_both(workdir, steps, keep=2):
    """Checkpoints and snapshots, without a wait between them."""
    kinds = (checkpoint.CHECKPOINTS, checkpoint.SNAPSHOTS)
    writer = checkpoint.Writer(epath.Path(workdir), keep, kinds)
    for step in steps:
        writer.save(step, {'profile_0': make(step).ema}, {}, kind=checkpoint.SNAPSHOTS)
        checkpoint.save_state(writer, make(step), 1.0, {})
    writer.check(wait=True)
    writer.close()


def test_both_kinds_are_saved_at_once(tmp_path):
    """Of the snapshots all are kept, and a damaged one hinders no other."""
    write_both(tmp_path, range(1, 13))
    checkpoints, snapshots = (
        checkpoint.folder(epath.Path(tmp_path), kind)
        for kind in (checkpoint.CHECKPOINTS, checkpoint.SNAPSHOTS)
    )
    assert checkpoint.steps_in(checkpoints) == [11, 12]
    assert checkpoint.steps_in(snapshots) == list(range(1, 13))
    assert_restored(checkpoints, 12)
    for step in range(1, 13):
        assert not checkpoint.problems(snapshots, step, ('profile_0', 'made'))
    for step, name in ((4, '_CHECKPOINT_METADATA'), (5, 'profile_0/_METADATA')):
        os.truncate(tmp_path / 'ema' / str(step) / name, 5)
        assert checkpoint.problems(snapshots, step, ('profile_0',))
    assert checkpoint.settle(epath.Path(tmp_path)) == 12
    write_both(tmp_path, [13])
    assert checkpoint.steps_in(snapshots) == list(range(1, 14))


def test_to_go_back_is_to_the_newest_whole_one_before(tmp_path, capsys):
    """What is newer goes, of both kinds, and what is broken aside."""
    write_both(tmp_path, [1, 2, 3, 4], keep=4)
    assert checkpoint.settle(epath.Path(tmp_path), before=4) == 3
    shutil.rmtree(tmp_path / 'checkpoints' / '2' / 'ema')
    os.truncate(tmp_path / 'checkpoints' / '3' / 'ema' / '_METADATA', 5)
    capsys.readouterr()
    assert checkpoint.settle(epath.Path(tmp_path), before=4) == 1
    told = capsys.readouterr().err
    assert 'checkpoints/3 is broken' in told and 'checkpoints/2 is broken' in told
    for kind in (checkpoint.CHECKPOINTS, checkpoint.SNAPSHOTS):
        assert checkpoint.steps_in(checkpoint.folder(epath.Path(tmp_path), kind)) == [1]
    assert sorted(p.name for p in (tmp_path / 'broken').iterdir()) == ['2_0', '3_0']


def test_of_those_after_the_bad_steps_the_first_is_taken_where_there_is_none_before(tmp_path):
    """A preemption saved it among the bad steps: its parameters are as they were before."""
    write(tmp_path, [1.0, 1.0, 1.0], first=5, keep=3)
    assert checkpoint.settle(epath.Path(tmp_path), before=4) == 5
    assert checkpoint.steps_in(checkpoint.folder(epath.Path(tmp_path))) == [5]


def test_what_was_set_aside_before_stays(tmp_path):
    write(tmp_path, [1.0, 1.0])
    for name in ('2_0', '2_2'):
        (tmp_path / 'broken' / name).mkdir(parents=True)
    os.truncate(tmp_path / 'checkpoints' / '2' / 'made' / 'metadata', 5)
    assert checkpoint.settle(epath.Path(tmp_path)) == 1
    assert (tmp_path / 'broken' / '2_1' / 'made').exists()


def test_what_a_bucket_does_not_mark_as_committed_is_none(saved, monkeypatch):
    """There a checkpoint that is being written has its name already."""
    (saved / '5' / 'commit_success.txt').unlink()
    assert checkpoint.steps_in(saved) == [2, 4, 5]
    monkeypatch.setattr(checkpoint.digest, 'in_bucket', lambda path: True)
    assert checkpoint.steps_in(saved) == [2, 4]


def test_all_damaged_is_an_error_that_says_so(tmp_path):
    write(tmp_path, [2.0, 1.0])
    for step in (1, 2):
        flip(
            tmp_path / 'checkpoints' / str(step) / 'params' / '_METADATA', np.random.default_rng(0)
        )
    with pytest.raises(OSError, match='no checkpoint in .* is whole .step 2: params/_METADATA'):
        checkpoint.settle(epath.Path(tmp_path))


def test_an_item_that_was_never_written_is_missed(saved):
    (found,) = checkpoint.problems(saved, 5, ('params', 'profile_0', 'made'))
    assert found == 'profile_0 is missing'


def test_damage_to_what_is_not_read_does_not_matter(saved, tmp_path):
    flip(tmp_path / 'checkpoints' / '5' / 'optimizer' / '_METADATA', np.random.default_rng(0))
    assert checkpoint.choose(saved, 5, ('params', 'made')) == 5


def test_half_a_checkpoint_is_no_checkpoint(tmp_path):
    """What a kill in the middle of a save, or of deleting an old one, leaves behind."""
    write(tmp_path, [3.0, 2.0, 1.0], keep=3)
    for name in ('1/params', '1/ema', '3/ema'):
        shutil.rmtree(tmp_path / 'checkpoints' / name)
    (tmp_path / 'checkpoints' / '1' / 'commit_success.txt').unlink()
    (tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp' / 'params').mkdir(parents=True)
    assert checkpoint.settle(epath.Path(tmp_path)) == 2
    write(tmp_path, [1.5], first=3, keep=4)
    assert checkpoint.problems(checkpoint.folder(epath.Path(tmp_path)), 1, ('params', 'made'))
    assert not (tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp').exists()


def test_a_failed_save_is_an_error_and_leaves_the_others(tmp_path, monkeypatch):
    write(tmp_path, [3.0, 2.0])
    place = checkpoint.folder(epath.Path(tmp_path))
    writer = checkpoint.Writer(epath.Path(tmp_path), 2)

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.digest, '_write', full)
        with pytest.raises(OSError, match='could not be written to .*No space left'):
            checkpoint.save_state(writer, make(3), 1.0, {})
            writer.check(wait=True)
    writer.close()
    assert checkpoint.settle(epath.Path(tmp_path)) == 2
    assert_restored(place, 2)


def test_each_process_digests_its_own_files(saved):
    """Here one: its list holds all but itself and the mark of the commit."""
    folder = saved / '5'
    record = json.loads((folder / 'digests' / 'process_0.json').read_text())
    present = {str(p.relative_to(folder)) for p in _walk(folder)}
    assert set(record['files']) == present - {'digests/process_0.json', 'commit_success.txt'}
    assert record['processes'] == 1


def _walk(folder):
    for path in folder.iterdir():
        yield from _walk(path) if path.is_dir() else [path]
