from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import linear
from jaxdiff.nets.layers import convolution, dense


def net(spatial_dims, strides, dtype):
    return convolution(5, spatial_dims, strides=strides, dtype=dtype, name='conv')


class Product(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        return dense(x, 5, dtype=self.dtype, name='product')


def by_input_and_kernel(f, params, x):
    """f and its gradients, in forward mode's rules and in reverse mode's own."""

    def loss(params, x):
        y = f(params, x)
        weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape)  # a gradient that varies
        return jnp.sum(weights * jnp.square(y).astype(jnp.float32))

    for each in (loss, linear.in_reverse_mode(loss)):
        yield jax.tree.leaves(jax.jit(jax.value_and_grad(each, (0, 1)))(params, x))


def agree(some, others, atol):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(other, one, atol=atol * (1 + np.abs(one).max()))


@pytest.mark.parametrize(
    'spatial_dims, strides, dtype, atol',
    [(1, 1, 'float32', 1e-5), (2, 1, 'float32', 1e-5), (2, 2, 'float32', 1e-5)]
    + [(3, 2, 'float32', 1e-5), (2, 1, 'bfloat16', 0.05)],
)
def test_gradients_of_a_convolution_are_those_of_xla(
    spatial_dims, strides, dtype, atol, monkeypatch
):
    """By the kernel, the bias and the input, of two examples and one, where the sides are odd and even."""
    layer, size = net(spatial_dims, strides, jnp.dtype(dtype)), (6, 5, 4)[:spatial_dims]
    x = jax.random.normal(jax.random.key(0), (3, *size, 3))
    params = layer.init(jax.random.key(1), x)
    monkeypatch.setattr(linear, 'CACHE', 2 * layer.apply(params, x[:1]).nbytes)
    agree(*by_input_and_kernel(layer.apply, params, x), atol)


@pytest.mark.parametrize('dtype, atol', [('float32', 1e-5), ('bfloat16', 0.05)])
@pytest.mark.parametrize('sizes', [(5,), (3, 4), (2, 3, 2)])
def test_a_convolution_of_what_is_doubled_is_that_of_its_nearest_neighbours(sizes, dtype, atol):
    x = jax.random.normal(jax.random.key(0), (2, *sizes, 3))
    made = lambda doubled: convolution(
        5, len(sizes), doubled=doubled, dtype=jnp.dtype(dtype), name='conv'
    )
    params = made(False).init(jax.random.key(1), x)
    shape = (2, *(2 * size for size in sizes), 3)
    plainly = lambda params, x: made(False).apply(params, jax.image.resize(x, shape, 'nearest'))
    wanted, _ = by_input_and_kernel(plainly, params, x)
    for found in by_input_and_kernel(made(True).apply, params, x):
        agree(found, wanted, atol)


@pytest.mark.parametrize('dtype, atol', [('float32', 1e-5), ('bfloat16', 0.05)])
def test_gradients_of_a_product_are_those_of_xla(dtype, atol):
    layer = Product(jnp.dtype(dtype))
    x = jax.random.normal(jax.random.key(0), (4, 3, 2))
    params = layer.init(jax.random.key(1), x)
    agree(*by_input_and_kernel(layer.apply, params, x), atol)


@pytest.mark.parametrize(
    'examples, cache, parts', [(32, 2**30, 1), (32, 1, 32), (40, 1, 20), (5, 3 * 4 * 4 * 4 * 5, 3)]
)
def test_the_kernels_gradient_is_summed_over_as_many_examples_as_fit(
    examples, cache, parts, monkeypatch
):
    monkeypatch.setattr(linear, 'CACHE', cache)
    layer, x = net(2, 1, jnp.float32), jnp.ones((examples, 4, 4, 3))
    params = layer.init(jax.random.key(1), x)
    loss = linear.in_reverse_mode(lambda params: jnp.sum(layer.apply(params, x) ** 2))
    made = jax.jit(jax.grad(loss)).lower(params).as_text().count('stablehlo.convolution')
    assert made == 1 + parts


@pytest.mark.parametrize('layer', [net(2, 1, jnp.float32), Product()])
def test_forward_mode_is_only_given_up_where_that_is_said(layer):
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    params = layer.init(jax.random.key(1), x)
    apply = lambda x: layer.apply(params, x)
    _, push = jax.jvp(apply, (x,), (x,))
    np.testing.assert_allclose(push, apply(x) - apply(0 * x), atol=1e-5)  # it is affine
    with pytest.raises(TypeError, match='forward-mode'):
        jax.jvp(linear.in_reverse_mode(apply), (x,), (x,))
    jax.jvp(apply, (x,), (x,))  # and not for good
