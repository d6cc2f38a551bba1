import functools

import jax
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import step
from jaxdiff.nets import linear


def made(config='digits', shape=(8, 8, 1), **changes):
    config = configs.load(config, tiny.overrides(**changes))
    return config, build.model(config, shape, 256, 10)


def test_the_state_has_all_that_the_config_asks_for():
    config, model = made(ema__profiles='(0.05, 0.1)')
    state = jax.eval_shape(functools.partial(step.train_state, config, model), jax.random.key(0))
    shapes = jax.tree.map(lambda x: x.shape, state.params)
    for average in (state.ema, *state.profiles):
        assert jax.tree.map(lambda x: x.shape, average) == shapes
    assert len(state.profiles) == 2


def test_the_step_takes_the_state_and_the_batch_to_the_next_state():
    config, model = made(train__accumulate=2)
    state = jax.eval_shape(functools.partial(step.train_state, config, model), jax.random.key(0))
    batch = step.batch_shapes(config, model, True)
    after, metrics = jax.eval_shape(
        step.train_step(config, model, jax.random.key(1), jax.devices()), state, batch
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert {'loss', 'grad_norm'} <= set(metrics)


def test_kernels_learn_from_parts_of_the_batch_with_pmap_alone(monkeypatch):
    """A mesh's batch is sharded where it would be parted."""
    monkeypatch.setattr(linear, 'CACHE', 1)
    found = []
    for parallel in ('pmap', 'mesh'):
        config, model = made(train__parallel=parallel, train__batch_size=4)
        init = functools.partial(step.train_state, config, model)
        state = jax.eval_shape(init, jax.random.key(0))
        one = jax.jit(step.train_step(config, model, jax.random.key(1), jax.devices()))
        text = one.lower(state, step.batch_shapes(config, model, True)).as_text()
        found.append(text.count('stablehlo.convolution'))
    assert found[0] > 1.5 * found[1] > 0


def test_the_work_is_the_models_near_a_hand_count():
    """Forward, and twice that backward, 2 b h w |kernel| each, of the convolutions.

    At one resolution, and wide enough that little else counts. Accumulation and remat change how
    it is done, not what.
    """
    changes = {'net__multipliers': '(1,)', 'net__channels': 64, 'train__batch_size': 16}
    otherwise = made(shape=(16, 16, 1), **changes, train__accumulate=2, net__remat=True)
    config, model = made(shape=(16, 16, 1), **changes)
    params = jax.eval_shape(functools.partial(build.init, model), jax.random.key(0))
    kernels = [p.size for p in jax.tree.leaves(params) if p.ndim == 4]
    hand = 3 * 2 * 16 * 16 * 16 * sum(kernels)
    found = step.flops(config, model)
    assert hand < found < 1.35 * hand and found == step.flops(*otherwise)
