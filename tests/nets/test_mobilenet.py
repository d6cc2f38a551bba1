import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import count, jit, shapes, trained

from jaxdiff.nets.mobilenet import InvertedResidual, MobileNet
from jaxdiff.nets.normalised import NormalisedConv


def test_sizes_are_keras():
    """`MobileNetV2(include_top=False).count_params()` is 2,257,984."""
    x = jax.ShapeDtypeStruct((2, 160, 160, 3), jnp.float32)
    params = shapes(MobileNet(), x)
    assert count(params) == 2_257_984
    assert jax.eval_shape(MobileNet().apply, params, x).shape == (2, 1280)
    assert 'block_16' in params['params'] and 'block_17' not in params['params']


@pytest.mark.parametrize('expansion, channels, stride, added', [(6, 4, 1, 1), (1, 4, 2, 0), (2, 5, 1, 0)])  # fmt: skip
def test_a_block_that_keeps_its_size_adds_to_its_input(expansion, channels, stride, added):
    block, x = InvertedResidual(expansion, channels, stride), jnp.full((1, 5, 5, 4), 3.0)
    params = trained(block, x)
    last = params['params']['project']
    nothing = jax.tree.map(jnp.zeros_like, last)
    silent = {'params': params['params'] | {'project': nothing}}
    out = jit(block.apply)(silent, x)
    assert out.shape == (1, -(-5 // stride), -(-5 // stride), channels)
    np.testing.assert_array_equal(out, 3.0 * added)
    assert ('expand' in params['params']) == (expansion > 1)


def test_a_normalised_convolution_is_the_formula():
    """A depthwise one of stride 2 on an even side, whose padding is behind the last element only."""
    layer, random = NormalisedConv(2, (3, 3), 2, groups=2), np.random.default_rng(0)
    x = random.normal(size=(1, 6, 6, 2)).astype(np.float32)
    p = jax.tree.map(
        lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes(layer, x)
    )['params']
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    for i, j in np.ndindex(3, 3):
        window = padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        y = np.sum(window * p['kernel'][:, :, 0], (0, 1))
        y = p['scale'] * (y - p['mean']) / np.sqrt(p['variance'] + 1e-3) + p['bias']
        found = layer.apply({'params': p}, x)[0, i, j]
        np.testing.assert_allclose(found, np.maximum(y, 0), rtol=1e-4, atol=1e-5)
