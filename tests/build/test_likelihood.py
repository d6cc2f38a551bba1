"""Bits per dimension of a model that knows its data: normal ones, whose density is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import build, config as configs

MEAN, STD = 0.2, 0.3


class Known(nn.Module):
    """The belief about data N(MEAN, STD²), the noise told as logsnr, x scaled to unit variance."""

    @nn.compact
    def __call__(self, x, level, cond):
        self.param('w', nn.initializers.zeros, ())
        u = jnp.exp(-(jnp.reshape(level, (-1, 1, 1, 1)) - 500) / 50)  # sigma / alpha
        y = x * jnp.sqrt(1 + u**2)  # x_t / alpha
        return MEAN + STD**2 / (STD**2 + u**2) * (y - MEAN)


@pytest.mark.parametrize('dequantize', [False, True])
@pytest.mark.parametrize('kind', ['bound', 'flow'])
def test_they_are_those_of_the_known_density(kind, dequantize):
    values = {'diffusion.prediction': 'x0', 'diffusion.embedding': 'logsnr'}
    values |= {'loss.weighting': 'eps', 'net.channels': '8', 'codec.dequantize': str(dequantize)}
    config = configs.load('digits', values.items())
    model = build.model(config, (4, 4, 1), 256, 10)._replace(net=Known())
    params = build.init(model, jax.random.key(0))
    n, draws = 4000, np.random.default_rng(0)
    z = np.clip(draws.normal(MEAN, STD, (n, 4, 4, 1)), -1, 1)
    images = np.round((z + 1) / 2 * 255).astype(np.uint8)
    width = 2 / 256 if dequantize else 2 / 255
    centre = (images + 0.5) * width - 1 if dequantize else images * width - 1
    nats = np.log(2 * np.pi * STD**2) / 2 + (centre - MEAN) ** 2 / (2 * STD**2)
    expected = nats.mean((1, 2, 3)) / np.log(2) - np.log2(width)
    if kind == 'bound' and not dequantize:
        # a smooth density knows no levels: below their width the bound counts a noise of width / 6
        # against all of it, KL(N(0, width² / 36) ‖ U(width)), and 0.04 for the decoder's choice
        expected = expected + np.log2(6) - np.log2(2 * np.pi * np.e) / 2 + 0.04
    measure = jax.jit(build.bits_per_dim(model, 256, kind))
    keys = jax.random.split(jax.random.key(1), n)
    found = np.asarray(measure(params, keys, images, {'label': jnp.zeros(n, jnp.int32)}))
    error = np.std(found - expected) / np.sqrt(n)
    assert abs(np.mean(found - expected)) < 4 * error + 0.02
    assert error < 0.08


def test_a_model_in_latents_has_none():
    config = configs.load('digits', [('net.channels', '8')])
    model = build.model(config, (8, 8, 1), 17, 10)
    latent = model._replace(codec=model.codec._replace(shape=(4, 4, 4)))
    with pytest.raises(ValueError, match='a model in latents has no bits per dimension'):
        build.bits_per_dim(latent, 17, 'bound')
    with pytest.raises(ValueError, match="by bound or flow, got 'elbo'"):
        build.bits_per_dim(model, 17, 'elbo')
