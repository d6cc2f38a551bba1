import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import names


@pytest.mark.parametrize(
    'overrides, message',
    [
        ({'net.attention': '(5,)'}, r'must be among the sizes that the network meets: \[8, 4\]'),
        ({'net.heads': '3'}, 'channels divisible by heads'),
        ({'net.channels': '9'}, 'channels must be even'),
        ({'net.multipliers': '(1, 1, 1, 1, 1)'}, 'divisible by 16'),
    ],
)
def test_networks_that_cannot_be_are_refused(overrides, message):
    config = configs.load('digits', overrides.items())
    with pytest.raises(ValueError, match=message):
        build.model(config, (8, 8, 1), 17, 10)


def schedule(**changes):
    changes = {f'diffusion.{key}': str(value) for key, value in changes.items()}
    return build.noise_schedule(configs.load('digits', changes.items()))


@pytest.mark.parametrize('name', names.SCHEDULES)
def test_every_schedule_runs_from_data_to_noise(name):
    made = schedule(schedule=name)
    alpha, sigma = made(jnp.linspace(0, 1, 50))
    assert np.all(np.diff(sigma / jnp.maximum(alpha, 1e-30)) > 0) and sigma[0] < 1e-3


@pytest.mark.parametrize('name', [*names.VARIANCE_PRESERVING, 'flow'])
def test_a_shift_multiplies_the_noise(name):
    plain, moved = schedule(schedule=name), schedule(schedule=name, shift=3.0)
    (alpha, sigma), (alpha_moved, sigma_moved) = plain(0.4), moved(0.4)
    np.testing.assert_allclose(sigma_moved / alpha_moved, 3 * sigma / alpha, rtol=1e-4)


@pytest.mark.parametrize('name', names.VARIANCE_PRESERVING)
def test_a_zero_end(name):
    assert schedule(schedule=name, zero_terminal_snr=True)(1.0)[0] < 1e-6


def test_noise_levels_are_the_configs():
    np.testing.assert_allclose(schedule(schedule='ve', sigma_max=5.0)(1.0)[1], 5, rtol=1e-3)
    np.testing.assert_allclose(schedule(schedule='edm', sigma_max=5.0)(1.0)[1], 5, rtol=1e-3)


def test_features_are_what_the_blocks_give_without_noise():
    """Of each on the way down, and none knows of its neighbours."""
    config = configs.load('digits', tiny.overrides(net__blocks=2))
    model = build.model(config, (8, 8, 1), 17, 10)
    params = build.init(model, jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1), minval=-1)
    apply = jax.jit(build.features_of(model))
    found = apply(params, x)
    assert [f.shape for f in found] == [(3, 8, 8, 8)] * 2 + [(3, 4, 4, 16)] * 2
    for f, part in zip(found, apply(params, x[1:2])):
        np.testing.assert_allclose(part, f[1:2], rtol=1e-4, atol=1e-5)
        assert np.std(f) > 0
