import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.training import health, parallel, state as states
from jaxdiff.training.step import train_step


def quadratic(params, batch, key):
    """(w - x)² + 1 of each example; x = inf has no finite loss, x = 0 no finite gradient."""
    x = batch['x']
    loss = (params['w'] - x) ** 2
    root = jnp.sqrt(jnp.where(x == 0, 0 * params['w'], 1.0))  # at 0 its gradient is not finite
    return loss + root, jnp.where(x > 0, 3.0, -3.0)


def run(rows, devices=1, **settings):
    """The states and records of one step for each row of examples."""
    optimizer = optax.adam(0.1)
    settings = {'loss': quadratic, 'optimizer': optimizer, 'key': jax.random.key(0)} | settings
    driver = parallel.pmap(
        lambda *args, axis_name: train_step(*args, axis_name=axis_name, gammas=(6.94,), **settings),
        jax.devices()[:devices],
    )
    state = driver.put_state(states.init({'w': jnp.float32(1)}, optimizer, profiles=1))
    kept, records = [], []
    for row in np.asarray(rows, np.float32):
        state, metrics = driver.step(state, driver.put_batch({'x': row}))
        kept.append(jax.tree.map(np.array, driver.get(state)))
        records.append(jax.device_get(driver.get(metrics)))
    return kept, records


@pytest.mark.parametrize('bad', [np.inf, np.nan, 0.0])
@pytest.mark.parametrize('devices', [1, 8])
def test_a_step_without_finite_numbers_is_skipped_everywhere(bad, devices):
    """One bad example on one device: parameters, average and moments stay on all, bit for bit."""
    good = np.linspace(1, 2, 8)
    broken = np.where(np.arange(8) == 5, bad, good)
    (one, two, three), records = run([good, broken, good], devices)
    for name in ('params', 'ema', 'optimizer'):
        jax.tree.map(np.testing.assert_array_equal, getattr(one, name), getattr(two, name))
    assert two.step == 2 and two.health == (1, 1, 0)
    assert three.health == (1, 0, 0) and three.params['w'] != two.params['w']
    assert np.isfinite(three.params['w']) and np.isfinite(three.profiles[0]['w'])
    assert [int(r['in_row']) for r in records] == [0, 1, 0]


def test_what_is_logged_leaves_skipped_steps_out():
    _, records = run([[2, 4], [np.nan, 4], [-3, 3]])
    numbers = health.summary(records)
    assert numbers['skipped_steps'] == 1
    assert numbers['loss'] == pytest.approx(np.mean([records[0]['loss'], records[2]['loss']]))
    assert set(numbers) & {f'loss_logsnr_{b}' for b in health.BINS} == {
        'loss_logsnr_-6_to_-2',
        'loss_logsnr_2_to_6',
    }
    assert numbers['loss_logsnr_-6_to_-2'] == pytest.approx(4**2 + 1, rel=0.1)  # of -3, w is near 1
    only_bad = health.summary(records[1:2])
    assert np.isnan(only_bad['loss']) and only_bad['skipped_steps'] == 1


def test_noise_levels_split_the_mean_loss():
    losses = jnp.arange(6.0)
    levels = jnp.array([-np.inf, -5.0, -2.0, 1.9, 6.0, np.inf])
    split = health.by_noise(losses, levels)
    np.testing.assert_allclose(split['loss_sum'], np.array([0, 1, 2 + 3, 0, 4 + 5]) / 6)
    np.testing.assert_allclose(split['share'], np.array([1, 1, 2, 0, 2]) / 6)


def test_a_streak_is_found_wherever_it_began():
    def records(*counts):
        return [{'in_row': np.int32(n)} for n in counts]

    assert health.first_of_streak(records(0, 1, 2, 3, 0), last=15, limit=3) == 12
    assert health.first_of_streak(records(4, 5, 0), last=15, limit=5) == 10  # before the record
    assert health.first_of_streak(records(1, 2, 0, 1, 2), last=15, limit=3) is None


def test_a_step_of_ten_times_the_usual_time_is_reported(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(health.time, 'perf_counter', lambda: clock[0])
    watch, reports = health.Watch(), []
    for step, seconds in enumerate([30.0] + [1.0] * 20 + [9.9, 11.0] + [1.0] * 3):
        clock[0] += seconds
        if found := watch.tick():
            reports.append((step, *found))
    assert reports == [(22, pytest.approx(11), pytest.approx(1))] and watch.slow == 1
    clock[0] += 100  # a picture was drawn
    watch.restart()
    clock[0] += 1
    assert watch.tick() is None


def test_steps_whose_data_comes_in_bursts_are_usual(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(health.time, 'perf_counter', lambda: clock[0])
    watch = health.Watch()
    for step in range(200):
        clock[0] += 0.001 if step % 8 else 1.0
        assert watch.tick() is None
    clock[0] += 20
    assert watch.tick() is not None


def test_the_examples_at_fault_are_named():
    batch = {'x': np.array([1, 2, np.inf, 3, 0, 4], np.float32)}
    params = {'w': jnp.float32(1)}
    told = health.explain(quadratic, params, batch, jax.random.key(0), [10, 11, 12, 13, 14, 15])
    assert 'example 12 at log SNR 3.00 (loss inf, gradient' in told
    assert 'example 14 at log SNR -3.00 (loss 1, gradient nan' in told
    assert '11' not in told
    batch = {'x': np.array([1, 9, 2], np.float32)}
    told = health.explain(quadratic, params, batch, jax.random.key(0), [10, 11, 12])
    assert 'each example alone is finite' in told and 'norm 16, that of example 11' in told
