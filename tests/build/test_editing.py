"""Tasks and methods compose with samplers, in pixels and in latents, or are refused in one line."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import build, codecs, config as configs, nets
from jaxdiff.build import conditions, editing, names, tasks

SHAPE = (8, 8, 3)
STD = 0.3
FAMILIES = {  # a sampler of each
    'ddim': {},
    'ddpm': {},
    'heun': {},
    'dpmpp_2m': {},
    'heun_stochastic': {},
    'ode_adaptive': {'sample.tolerance': '0.1'},
    'predictor_corrector': {},
    'annealed_langevin': {'sample.langevin_steps': '2'},
}
METHODS = {
    'sdedit': {},
    'invert': {},
    'interpolate': {},
    'replacement': {},
    'repaint': {'sample.jump': '2', 'sample.resamplings': '2'},
    'ddnm': {'sample.task': 'super_resolution'},
    'dps': {'sample.task': 'inpaint', 'degradation.noise': '0.1'},
    'pigdm': {'sample.task': 'deblur', 'sample.covariance': 'jacobian'},
}


class Known(nn.Module):
    """The belief about data N(0.2, STD²); what it is shown adds to it a little."""

    image_channels: int = 0
    out_channels: int = 3

    @nn.compact
    def __call__(self, x, level, cond, dropout_keys=None):
        w = self.param('w', nn.initializers.ones, ())
        u = jnp.exp(-(jnp.reshape(level, (-1, 1, 1, 1)) - 500) / 50)  # sigma / alpha
        x0 = 0.2 + STD**2 / (STD**2 + u**2) * (x * jnp.sqrt(1 + u**2) - 0.2)
        shown = cond.get('image', jnp.zeros((1, 1, 1, 1)))
        return x0 + 0.1 * w * shown.mean(-1, keepdims=True)


def made(space, overrides):
    """A config, checked, and a model of it whose network is `Known`, with its parameters."""
    values = {
        'net.condition': '',
        'net.channels': '8',
        'net.multipliers': '(1,)',
        'net.attention': '()',
        'diffusion.prediction': 'x0',
        'diffusion.embedding': 'logsnr',
        'loss.weighting': 'eps',
        'degradation.factor': '2',
        'sample.steps': '4',
        'sample.grid': 'logsnr',
    }
    if space == 'latent':
        values |= {'codec.name': 'latent', 'codec.path': 'x', 'sample.clip': 'false'}
    config = configs.load('digits', (values | overrides).items())
    build.check(config)
    latents = latent_codec() if space == 'latent' else None
    model = build.model(config, SHAPE, 256, 0, latents)
    known = Known(model.net.image_channels, model.net.out_channels)
    model = model._replace(net=known)
    params = {'net': build.init(model, jax.random.key(0)), 'codec': model.codec.weights}
    return config, model, params


def latent_codec():
    autoencoder = nets.Autoencoder(3, channels=8, multipliers=(1,), blocks=1)
    weights = autoencoder.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return codecs.latent.latent(
        autoencoder, weights, codecs.pixels(), (4, 4, 4), np.zeros(4), np.ones(4)
    )


IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8)
KNOWN = np.ones((2, 8, 8, 1), np.float32)
KNOWN[:, 2:6, 2:8] = 0


def given(config, model):
    c = config.sample
    if c.method in names.PARTS:
        return {'image': IMAGES, 'known': KNOWN}
    if c.method in names.WHOLE:
        share = np.array([0.0, 0.5], np.float32)
        return {'image': IMAGES} | (
            {'other': IMAGES[::-1], 'share': share} if c.method == 'interpolate' else {}
        )
    task = editing.task(config, model, c.task)
    measured = task.degradation.measure(jax.random.split(jax.random.key(1), 2), task.scale(IMAGES))
    found = {'y': measured.y} | ({} if measured.known is None else {'known': measured.known})
    return jax.tree.map(np.asarray, found)


def draw(config, model, params, cond, given):
    keys = jax.random.split(jax.random.key(0), 2)
    images = jax.jit(build.sampling(config, model))(params, cond, keys, None, given)
    assert images.shape == (2, *SHAPE) and images.dtype == np.uint8
    return np.asarray(images)


def refused(space, method, sampler):
    """What can't be, by its reason."""
    return (
        (space == 'latent' and method in names.LINEAR)
        or (method == 'repaint' and sampler in names.REMEMBERING)
        or (method in ('invert', 'interpolate') and sampler not in names.BOTH_WAYS)
    )


PRODUCT = [(s, m, f) for s in ('pixels', 'latent') for m in METHODS for f in FAMILIES]
# Each method in each space, each family in each space, and a refusal of each kind.
QUICK = {(s, m, 'ddim') for s in ('pixels', 'latent') for m in METHODS}
QUICK |= {(s, m, f) for s, m, f in PRODUCT if m == 'sdedit' and s == 'pixels'}
QUICK |= {(s, m, f) for s, m, f in PRODUCT if refused(s, m, f)}
QUICK |= {('latent', 'replacement', 'ddpm'), ('pixels', 'dps', 'ddpm'), ('pixels', 'pigdm', 'heun')}


