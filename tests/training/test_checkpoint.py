import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from jaxdiff.training import checkpoint, state as states


def make(seed):
    params = {'w': jax.random.normal(jax.random.key(seed), (3, 2)), 'b': jnp.ones(2, jnp.bfloat16)}
    return states.init(params, optax.adam(1e-3))


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 1 to 5, the second the best by loss."""
    checkpoints = checkpoint.manager(epath.Path(tmp_path), keep=2)
    for step, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0], 1):
        state = make(step)._replace(step=jnp.int32(step))
        checkpoint.save(checkpoints, state, loss, {'config': {'step': step}})
    checkpoints.wait_until_finished()
    yield checkpoints
    checkpoints.close()


def test_what_is_saved_comes_back_bit_for_bit(saved):
    state = checkpoint.restore_state(saved, make(0))
    assert state.step == 5
    jax.tree.map(np.testing.assert_array_equal, state, make(5)._replace(step=jnp.int32(5)))
    assert state.params['b'].dtype == jnp.bfloat16
    assert checkpoint.made(saved, 5) == {'config': {'step': 5}}


def test_the_newest_and_the_best_are_kept(saved):
    assert sorted(saved.all_steps()) == [2, 4, 5]


def test_they_are_kept_across_restarts(saved, tmp_path):
    """What an earlier process wrote counts, and a loss that is no number is never the best."""
    saved.close()
    again = checkpoint.manager(epath.Path(tmp_path), keep=2)
    for step, loss in enumerate([9.0, float('nan'), 8.0], 6):
        checkpoint.save(again, make(step)._replace(step=jnp.int32(step)), loss, {})
        again.wait_until_finished()
    assert sorted(again.all_steps()) == [2, 7, 8]
    again.close()


def test_half_a_checkpoint_is_not_chosen(saved, tmp_path):
    shutil.rmtree(tmp_path / 'checkpoints' / '4' / 'ema')  # a kill in the middle of deleting it
    with pytest.raises(ValueError, match='there are 2, 5'):
        checkpoint.choose(saved, 4)


def test_one_item_alone_is_read(saved):
    params = checkpoint.restore(saved, 2, {'params': make(0).params})
    assert set(params) == {'params'}
    np.testing.assert_array_equal(params['params']['w'], make(2).params['w'])


def test_steps_are_chosen_or_refused(saved, tmp_path):
    assert checkpoint.choose(saved, None) == 5
    assert checkpoint.choose(saved, 2) == 2
    with pytest.raises(ValueError, match='no checkpoint of step 3 .*there are 2, 4, 5'):
        checkpoint.choose(saved, 3)
    (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
    with pytest.raises(ValueError, match='no checkpoint in .*train first'):
        checkpoint.choose(checkpoint.manager(epath.Path(tmp_path) / 'empty'), None)
