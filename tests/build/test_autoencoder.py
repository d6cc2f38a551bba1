import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxdiff import build, config as configs


def made(shape=(8, 8, 1), features=None, **changes):
    changes = {
        'model': 'autoencoder',
        'autoencoder__channels': 8,
        'autoencoder__blocks': 1,
        'autoencoder__multipliers': '(1,)',
    } | changes
    config = configs.load('digits', tiny.overrides(**changes))
    build.check(config)
    model = build.model(config, shape, 17, 10, features=features)
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


JUDGED = {'autoencoder__discriminator_channels': 8, 'autoencoder__discriminator_layers': 1}


def gradients(steps=(0,), **changes):
    """[(each example's loss, the gradient of their mean)] at random parameters, by step."""
    config, model, params = made(**changes)
    params = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params
    )
    losses = build.training_loss(config, model)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params, step):
        values, _ = losses(params, batch(4) | {'step': step}, jax.random.key(3))
        return values.mean(), values

    return [gradient(params, jnp.int32(step))[::-1] for step in steps]


def test_each_side_of_the_game_gets_its_own_gradient():
    """The discriminator's is the same whatever the weight; the other side's is linear in it."""
    (plain,), (half,) = gradients(), gradients(autoencoder__adversarial=0.5, **JUDGED)
    early, whole = gradients(
        (2, 3), autoencoder__adversarial=1.0, autoencoder__adversarial_from=3, **JUDGED
    )
    for values, found in (half, whole, early):
        np.testing.assert_allclose(values, plain[0], rtol=1e-5)  # the value is the errors'
        judged = (jax.tree.leaves(x['discriminator']) for x in (found, half[1]))
        for part, same in zip(*judged):
            np.testing.assert_allclose(part, same, rtol=1e-3, atol=1e-6)
            assert np.abs(part).max() > 0
    moved = 0.0
    for none, once, twice, not_yet in zip(
        *(jax.tree.leaves(x[1]['params']) for x in (plain, half, whole, early))
    ):
        np.testing.assert_allclose(not_yet, none, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(twice - none, 2 * (once - none), rtol=2e-2, atol=1e-5)
        moved = max(moved, float(jnp.abs(twice - none).max()))
    assert moved > 1e-3


def test_the_codec_is_without_the_discriminator():
    config, model, params = made(autoencoder__adversarial=1.0, **JUDGED)
    _, plain, bare = made()
    assert set(build.of_codec(params)) == set(bare) == {'params'}
    jax.tree.map(np.testing.assert_array_equal, build.of_codec(params), bare)
    pairs = ((model, params), (plain, bare))
    back = [jax.jit(build.reconstruct(m))(p, batch(4)['image']) for m, p in pairs]
    np.testing.assert_array_equal(*back)


def seen(weights, x):
    """Two layers of features."""
    first = jnp.tanh(jnp.einsum('bhwc,cd->bhwd', x, weights['first']) + weights['shift'])
    return first, jnp.tanh(first[:, ::2, ::2] @ weights['second'])


@pytest.mark.slow
@pytest.mark.parametrize('parallel', ['pmap', 'mesh'])
def test_a_run_with_both_is_the_same_on_any_devices(parallel):
    """Frozen weights as arguments of the step on two devices, and as constants on one."""
    draws = np.random.default_rng(1)
    shapes = {'first': (1, 4), 'shift': (4,), 'second': (4, 4)}
    weights = {name: draws.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    features = build.Features(seen, weights)
    changes = {'autoencoder__perceptual': 0.3, 'autoencoder__features': 'a run'} | JUDGED
    changes |= {'autoencoder__adversarial': 0.5, 'autoencoder__adversarial_from': 1}
    found = []
    for devices, frozen in ((1, None), (2, weights)):
        config, model, _ = made(features=features, train__parallel=parallel, **changes)
        devices = jax.local_devices()[:devices]
        step = build.train_step(config, model, jax.random.key(1), devices)
        driver = build.driver(config, step, devices, frozen)
        init = functools.partial(build.train_state, config, model)
        like = driver.layout(jax.eval_shape(init, jax.random.key(0)))
        shardings = jax.tree.map(lambda x: x.sharding, like)
        state = driver.put_state(jax.jit(init, out_shardings=shardings)(jax.random.key(0)))
        losses = []
        for _ in range(3):
            state, metrics = driver.step(state, driver.put_batch(batch()))
            losses.append(float(driver.get(metrics)['loss']))
        found.append((losses, jax.tree.map(np.asarray, driver.get(state).params)))
    (constants, once), (arguments, twice) = found
    np.testing.assert_allclose(arguments, constants, rtol=1e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-4), twice, once)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'autoencoder__perceptual': 1.0}, 'needs autoencoder.features'),
        ({'autoencoder__features': 'x'}, 'needs autoencoder.features'),
        ({'autoencoder__adversarial': 1.0, 'model': 'diffusion'}, "needs model='autoencoder'"),
        ({'autoencoder__adversarial_from': 1}, 'needs autoencoder.adversarial'),
        ({'autoencoder__adversarial': 1.0, 'autoencoder__adversarial_from': 6}, 'never act'),
        ({'autoencoder__adversarial': 1.0, 'autoencoder__discriminator_layers': 4}, 'at least 16'),
    ],
)
def test_senseless_combinations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_a_perceptual_loss_without_features_is_refused():
    config, model, _ = made(autoencoder__perceptual=1.0, autoencoder__features='x')
    with pytest.raises(ValueError, match='needs the features of a trained network'):
        build.training_loss(config, model)
