"""Resizing against what it copies: TensorFlow 1's loop, and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxdiff.nets.resize import bicubic, bilinear, rgb


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def tensorflow_1(image, side):
    """TensorFlow 1's resize_bilinear with align_corners=False, one number after the other."""
    h, w, channels = image.shape
    found = np.zeros((side, side, channels))
    for i, j, c in np.ndindex(*found.shape):
        y, x = i * h / side, j * w / side
        top, left = int(y), int(x)
        below, right = min(top + 1, h - 1), min(left + 1, w - 1)
        above = image[top, left, c] * (1 - x + left) + image[top, right, c] * (x - left)
        under = image[below, left, c] * (1 - x + left) + image[below, right, c] * (x - left)
        found[i, j, c] = above * (1 - y + top) + under * (y - top)
    return found


@pytest.mark.parametrize('h, w', [(5, 8), (11, 11), (30, 23), (1, 2)])
def test_bilinear_is_tensorflow_1s(h, w):
    x = images(2, h, w, 3)
    expected = np.stack([tensorflow_1(image.astype(float), 11) for image in x])
    np.testing.assert_allclose(bilinear(rgb(x), 11), expected, atol=1e-3)


def test_bilinear_is_neither_symmetric_nor_smoothed():
    """The first row stays, the last one is repeated; of eight times as many rows each eighth is seen."""
    x = rgb(images(1, 16, 16, 3))
    larger, smaller = bilinear(x, 32), bilinear(x, 2)
    np.testing.assert_array_equal(larger[:, ::2, ::2], x)
    np.testing.assert_array_equal(larger[:, -1, ::2], x[:, -1])
    np.testing.assert_array_equal(smaller, x[:, ::8, ::8])
    np.testing.assert_array_equal(bilinear(x, 16), x)


@pytest.mark.parametrize('h, w', [(7, 9), (20, 20), (64, 80), (50, 99)])
def test_bicubic_is_pillows(h, w):
    x = images(3, h, w, 3)
    expected = [np.asarray(PIL.Image.fromarray(image).resize((20, 20))) for image in x]
    np.testing.assert_array_equal(jax.jit(bicubic, static_argnums=1)(rgb(x), 20), expected)


def test_grey_images_are_those_of_three_equal_channels():
    grey = images(2, 6, 5, 1)
    np.testing.assert_array_equal(rgb(grey), np.repeat(grey, 3, -1))
    assert jax.eval_shape(rgb, grey).dtype == jnp.float32


@pytest.mark.parametrize(
    'x, got',
    [
        (np.zeros((1, 4, 4, 3), np.float32), r'float32 of shape \(1, 4, 4, 3\)'),
        (np.zeros((4, 4, 3), np.uint8), r'uint8 of shape \(4, 4, 3\)'),
        (np.zeros((1, 4, 4, 4), np.uint8), r'uint8 of shape \(1, 4, 4, 4\)'),
    ],
)
def test_other_images_are_refused(x, got):
    with pytest.raises(ValueError, match=rf'must be uint8 of shape .*, got {got}'):
        rgb(x)
