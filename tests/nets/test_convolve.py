import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import convolve
from jaxdiff.nets.layers import convolution


def net(spatial_dims, strides, dtype):
    return convolution(5, spatial_dims, strides=strides, dtype=dtype, name='conv')


@pytest.mark.parametrize(
    'spatial_dims, strides, dtype, atol',
    [(1, 1, 'float32', 1e-5), (2, 1, 'float32', 1e-5), (2, 2, 'float32', 1e-5)]
    + [(3, 2, 'float32', 1e-5), (2, 1, 'bfloat16', 0.05)],
)
def test_gradients_are_those_of_xla(spatial_dims, strides, dtype, atol, monkeypatch):
    """By the kernel, the bias and the input, of two examples and one, where the sides are odd and even."""
    layer, size = net(spatial_dims, strides, jnp.dtype(dtype)), (6, 5, 4)[:spatial_dims]
    x = jax.random.normal(jax.random.key(0), (3, *size, 3))
    params = layer.init(jax.random.key(1), x)
    monkeypatch.setattr(convolve, 'CACHE', 2 * layer.apply(params, x[:1]).nbytes)

    def loss(params, x):
        y = layer.apply(params, x)
        weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape)  # a gradient that varies
        return jnp.sum(weights * jnp.square(y).astype(jnp.float32))

    both = [
        jax.jit(jax.value_and_grad(f, (0, 1)))(params, x)
        for f in (loss, convolve.in_reverse_mode(loss))
    ]
    for one, other in zip(*map(jax.tree.leaves, both)):
        np.testing.assert_allclose(other, one, atol=atol * (1 + np.abs(one).max()))


@pytest.mark.parametrize(
    'examples, cache, parts', [(32, 2**30, 1), (32, 1, 32), (40, 1, 20), (5, 3 * 4 * 4 * 4 * 5, 3)]
)
def test_the_kernels_gradient_is_summed_over_as_many_examples_as_fit(
    examples, cache, parts, monkeypatch
):
    monkeypatch.setattr(convolve, 'CACHE', cache)
    layer, x = net(2, 1, jnp.float32), jnp.ones((examples, 4, 4, 3))
    params = layer.init(jax.random.key(1), x)
    loss = convolve.in_reverse_mode(lambda params: jnp.sum(layer.apply(params, x) ** 2))
    made = jax.jit(jax.grad(loss)).lower(params).as_text().count('stablehlo.convolution')
    assert made == 1 + parts


def test_forward_mode_is_only_given_up_where_that_is_said():
    layer = net(2, 1, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    params = layer.init(jax.random.key(1), x)
    apply = lambda x: layer.apply(params, x)
    _, push = jax.jvp(apply, (x,), (x,))
    np.testing.assert_allclose(push, apply(x) - apply(0 * x), atol=1e-5)  # it is affine
    with pytest.raises(TypeError, match='forward-mode'):
        jax.jvp(convolve.in_reverse_mode(apply), (x,), (x,))
    jax.jvp(apply, (x,), (x,))  # and not for good
