import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdiff.diffusion import schedule, times


def test_low_discrepancy_covers_the_unit_interval_evenly():
    u = times.low_discrepancy(jax.random.key(3), jnp.arange(64), 64)
    gaps = np.diff(np.sort(u))
    np.testing.assert_allclose(gaps, 1 / 64, atol=1e-6)
    assert 0 <= u.min() and u.max() < 1


def test_low_discrepancy_is_uniform_for_each_example():
    keys = jax.random.split(jax.random.key(0), 20_000)
    u = jax.vmap(times.low_discrepancy, (0, None, None))(keys, jnp.array([37]), 64)
    assert abs(u.mean() - 0.5) < 4 / (12 * 20_000) ** 0.5
    assert abs(u.var() - 1 / 12) < 0.003


def test_a_part_of_the_batch_gets_its_own_times():
    key, index = jax.random.key(1), jnp.arange(8)
    whole = times.low_discrepancy(key, index, 8)
    np.testing.assert_array_equal(times.low_discrepancy(key, index[4:], 8), whole[4:])
    keys = jax.random.split(key, 8)
    np.testing.assert_array_equal(times.independent(keys[2:]), times.independent(keys)[2:])


def test_quantiles():
    u = jnp.array([0.0, 0.25, 0.9999999])
    np.testing.assert_allclose(times.uniform(u, 0.2), [0.2, 0.4, 1.0], rtol=1e-6)
    np.testing.assert_allclose(times.discrete(u, 4), [0.25, 0.5, 1.0])


SCHEDULES = {
    'cosine': schedule.cosine(),
    'vp': schedule.vp(),
    'edm': schedule.edm(),
    'short': schedule.edm(1.0),  # ends well inside the normal distribution
}


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_log_normal_times_have_edms_noise(name):
    """The noise at u is the normal quantile of the share of u, cut where the schedule ends."""
    make, u = SCHEDULES[name], np.linspace(0.001, 0.999, 41)
    normal = scipy.stats.norm(-1.2, 1.2)
    end = float(-schedule.logsnr(make, jnp.asarray(1.0)) / 2)
    expected = normal.ppf(u * normal.cdf(end))
    t = times.log_normal(jnp.asarray(u), make)
    np.testing.assert_allclose(-schedule.logsnr(make, t) / 2, expected, atol=1e-7)
    assert np.all((t > 0) & (t < 1))


@pytest.mark.usefixtures('x64')
def test_logit_normal_times_have_a_normal_logit():
    u = np.linspace(0.001, 0.999, 41)
    t = times.logit_normal(jnp.asarray(u), 0.5, 1.3)
    expected = scipy.stats.norm(0.5, 1.3).ppf(u)
    np.testing.assert_allclose(scipy.special.logit(t), expected, atol=1e-9)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', [*SCHEDULES, 'within', 'logit'])
def test_densities_belong_to_their_quantiles(name):
    """dt/du · p(t) = 1, the derivative by central differences, and so the integral of p is one."""
    if name == 'logit':
        quantile = lambda u: times.logit_normal(u, 0.5, 1.3)
        density = lambda t: times.logit_normal_density(t, 0.5, 1.3)
    else:
        make = SCHEDULES.get(name, schedule.cosine())
        ends = (0.1, 0.6) if name == 'within' else (0.0, 1.0)
        quantile = lambda u: times.log_normal(u, make, -1.2, 1.2, *ends)
        density = lambda t: times.log_normal_density(t, make, -1.2, 1.2, *ends)
    u, h = jnp.linspace(0.01, 0.99, 41), 1e-4
    slope = (quantile(u + h) - quantile(u - h)) / (2 * h)
    np.testing.assert_allclose(slope * density(quantile(u)), 1, rtol=1e-4)
    if name == 'within':
        np.testing.assert_allclose(quantile(jnp.asarray([0.0, 1.0])), ends, atol=1e-6)


def test_normal_times_are_inside_the_chain_at_both_ends_of_u():
    u = jnp.asarray([0.0, 1 - 2**-24])
    assert np.all((times.logit_normal(u) > 0) & (times.logit_normal(u) < 1))
    for make in SCHEDULES.values():
        t = times.log_normal(u, make)
        assert t.dtype == jnp.float32 and np.all((t > 0) & (t <= 1))
        assert np.all(make(t)[1] > 0)


def test_a_mean_over_log_normal_times_is_that_over_uniform_ones():
    """∫ cos(t) dt = sin(1) from times drawn by log_normal, each divided by its density."""
    u = (jnp.arange(20_000) + 0.5) / 20_000
    t = times.log_normal(u, schedule.cosine(), mean=0.0, std=2.0)
    density = times.log_normal_density(t, schedule.cosine(), mean=0.0, std=2.0)
    assert jnp.mean(jnp.cos(t) / density) == pytest.approx(np.sin(1), rel=2e-3)


def test_a_ladder_takes_its_levels_equally_often():
    levels = times.noise_ladder(schedule.edm(), 10, 1.0, 0.01)
    noise = np.exp(-schedule.logsnr(schedule.edm(), levels) / 2)
    np.testing.assert_allclose(noise, np.geomspace(1, 0.01, 10), rtol=1e-4)  # NCSN's own
    drawn = times.ladder((jnp.arange(1000) + 0.5) / 1000, levels)
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.sort(levels))
    np.testing.assert_array_equal(counts, 100)
    assert (
        times.ladder(jnp.asarray([0.0, 1 - 2**-24]), levels).tolist()
        == levels[jnp.asarray([0, 9])].tolist()
    )


@pytest.mark.parametrize(
    'levels, high, low', [(1, 1.0, 0.1), (10, 0.1, 1.0), (10, 1.0, 0.0), (10, 90.0, 0.1)]
)
def test_bad_ladders_are_refused(levels, high, low):
    with pytest.raises(ValueError, match='sigma_max'):
        times.noise_ladder(schedule.edm(80.0), levels, high, low)
