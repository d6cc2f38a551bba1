import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import importance

STEPS = 50


def size(t):
    """A made-up loss: large at few times, as the bound's is."""
    return 0.05 + 5 * jnp.exp(-t / 0.05)


def filled(noise=0.3, length=10):
    """A history of that loss with some noise, each time seen `length` times."""
    t = jnp.tile((jnp.arange(STEPS) + 1) / STEPS, length)
    spread = 1 + noise * jax.random.normal(jax.random.key(0), t.shape)
    return jax.jit(importance.update)(importance.init(STEPS, length), t, size(t) * spread)


def test_the_last_losses_are_kept_and_the_oldest_forgotten():
    """Against a plain Python list per time, with many of one time in a batch."""
    history, lists = importance.init(4, 3), [[] for _ in range(4)]
    update = jax.jit(importance.update)
    for i, size in enumerate((1, 5, 12, 3, 7)):
        k = np.random.default_rng(i).integers(0, 4, size)
        losses = np.random.default_rng(10 + i).uniform(size=size).astype(np.float32)
        history = update(history, jnp.asarray((k + 1) / 4), losses)
        for j, value in zip(k, losses, strict=True):
            lists[j].append(value)
    for row, count, seen in zip(history.losses, history.counts, lists, strict=True):
        assert count == len(seen)
        np.testing.assert_array_equal(np.sort(row), np.sort(seen[-3:]))


def test_times_are_uniform_until_every_time_is_known():
    t = (jnp.arange(STEPS) + 1) / STEPS
    history = importance.init(STEPS, 2)
    for _ in range(2):
        np.testing.assert_allclose(importance.probabilities(history), 1 / STEPS, rtol=1e-6)
        drawn, weight = importance.draw((jnp.arange(STEPS) + 0.5) / STEPS, history)
        np.testing.assert_allclose(drawn, t)
        np.testing.assert_allclose(weight, 1, rtol=1e-5)
        history = jax.jit(importance.update)(history, t, size(t))
    np.testing.assert_allclose(
        importance.probabilities(history, uniform=0.0), size(t) / size(t).sum(), rtol=1e-5
    )


def test_losses_that_are_all_zero_leave_the_times_uniform():
    t = (jnp.arange(STEPS) + 1) / STEPS
    history = importance.update(importance.init(STEPS, 1), t, 0 * t)
    np.testing.assert_allclose(importance.probabilities(history), 1 / STEPS, rtol=1e-6)


def test_draws_follow_the_probabilities():
    history = filled()
    p = importance.probabilities(history)
    assert p.sum() == pytest.approx(1, abs=1e-6) and p.min() >= 1e-3 / STEPS * 0.999
    t, weight = jax.jit(importance.draw)((jnp.arange(100_000) + 0.5) / 100_000, history)
    i = np.round(np.asarray(t) * STEPS).astype(int) - 1
    np.testing.assert_allclose(np.bincount(i, minlength=STEPS) / 100_000, p, atol=2e-5)
    np.testing.assert_allclose(weight, 1 / (p[i] * STEPS), rtol=1e-5)


def test_the_weighted_loss_is_unbiased_and_varies_less():
    """Its exact mean and variance from p itself, and then from draws within 4 standard errors."""
    history = filled()
    t = (jnp.arange(STEPS) + 1) / STEPS
    p, losses = np.asarray(importance.probabilities(history)), np.asarray(size(t))
    weighted = losses / (p * STEPS)
    mean, before, after = losses.mean(), losses.var(), p @ (weighted - losses.mean()) ** 2
    assert p @ weighted == pytest.approx(mean, rel=1e-5)
    assert after < before / 20
    drawn, weight = jax.jit(importance.draw)(
        jax.random.uniform(jax.random.key(1), (20_000,)), history
    )
    found = np.asarray(weight * size(drawn))
    assert abs(found.mean() - mean) < 4 * (after / len(found)) ** 0.5
    assert found.var() == pytest.approx(after, rel=0.2)


def test_many_devices_keep_one_history():
    """As the docstring says: each device adds the losses of all."""
    devices = 4
    k = np.random.default_rng(0).integers(0, STEPS, (devices, 16))
    t = jnp.asarray((k + 1) / STEPS)
    losses = jax.random.uniform(jax.random.key(0), t.shape)

    @functools.partial(jax.pmap, axis_name='batch', devices=jax.devices()[:devices])
    def update(history, t, losses):
        t, losses = jax.lax.all_gather((t, losses), 'batch', tiled=True)
        return importance.update(history, t, losses)

    start = importance.init(STEPS, 3)
    copies = update(jax.tree.map(lambda x: jnp.stack([x] * devices), start), t, losses)
    expected = jax.jit(importance.update)(start, t.ravel(), losses.ravel())
    for copy, one in zip(copies, expected, strict=True):
        for device in range(devices):
            np.testing.assert_array_equal(copy[device], one)


@pytest.mark.parametrize('steps, length', [(0, 10), (10, 0)])
def test_bad_sizes_are_refused(steps, length):
    with pytest.raises(ValueError, match='1 or more'):
        importance.init(steps, length)
