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
def test_gradients_are_those_of_xla(spatial_dims, strides, dtype, atol):
    """By the kernel, the bias and the input, where the sides are odd and even."""
    layer, size = net(spatial_dims, strides, jnp.dtype(dtype)), (6, 5, 4)[:spatial_dims]
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    params = layer.init(jax.random.key(1), x)

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
