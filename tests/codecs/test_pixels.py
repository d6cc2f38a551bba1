import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.codecs import pixels

KEYS = jax.random.split(jax.random.key(0), 64)


def images(levels):
    k = np.random.default_rng(0).integers(0, levels, (64, 4, 4, 1))
    return jnp.asarray(np.round(k * 255 / (levels - 1)), jnp.uint8)


@pytest.mark.parametrize('dequantize', [False, True])
@pytest.mark.parametrize('levels', [2, 17, 256])
def test_decoding_undoes_encoding(levels, dequantize):
    codec = pixels(levels, dequantize)
    z = codec.encode(KEYS, images(levels))
    assert z.dtype == jnp.float32 and z.min() >= -1 and z.max() <= 1
    np.testing.assert_array_equal(codec.decode((), z), images(levels))


def test_the_ends_of_the_range():
    z = pixels().encode(KEYS[:2], jnp.array([0, 255], jnp.uint8))
    np.testing.assert_array_equal(z, [-1, 1])
    np.testing.assert_array_equal(pixels().decode((), jnp.array([-7.0, 0.0, 7.0])), [0, 128, 255])


def test_dequantised_values_fill_each_levels_interval_uniformly():
    x = jnp.full((64, 40, 40, 1), 255, jnp.uint8)
    z = pixels(17, dequantize=True).encode(KEYS, x)
    width = 2 / 17
    assert z.min() >= 1 - width and z.max() <= 1
    assert float(z.mean()) == pytest.approx(1 - width / 2, abs=4 * width / (12 * z.size) ** 0.5)
    assert float(z.std()) == pytest.approx(width / 12**0.5, rel=0.02)
    assert len(np.unique(z[:, 0, 0, 0])) == 64  # each example draws from its own key


def test_bad_levels_are_refused():
    with pytest.raises(ValueError, match='levels must lie between 2 and 256'):
        pixels(1)
