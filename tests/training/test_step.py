import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs, data
from jaxdiff.training import parallel, state as states
from jaxdiff.training.step import _mean_over_parts, train_step


def run(devices, steps=20, traces=None, perturb=True, **changes):
    """Losses of a tiny run on so many devices, by pmap."""
    config = configs.load('digits', tiny.overrides(train__steps=20, **changes))
    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    optimizer = build.optimizer(config)
    loss = build.training_loss(config, model)

    def counted(*args):
        if traces is not None:
            traces.append(1)
        return loss(*args)

    step = functools.partial(
        train_step,
        loss=counted,
        optimizer=optimizer,
        key=jax.random.key(1),
        accumulate=config.train.accumulate,
        unroll=True,
    )
    driver = parallel.pmap(step, jax.local_devices()[:devices])
    batches = data.batches(dataset, config.train.batch_size, config.seed, config.data.flip)
    # Away from the zeros that a new network's last layers are, so that all of it matters at once.
    params = build.init(model, jax.random.key(0))
    if perturb:
        params = jax.tree.map(
            lambda x: x + 0.05 * jax.random.normal(jax.random.key(2), x.shape), params
        )
    state = driver.put_state(states.init(params, optimizer))
    losses = []
    for i in range(steps):
        state, metrics = driver.step(state, driver.put_batch(batches[i]))
        losses.append(float(driver.get(metrics)['loss']))
    return np.array(losses), driver.get(state)


def test_a_run_is_traced_once():
    traces = []
    run(2, steps=4, traces=traces)
    assert len(traces) == 1


def test_accumulation_by_a_loop_is_the_same_mean():
    """Accelerators accumulate by `lax.scan`, XLA:CPU by unrolled code."""
    x = jnp.arange(24.0).reshape(12, 2)
    means = [_mean_over_parts(lambda part: part.mean(0), x, 4, unroll) for unroll in (True, False)]
    np.testing.assert_allclose(means, [x.mean(0)] * 2)


def test_the_first_state_is_used_up():
    """Else the device that made it would hold it besides the one that is trained, for the whole run."""
    devices = jax.local_devices()
    driver = parallel.pmap(lambda state, batch, axis_name: (state, {}), devices)
    state = states.init({'w': jnp.arange(3.0)}, build.optimizer(configs.load('digits')))
    kept, trained = jax.tree.map(np.array, state), driver.put_state(state)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))
    jax.tree.map(np.testing.assert_array_equal, driver.get(trained), kept)
    assert trained.params['w'].shape == (len(devices), 3)


def test_the_average_follows_the_parameters():
    _, state = run(1, steps=3)
    moved = jax.tree.leaves(
        jax.tree.map(lambda e, p: float(jnp.abs(e - p).max()), state.ema, state.params)
    )
    assert max(moved) > 0


def test_the_first_loss_is_what_theory_says():
    """A network of zeros has loss E[eps²] = 1 in eps."""
    changes = {'diffusion__prediction': 'eps', 'train__batch_size': 256}
    losses, _ = run(1, steps=1, perturb=False, **changes)
    assert losses[0] == pytest.approx(1, abs=4 * (2 / (256 * 64)) ** 0.5)
