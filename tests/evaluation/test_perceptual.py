import jax
import numpy as np

from jaxdiff.evaluation import perceptual

X, Y = np.random.default_rng(0).normal(size=(2, 5, 8, 8, 3)).astype(np.float32)


def maps(x, scales=(1.0, 1.0)):
    """Two layers of features that are shifted images."""
    return scales[0] * x, scales[1] * (x[:, ::2, ::2, :2] + 0.3)


def test_it_is_zero_for_equals_symmetric_and_of_each_pair_alone():
    found = perceptual.distance(maps, X, Y)
    assert found.shape == (5,) and np.all(found > 0.1) and np.all(found < 8)
    np.testing.assert_array_equal(perceptual.distance(maps, X, X), 0)
    np.testing.assert_allclose(perceptual.distance(maps, Y, X), found, rtol=1e-5)
    np.testing.assert_allclose(perceptual.distance(maps, X[2:3], Y[2:3]), found[2:3], rtol=1e-5)


def test_it_does_not_know_the_size_of_features():
    found = perceptual.distance(maps, X, Y)
    scaled = perceptual.distance(lambda x: maps(x, (100.0, 0.01)), X, Y)
    np.testing.assert_allclose(scaled, found, rtol=1e-3)
    np.testing.assert_allclose(perceptual.distance(lambda x: [x], X, 3 * X), 0, atol=1e-6)
    np.testing.assert_allclose(perceptual.distance(lambda x: [x], X, -X), 4, rtol=1e-4)


def test_it_is_that_of_angles():
    """|u − v|² = 2 − 2 cos of the angle between, the same at every position."""
    x, y = np.zeros((2, 1, 4, 4, 2), np.float32)
    x[..., 0], y[..., 0], y[..., 1] = 2, 3 * np.cos(0.7), 3 * np.sin(0.7)
    found = perceptual.distance(lambda x: [x, x], x, y)
    np.testing.assert_allclose(found, 2 * (2 - 2 * np.cos(0.7)), rtol=1e-5)


def test_features_that_are_nothing_have_finite_gradients():
    gradient = jax.grad(lambda x: perceptual.distance(lambda x: [x], x, Y).sum())(0 * X)
    assert np.all(np.isfinite(gradient))