@pytest.mark.parametrize(
    'space, method, sampler',
    [pytest.param(*x, marks=[] if x in QUICK else pytest.mark.slow) for x in PRODUCT],
)
def test_each_method_goes_with_each_sampler_in_each_space_or_is_refused(space, method, sampler):
    overrides = METHODS[method] | FAMILIES[sampler] | {'sample.sampler': sampler}
    overrides |= {'sample.method': method}
    if refused(space, method, sampler):
        with pytest.raises(ValueError, match='sample.method=') as error:
            made(space, overrides)
        assert '\n' not in str(error.value)
        return
    config, model, params = made(space, overrides)
    images = draw(config, model, params, {}, given(config, model))
    assert images.std() > 1
    if method in names.PARTS and space == 'pixels':  # what is known stays
        known = np.broadcast_to(KNOWN > 0, images.shape)
        np.testing.assert_array_equal(images[known], IMAGES[known])


@pytest.mark.parametrize('space', ['pixels', 'latent'])
@pytest.mark.parametrize('name', names.DEGRADATIONS)
def test_a_network_is_shown_each_task_in_training_and_in_sampling(space, name):
    overrides = {'task': name, 'degradation.noise': '0.2', 'sample.sampler': 'dpmpp_2m'}
    config, model, params = made(space, overrides)
    side = model.shape[0]
    task = model.task
    keys = jax.random.split(jax.random.key(1), 2)
    told = tasks.degraded(task, keys, jnp.asarray(IMAGES))
    assert told.shape == (2, side, side, model.net.image_channels)
    batch = {'image': IMAGES, 'index': np.arange(2, dtype=np.int32)}
    if space == 'latent':
        prepared = model.codec.prepare(model.codec.weights, jnp.asarray(IMAGES))
        batch = batch | {'image': prepared, 'pixels': IMAGES}
    assert set(batch) == set(build.batch_shapes(config, model, False))
    losses, _ = build.training_loss(config, model)(params, batch, jax.random.key(2))
    assert losses.shape == (2,) and np.all(np.isfinite(losses))
    cond = conditions.of_batch(model, batch, keys)
    same = np.array_equal(cond['image'], told)
    assert set(cond) == {'image'} and same is (
        name == 'sketch'
    )  # others draw, by keys of their own
    images = draw(config, model, params, {'image': told}, None)
    other = draw(config, model, params, {'image': told[::-1]}, None)
    assert not np.array_equal(images, other)


def test_a_mask_in_latents_knows_what_is_known_in_all_its_pixels():
    found = tasks.folded(jnp.asarray(KNOWN), 2)
    assert found.shape == (2, 4, 4, 1)
    np.testing.assert_array_equal(found[0, :, :, 0], [[1] * 4, [1, 0, 0, 0], [1, 0, 0, 0], [1] * 4])


def test_from_known_data_its_posterior_is_drawn():
    """Of pixels N(0.2, STD²) measured with noise: mean and deviation are Bayes'."""
    noise = 0.4
    overrides = METHODS['pigdm'] | {'sample.task': 'denoise', 'degradation.noise': str(noise)}
    overrides |= {'sample.method': 'pigdm', 'sample.sampler': 'heun', 'sample.steps': '40'}
    config, model, params = made('pixels', overrides | {'sample.clip': 'false'})
    y = np.full((2, *SHAPE), 0.6, np.float32)
    values = draw(config, model, params, {}, {'y': y}) / 127.5 - 1
    gain = STD**2 / (STD**2 + noise**2)
    assert values.mean() == pytest.approx(0.2 + gain * 0.4, abs=0.04)
    assert values.std() == pytest.approx(np.sqrt(1 - gain) * STD, rel=0.15)


@pytest.mark.parametrize(
    'overrides, message',
    [
        ({'task': 'sketch', 'sample.method': 'sdedit'}, 'takes no sample.method'),
        ({'sample.method': 'ddnm'}, 'need each other'),
        ({'sample.task': 'deblur'}, 'need each other'),
        ({'sample.method': 'sdedit', 'sample.task': 'deblur'}, 'need each other'),
        ({'sample.method': 'ddnm', 'sample.task': 'sketch'}, 'sample.task must be one of'),
        ({'sample.method': 'ddnm', 'sample.task': 'denoise', 'degradation.noise': '0.1'}, 'pigdm'),
        ({'sample.method': 'magic'}, 'sample.method must be one of'),
        ({'task': 'denoise'}, 'noise above 0'),
        ({'task': 'super_resolution', 'degradation.factor': '3'}, '3 times smaller'),
        ({'task': 'deblur', 'codec.dequantize': 'true'}, 'without codec.dequantize only'),
        ({'task': 'deblur', 'model': 'autoencoder'}, "needs model='diffusion'"),
        ({'sample.method': 'invert', 'sample.eta': '0.5'}, 'sample.eta=0'),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(overrides, message):
    with pytest.raises(ValueError, match=message) as error:
        made('pixels', overrides)
    assert '\n' not in str(error.value)


def test_degradations_decide_a_run_of_a_task_only():
    for task, decides in (('', False), ('deblur', True)):
        config, _, _ = made('pixels', {'task': task})
        assert build.decides('degradation.blur', config) is decides
