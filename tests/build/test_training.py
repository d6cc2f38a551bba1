import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import names


class Small(nn.Module):
    """A network that compiles in no time."""

    out: int

    @nn.compact
    def __call__(self, x, level, cond, dropout=None):
        told = jnp.broadcast_to(level / 1000, x.shape[:1]).reshape(-1, 1, 1, 1)
        return nn.Dense(self.out)(jnp.concatenate([x, 0 * x + told], -1))


def losses_and_gradients(**overrides):
    """A step's losses [16] and gradients, all of them finite: what every name below owes."""
    overrides = {'train__batch_size': 16} | overrides  # so that its times cover [0, 1]
    overrides = {key.replace('__', '.'): str(v) for key, v in overrides.items()}
    config = configs.load('digits', overrides.items())
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)
    model = model._replace(net=Small(model.net.out_channels))
    params = build.init(model, jax.random.key(0))
    image = jax.random.randint(jax.random.key(1), (16, 8, 8, 1), 0, 17) * 255 // 16
    batch = {
        'image': image.astype(jnp.uint8),
        'label': jnp.arange(16) % 10,
        'index': jnp.arange(16),
    }
    losses = build.training_loss(config, model)

    def mean(params):
        values, logsnr = losses(params, batch, jax.random.key(2))
        assert logsnr.shape == values.shape
        return values.mean(), values

    (_, values), grads = jax.jit(jax.value_and_grad(mean, has_aux=True))(params)
    assert values.shape == (16,)
    for leaf in jax.tree.leaves((values, grads)):
        assert np.all(np.isfinite(leaf))
    return values, grads


def test_dropout_does_something():
    """To each example: without it the losses are of the same examples, times and noise."""
    batch = {
        'image': jnp.full((4, 8, 8, 1), 255, jnp.uint8),
        'label': jnp.arange(4),
        'index': jnp.arange(4),
    }

    def losses(dropout):
        config = configs.load('digits', tiny.overrides(net__dropout=dropout))
        model = build.model(config, (8, 8, 1), 17, 10)
        params = build.init(model, jax.random.key(0))
        moved = jax.tree.map(lambda x: x + 0.05, params)  # the last layers begin at zero
        return jax.jit(build.training_loss(config, model))(moved, batch, jax.random.key(2))[0]

    apart = np.abs(losses(0.1) - losses(0.0))
    assert apart.min() > 1e-3


@pytest.mark.parametrize('name', names.SCHEDULES)
def test_every_schedule_trains(name):
    losses_and_gradients(
        diffusion__schedule=name,
        diffusion__embedding='logsnr',
        diffusion__prediction='eps',
        sample__grid='karras',
    )


@pytest.mark.parametrize('name', names.PREDICTIONS)
def test_every_prediction_trains(name):
    losses_and_gradients(diffusion__prediction=name, loss__weighting='eps')


@pytest.mark.parametrize('name', names.WEIGHTINGS)
def test_every_weighting_trains(name):
    losses_and_gradients(loss__weighting=name)


@pytest.mark.parametrize('name', names.DISTRIBUTIONS)
def test_every_distribution_of_times_trains(name):
    losses_and_gradients(loss__distribution=name)


def test_the_edm_recipe():
    """With its own weight EDM's loss is the squared error of the preconditioned output."""
    recipe = dict(
        sample__grid='karras',
        diffusion__schedule='edm',
        diffusion__prediction='edm',
        diffusion__embedding='logsnr',
        diffusion__sigma_data='0.5',
        loss__distribution='log_normal',
    )
    simple, _ = losses_and_gradients(**recipe)
    weighted, _ = losses_and_gradients(**recipe, loss__weighting='edm')
    np.testing.assert_allclose(weighted, simple, rtol=1e-4)


@pytest.mark.parametrize('dequantize', [False, True])
def test_a_learned_variance_trains(dequantize):
    _, grads = losses_and_gradients(
        diffusion__learned_variance=True,
        loss__name='hybrid',
        loss__discrete_steps=100,
        codec__dequantize=dequantize,
    )
    kernel = grads['params']['Dense_0']['kernel']
    assert np.all(kernel != 0)  # of the mean and of the variance


@pytest.mark.parametrize('dequantize', [False, True])
def test_a_learned_schedule_trains_with_the_network(dequantize):
    values, grads = losses_and_gradients(
        diffusion__schedule='learned',
        diffusion__embedding='logsnr',
        loss__name='variational',
        codec__dequantize=dequantize,
    )
    for leaf in jax.tree.leaves(grads):
        assert np.any(leaf != 0)
    assert values.mean() > (0 if dequantize is False else -10)


def test_the_bound_of_a_fixed_schedule_trains():
    values, _ = losses_and_gradients(loss__name='variational', loss__t_min=1e-3)
    assert np.all(values > 0)  # bits of discrete data
