import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import build, config as configs
from jaxdiff.build import conditions, names

STD = 0.3  # of the data that the network of `walk` knows, of mean 0.2


class Level(nn.Module):
    """A network whose belief is an image of one value, and without a condition another."""

    @nn.compact
    def __call__(self, x, level, cond):
        label = cond['label'].reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(label < 10, 0.5, 0.0) * jnp.ones_like(x) + 0 * self.param(
            'w', nn.initializers.zeros, ()
        )


class Always(nn.Module):
    """A network with one belief."""

    value: float

    @nn.compact
    def __call__(self, x, level, cond):
        return self.value + 0 * x + 0 * self.param('w', nn.initializers.zeros, ())


class Reads(nn.Module):
    """A network whose belief is told by the text, up to `most`, and 0 without one."""

    most: float

    @nn.compact
    def __call__(self, x, level, cond):
        self.param('w', nn.initializers.zeros, ())
        words = jnp.where(cond['mask'], cond['text'][..., 0], 0)
        return self.most * jnp.tanh(jnp.sum(words, 1)).reshape(-1, 1, 1, 1) + 0 * x


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


@pytest.mark.parametrize(
    'overrides, x0',
    [
        ({'sample.guidance': '2'}, 0.7),
        ({'sample.guidance': '0'}, 0.3),
        ({'sample.guidance': '2', 'sample.guidance_to': '0.5'}, 0.5),
        ({'sample.guidance': '2', 'sample.guidance_rescale': '0.7'}, 0.7),  # without contrast
        ({'sample.guidance': '2', 'loss.condition_dropout': '0'}, 0.7),
        ({'sample.guidance': '2', 'net.condition': ''}, 0.7),
    ],
    ids=str,
)
def test_autoguidance_by_key(overrides, x0):
    """0.3 + guidance · (0.5 − 0.3); a model led away from itself is itself."""
    values = {'diffusion.prediction': 'x0', 'sample.steps': '5', 'net.channels': '8'}
    config = configs.load('digits', (values | {'sample.weaker': 'some'} | overrides).items())
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)._replace(net=Always(0.5))
    params = build.init(model, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 2)
    cond = {'label': jnp.zeros(2, jnp.int32)}
    for weaker, expected in ((Always(0.3), x0), (Always(0.5), 0.5)):
        run = build.sampling(config, model, weaker=model._replace(net=weaker))
        images = jax.jit(run)({'net': params, 'weaker': params}, cond, keys)
        np.testing.assert_allclose(np.asarray(images, int), value(expected), atol=1)


def test_prompts_at_once_weigh_as_much_as_they_are_said_to():
    """guidance · Σ w_i x0(prompt_i), x0 of no prompt being 0; other prompts need no other trace."""
    values = {'diffusion.prediction': 'x0', 'sample.steps': '4', 'net.condition': 'text'}
    values |= {'text.length': '12', 'text.width': '8', 'text.layers': '1', 'text.heads': '2'}
    model = params = None
    prompts = [['red', 'a cat'], ['green', 'one dog']]
    keys = jax.random.split(jax.random.key(0), 2)
    for weights, guidance, weaker in (
        ((1.0, -0.5), 2, False),
        ((0.6, 0.6), 1.5, True),
    ):
        more = {'sample.weights': str(weights), 'sample.guidance': str(guidance)}
        more |= {'sample.weaker': 'some'} if weaker else {}
        config = configs.load('digits', (values | more).items())
        build.check(config)
        if model is None:
            model = build.model(config, (8, 8, 1), 17, 0)._replace(net=Reads(0.3))
            params = jax.jit(functools.partial(build.init, model))(jax.random.key(3))
            read = jax.jit(functools.partial(conditions.told, model))
        leads = model._replace(net=Reads(0.1)) if weaker else None
        asked = params | {'weaker': params} if weaker else params
        pure, traces = build.sampling(config, model, weaker=leads), []

        @jax.jit
        def counted(params, cond, keys, pure=pure, traces=traces):
            traces.append(1)
            return pure(params, cond, keys)

        for words in prompts:
            each = [conditions.of_texts(model, [word] * 2) for word in words]
            told = [read(params, cond) for cond in each]
            x0 = [0.3 * np.tanh(np.sum(t['text'][0, :, 0] * t['mask'][0])) for t in told]
            strong = np.dot(weights, x0)
            weak = strong / 3 if weaker else 0.0
            expected = np.clip(weak + guidance * (strong - weak), -1, 1)
            cond = jax.tree.map(lambda *x: np.stack(x, 1), *each)
            found = np.asarray(counted(asked, cond, keys), int)
            np.testing.assert_allclose(found, value(expected), atol=1)
            assert abs(expected) > 0.02
        assert len(traces) == 1


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
