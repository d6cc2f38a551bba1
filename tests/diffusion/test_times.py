import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion import times


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
