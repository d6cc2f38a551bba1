import functools

import jax
import numpy as np
import optax
import pytest
import tiny

from jaxdiff import build, config as configs


def made(shape=(8, 8, 1), **changes):
    changes = {
        'model': 'autoencoder',
        'autoencoder__channels': 8,
        'autoencoder__blocks': 1,
        'autoencoder__multipliers': '(1,)',
    } | changes
    config = configs.load('digits', tiny.overrides(**changes))
    build.check(config)
    model = build.model(config, shape, 17, 10)
    return config, model, jax.jit(functools.partial(build.init, model))(jax.random.key(0))


def batch(n=16):
    image = np.random.default_rng(0).integers(0, 17, (n, 8, 8, 1)) * 255 // 16
    return {'image': image.astype(np.uint8), 'index': np.arange(n, dtype=np.int32)}


@pytest.mark.parametrize('kind', ['kl', 'vq'])
def test_training_brings_the_images_back(kind):
    """Of 16 images of 64 numbers each, through 4 x 4 x 8 ones or codes."""
    settings = {'autoencoder__kind': kind, 'autoencoder__latent_channels': 8}
    config, model, params = made(**settings, autoencoder__noise=0.01, autoencoder__codes=64)
    losses, data = build.training_loss(config, model), batch()
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, key):
        def mean(params):
            values, logsnr = losses(params, data, key)
            return values.mean(), logsnr

        (value, logsnr), grads = jax.value_and_grad(mean, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value, logsnr

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(1), 300):
        params, state, value, logsnr = step(params, state, key)
    assert np.all(np.isnan(logsnr)) and logsnr.shape == (16,)
    back = jax.jit(build.reconstruct(model))(params, data['image'])
    assert back.dtype == np.uint8 and back.shape == data['image'].shape
    error = np.mean(np.square(back.astype(float) - data['image'])) / np.var(data['image'])
    assert error < {'kl': 0.1, 'vq': 0.5}[kind]


def test_every_weight_moves_the_loss_as_it_says():
    """The loss is linear in each weight: twice the weight, twice its part."""
    for kind, names in {'kl': ['absolute', 'kl_weight'], 'vq': ['commitment', 'restart']}.items():
        for name in names:
            found = []
            for weight in (0.0, 1.0, 2.0):
                config, model, params = made(
                    **{'autoencoder__kind': kind, f'autoencoder__{name}': weight}
                )
                values, _ = build.training_loss(config, model)(params, batch(), jax.random.key(3))
                found.append(np.asarray(values))
            first, second = found[1] - found[0], found[2] - found[1]
            np.testing.assert_allclose(first, second, rtol=2e-3)
            assert first.min() > 0, name


def test_an_example_is_decided_by_its_index_not_by_its_neighbours():
    config, model, params = made()
    losses, data = build.training_loss(config, model), batch()
    whole, _ = losses(params, data, jax.random.key(3))
    part, _ = losses(params, {k: v[3:7] for k, v in data.items()}, jax.random.key(3))
    np.testing.assert_allclose(part, whole[3:7], rtol=1e-5)


@pytest.mark.parametrize(
    'devices, changes, fits',
    [
        (1, {}, True),
        (2, {}, False),
        (2, {'train__parallel': 'mesh'}, True),
        (1, {'train__accumulate': 2}, False),
        (2, {'autoencoder__restart': 0}, True),
    ],
)
def test_unused_codes_are_those_of_the_whole_batch(devices, changes, fits):
    """Else another number of devices would be another run."""
    config, _, _ = made(autoencoder__kind='vq', **changes)
    if fits:
        build.check_devices(config, devices)
    else:
        with pytest.raises(ValueError, match="needs train.accumulate=1, .* train.parallel='mesh'"):
            build.check_devices(config, devices)


def test_sides_that_cannot_shrink_are_refused():
    with pytest.raises(ValueError, match='divisible by 16, got .8, 8.*use 16'):
        made(autoencoder__multipliers='(1, 2, 2, 2)')
