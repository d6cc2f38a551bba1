"""The shared layers against float64 arithmetic, peers and theory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.layers import (
    Dropout,
    GroupNorm,
    dense,
    fourier_embedding,
    gelu,
    group_count,
    silu,
    sinusoidal_embedding,
)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def group_norm(x, scale, bias):
    return GroupNorm().apply({'params': {'scale': scale, 'bias': bias}}, x)


def group_norm_float64(x):
    groups = group_count(x.shape[-1])
    y = np.asarray(x, np.float64).reshape(len(x), -1, groups, x.shape[-1] // groups)
    y = (y - y.mean((1, 3), keepdims=True)) / np.sqrt(y.var((1, 3), keepdims=True) + 1e-6)
    return y.reshape(x.shape)


@pytest.mark.parametrize(
    'channels, groups', [(128, 32), (384, 32), (32, 8), (96, 24), (48, 12), (10, 2), (2, 1)]
)
def test_groups_divide_the_channels_and_hold_four(channels, groups):
    assert group_count(channels) == groups
    assert channels % groups == 0 and (groups == 1 or channels // groups >= 4)


@pytest.mark.parametrize('sizes', [(24,), (6, 5), (3, 4, 2)])
def test_group_norm_and_its_gradient_agree_with_flax(sizes):
    x, scale, bias, weight = (
        normal(0, 3, *sizes, 48),
        normal(1, 48),
        normal(2, 48),
        normal(3, 3, *sizes, 48),
    )

    def flax_norm(x, scale, bias):
        peer = nn.GroupNorm(group_count(48), epsilon=1e-6)
        return peer.apply({'params': {'scale': scale, 'bias': bias}}, x)

    np.testing.assert_allclose(group_norm(x, scale, bias), flax_norm(x, scale, bias), atol=1e-5)
    ours, theirs = (
        jax.jit(jax.grad(lambda *args: jnp.sum(f(*args) * weight), (0, 1, 2)))(x, scale, bias)
        for f in (group_norm, flax_norm)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, theirs)


@pytest.mark.parametrize('offset', [0.0, 1.0, 10.0, 100.0])
def test_group_norm_loses_to_cancellation_only_what_its_docstring_says(offset):
    x = normal(4, 4, 28, 28, 32) + np.float32(offset)
    got = group_norm(x, jnp.ones(32), jnp.zeros(32))
    np.testing.assert_allclose(
        got, group_norm_float64(x), rtol=2e-7 * (1 + offset**2), atol=1e-6 * (1 + offset)
    )


def test_group_norm_of_a_constant_is_finite():
    x = jnp.full((1, 4, 4, 8), 1e3)
    value, gradient = jax.value_and_grad(lambda x: group_norm(x, jnp.ones(8), jnp.zeros(8)).sum())(
        x
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_sinusoidal_embedding_spans_the_frequencies():
    t = jnp.array([0.0, 0.3, 1000.0])
    got = sinusoidal_embedding(t, 8)
    frequencies = np.array([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])
    angles = np.asarray(t, np.float64)[:, None] * frequencies
    np.testing.assert_allclose(got, np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=1e-4)
    np.testing.assert_allclose(jnp.sum(got**2, -1), 4.0, rtol=1e-5)  # sin^2 + cos^2, four times


@pytest.mark.parametrize('ours, theirs', [(silu, nn.silu), (gelu, nn.gelu)])
def test_activations_and_their_derivatives_are_those_of_flax(ours, theirs):
    """Of flax's in double precision, for in single it loses gelu's tail."""
    x = np.concatenate([np.linspace(-20, 20, 401), [-1e4, 1e4]]).astype(np.float32)
    for _ in range(3):  # the function, its first and its second derivative
        with jax.enable_x64(True):
            wanted = np.asarray(jax.vmap(theirs)(jnp.asarray(x, jnp.float64)))
        np.testing.assert_allclose(jax.vmap(ours)(x), wanted, rtol=1e-6, atol=2e-5)
        ours, theirs = jax.grad(ours), jax.grad(theirs)


class Pointwise(nn.Module):
    @nn.compact
    def __call__(self, x):
        return dense(x, 5, name='point')


@pytest.mark.parametrize('sizes', [(), (7,), (3, 4, 2)])
def test_dense_is_one_matrix_for_every_position(sizes):
    x = normal(0, 2, *sizes, 3)
    made = Pointwise().init(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: normal(1, *leaf.shape), made)
    kernel, bias = (params['params']['point'][name] for name in ('kernel', 'bias'))
    np.testing.assert_allclose(Pointwise().apply(params, x), x @ kernel + bias, atol=1e-5)


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x, keys):
        return Dropout(0.5, name='first')(x, keys), Dropout(0.5, name='second')(x, keys)


def drop(rate, x, keys):
    return Dropout(rate).apply({}, x, keys)


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
    rate, x = 0.3, jnp.ones((8, 50, 50, 4))
    y = drop(rate, x, jax.random.split(jax.random.key(0), 8))
    deviation = (rate * (1 - rate) / x.size) ** 0.5
    assert abs(float(jnp.mean(y == 0.0)) - rate) < 5 * deviation
    assert abs(float(y.mean()) - 1.0) < 5 * deviation / (1 - rate)
    np.testing.assert_allclose(y[y != 0.0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_mask_belongs_to_the_example_and_the_layer():
    keys, x = jax.random.split(jax.random.key(1), 4), jnp.ones((4, 10, 6))
    y = drop(0.5, x, keys)
    np.testing.assert_array_equal(y[::-1], drop(0.5, x, keys[::-1]))
    np.testing.assert_array_equal(y[2:3], drop(0.5, x[2:3], keys[2:3]))
    assert (y[0] != y[1]).any()
    first, second = Twice().apply({}, x, keys)
    assert (first != second).any()


def test_dropout_of_nothing():
    x, keys = jnp.ones((2, 5)), jax.random.split(jax.random.key(2), 2)
    assert drop(0.5, x, None) is x
    assert drop(0.0, x, keys) is x


def test_fourier_features_are_of_the_log_of_the_noise_at_random_frequencies():
    """exp(i 2 pi f u) of u = log(sigma / alpha), f ~ N(0, 16^2): its mean over f is exp(-(2 pi 16 u)^2 / 2)."""
    u = np.array([0.0, 0.004, 0.01, 1.0, -0.01], np.float32)
    found = fourier_embedding(jnp.asarray(500 - 50 * u), 20_000)
    sines, cosines = np.split(np.asarray(found), 2, axis=-1)
    np.testing.assert_allclose(sines**2 + cosines**2, 1, rtol=1e-5)
    np.testing.assert_allclose(
        cosines.mean(-1), np.exp(-((2 * np.pi * 16 * u) ** 2) / 2), atol=0.03
    )
    np.testing.assert_allclose(sines[2], -sines[4], atol=1e-3)
    assert float(np.mean(sines[2] > 0)) == pytest.approx(0.5, abs=0.03)
