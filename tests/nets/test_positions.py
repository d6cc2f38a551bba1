"""Positions: what two of them say depends on how far apart they are, and on nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import normal

from jaxdiff.nets.attention import attend
from jaxdiff.nets.positions import rotary, rotate, sincos


def differences(sizes):
    """[axes, n, n]: coordinate minus coordinate, on each axis."""
    coordinates = np.indices(sizes).reshape(len(sizes), -1)
    return coordinates[:, :, None] - coordinates[:, None]


@pytest.mark.parametrize('sizes', [(7,), (4, 5), (2, 3, 2)])
def test_the_inner_product_of_sincos_is_a_sum_of_cosines_of_the_distances(sizes):
    features = 4
    p = sincos(sizes, 2 * len(sizes) * features)
    frequencies = 10000.0 ** -(np.arange(features) / features)
    expected = np.cos(differences(sizes)[..., None] * frequencies).sum((0, -1))
    np.testing.assert_allclose(p @ p.T, expected, atol=1e-4)


def test_sincos_puts_the_last_axis_first():
    p = np.asarray(sincos((3, 4), 8)).reshape(3, 4, 8)
    assert np.ptp(p[..., :4], axis=0).max() == 0.0 == np.ptp(p[..., 4:], axis=1).max()
    np.testing.assert_allclose(p[0, :, 0], np.sin(np.arange(4)), atol=1e-6)
    np.testing.assert_allclose(p[0, :, 2], np.cos(np.arange(4)), atol=1e-6)


def heads(seed, n):
    return normal(seed, 2, n, 3, 12)


def test_rotation_keeps_lengths_and_leaves_the_first_position():
    x = heads(0, 15)
    y = rotate(x, rotary((3, 5), 12))
    norm = lambda v: jnp.linalg.norm(v, axis=-1)
    np.testing.assert_allclose(norm(y), norm(x), rtol=1e-5)
    np.testing.assert_array_equal(y[:, 0], x[:, 0])
    assert np.abs(y[:, 1:] - x[:, 1:]).max() > 0.1


@pytest.mark.parametrize('sizes', [(8,), (3, 4), (2, 3, 2)])
def test_rotated_products_are_functions_of_the_differences(sizes):
    """One query and one key, put at every position: equal differences give equal products, others don't."""
    n = int(np.prod(sizes))
    q, k = (
        rotate(jnp.broadcast_to(normal(i, 12), (1, n, 1, 12)), rotary(sizes, 12))[0, :, 0]
        for i in (1, 2)
    )
    products, apart = np.asarray(q @ k.T).ravel(), differences(sizes).reshape(len(sizes), -1)
    _, group = np.unique(apart, axis=1, return_inverse=True)
    means = np.array([products[group.ravel() == g].mean() for g in range(group.max() + 1)])
    np.testing.assert_allclose(products, means[group.ravel()], atol=1e-4)
    assert np.diff(np.sort(means)).min() > 1e-5


def test_attention_on_a_window_does_not_depend_on_where_the_window_is():
    q, k, v = (heads(i, 6) for i in range(3))
    large = np.asarray(rotary((5, 6), 12)).reshape(5, 6, -1)
    windows = [large[i : i + 2, j : j + 3].reshape(6, -1) for i, j in ((0, 0), (2, 1), (3, 3))]
    results = [attend(rotate(q, a), rotate(k, a), v) for a in windows]
    np.testing.assert_allclose(windows[0], rotary((2, 3), 12), atol=1e-6)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
    assert np.abs(results[0] - attend(q, k, v)).max() > 0.01


def test_rotation_keeps_the_dtype():
    assert rotate(heads(0, 4).astype(jnp.bfloat16), rotary((4,), 12)).dtype == jnp.bfloat16
