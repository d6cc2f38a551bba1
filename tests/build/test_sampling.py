import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import build, config as configs
from jaxdiff.build import names

STD = 0.3  # of the data that the network of `walk` knows, of mean 0.2


class Level(nn.Module):
    """A network whose belief is an image of one value, and without a condition another."""

    @nn.compact
    def __call__(self, x, level, cond):
        label = cond['label'].reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(label < 10, 0.5, 0.0) * jnp.ones_like(x) + 0 * self.param(
            'w', nn.initializers.zeros, ()
        )


class Known(nn.Module):
    """The belief about data N(0.2, STD²), the noise told as logsnr, x scaled to unit variance."""

    @nn.compact
    def __call__(self, x, level, cond):
        self.param('w', nn.initializers.zeros, ())
        level = jnp.reshape(level, (-1, 1, 1, 1))
        u = jnp.exp(-(level - 500) / 50)  # sigma / alpha, of `denoiser.logsnr_embedding`
        y = x * jnp.sqrt(1 + u**2)  # x_t / alpha, sigma_data being 1
        return 0.2 + STD**2 / (STD**2 + u**2) * (y - 0.2)


def walk(overrides):
    """Mean and standard deviation of images as numbers in [-1, 1], of the data that it knows.

    Of 128 images, 8192 independent numbers: their standard errors, 0.003 and 0.8 %, are a sixth of
    what the tests allow.
    """
    values = {
        'diffusion.prediction': 'x0',
        'diffusion.embedding': 'logsnr',
        'loss.weighting': 'eps',
        'sample.steps': '60',
        'sample.clip': 'false',
        'sample.grid': 'logsnr',
        'net.channels': '8',
    }
    config = configs.load('digits', (values | overrides).items())
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)._replace(net=Known())
    params = build.init(model, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 128)
    run = jax.jit(build.sampling(config, model))
    images = np.asarray(run(params, {'label': jnp.zeros(128, jnp.int32)}, keys))
    values = images / 127.5 - 1
    return values.mean(), values.std()


def draw(overrides, label=3):
    """Samples of a model that is sure of its image; without a condition, of another."""
    values = {'diffusion.prediction': 'x0', 'sample.steps': '5', 'net.channels': '8'} | overrides
    config = configs.load('digits', values.items())
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)._replace(net=Level())
    params = build.init(model, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 2)
    run = jax.jit(build.sampling(config, model))
    return np.asarray(run(params, {'label': jnp.full(2, label)}, keys))


def value(x0):
    return round((x0 + 1) / 2 * 255)


@pytest.mark.parametrize('name', names.SAMPLERS)
def test_every_sampler_by_name_draws_the_data(name):
    steps = '60' if name == 'annealed_langevin' else '250'
    mean, std = walk({'sample.sampler': name, 'sample.steps': steps, 'sample.tolerance': '1e-4'})
    assert mean == pytest.approx(0.2, abs=0.02) and std == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize('name', names.GRIDS)
def test_every_grid_by_name_draws_the_data(name):
    mean, std = walk({'sample.grid': name, 'diffusion.schedule': 'vp', 'sample.steps': '90'})
    assert mean == pytest.approx(0.2, abs=0.02) and std == pytest.approx(STD, rel=0.1)


@pytest.mark.parametrize('name', [*names.SCHEDULES, names.LEARNED])
def test_every_schedule_by_name_draws_the_data(name):
    overrides = {'diffusion.schedule': name, 'sample.grid': 'karras', 'sample.sampler': 'unipc'}
    if name == names.LEARNED:
        overrides |= {'loss.name': 'variational', 'loss.weighting': 'simple'}
    mean, std = walk(overrides)
    assert mean == pytest.approx(0.2, abs=0.02) and std == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize(
    'overrides, x0',
    [
        ({'sample.guidance': '1.6'}, 0.8),
        ({'sample.guidance': '0'}, 0.0),
        ({'sample.guidance': '1.6', 'sample.guidance_from': '0.5'}, 0.8),
        ({'sample.guidance': '1.6', 'sample.guidance_to': '0.5'}, 0.5),
        ({'sample.guidance': '1.6', 'sample.guidance_rescale': '0.7'}, 0.8),
        ({'sample.guidance': '1.0', 'sample.cfgpp': 'true'}, 0.5),
        ({'sample.guidance': '0.2', 'sample.cfgpp': 'true'}, 0.1),
        ({'sample.guidance': '4', 'sample.clip': 'true'}, 1.0),
        ({'sample.guidance': '4', 'sample.threshold': '99.5'}, 1.0),
    ],
    ids=str,
)
def test_guidance_by_key(overrides, x0):
    np.testing.assert_allclose(draw(overrides), value(x0), atol=1)


def test_a_learned_variance_serves_every_sampler():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, level, cond):
            w = self.param('w', nn.initializers.zeros, ())
            return jnp.concatenate([0.5 + 0 * x, w + 0 * x], -1)

    for name in ('ddpm', 'ddim'):
        sampler = {'sample.sampler': name, 'sample.variance': 'learned'}
        overrides = {
            'diffusion.prediction': 'x0',
            'diffusion.learned_variance': 'true',
            'loss.name': 'hybrid',
            'loss.discrete_steps': '100',
            'sample.steps': '4',
        }
        config = configs.load('digits', (overrides | sampler).items())
        build.check(config)
        model = build.model(config, (8, 8, 1), 17, 10)
        assert model.net.out_channels == 2
        model = model._replace(net=Twice())
        params = build.init(model, jax.random.key(0))
        run = jax.jit(build.sampling(config, model))
        keys = jax.random.split(jax.random.key(0), 2)
        images = run(params, {'label': jnp.zeros(2, jnp.int32)}, keys)
        np.testing.assert_array_equal(images, value(0.5))
