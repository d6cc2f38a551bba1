"""Halving and doubling by a filter: means, straight lines, and each other's transpose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import close, normal

from jaxdiff.nets import resample


@pytest.mark.parametrize('size', [(8,), (8, 4), (4, 2, 6)])
def test_a_box_is_the_mean_and_the_nearest_neighbour(size):
    x = normal(0, 2, *size, 3)
    pairs = x.reshape(2, *(n for s in size for n in (s // 2, 2)), 3)
    close(resample.shrink(x, resample.BOX), pairs.mean(tuple(range(2, 2 + 2 * len(size), 2))))
    nearest = jax.image.resize(x, (2, *(2 * s for s in size), 3), 'nearest')
    np.testing.assert_array_equal(resample.grow(x, resample.BOX), nearest)


@pytest.mark.parametrize('taps', [resample.BOX, resample.FIR])
@pytest.mark.parametrize('size', [(8,), (8, 4), (4, 2, 6)])
def test_doubling_is_the_transpose_of_halving(size, taps):
    """Times 2 an axis, which keeps what is constant."""
    x = normal(0, 2, *size, 3)
    (found,) = jax.linear_transpose(
        lambda x: resample.shrink(x, taps), jnp.zeros((2, *(2 * s for s in size), 3))
    )(x)
    close(resample.grow(x, taps), found * 2 ** len(size))


def test_straight_lines_stay_straight_away_from_the_ends():
    """A place of the half size lies between two of the whole: line(2 i + 1/2), and line((j - 1/2) / 2)."""
    line = jnp.arange(16.0)[None, :, None]
    i, j = jnp.arange(8.0)[None, :, None], jnp.arange(32.0)[None, :, None]
    close(resample.shrink(line, resample.FIR)[:, 1:-1], (2 * i + 0.5)[:, 1:-1])
    close(resample.grow(line, resample.FIR)[:, 1:-1], ((j - 0.5) / 2)[:, 1:-1])


def test_what_is_padded_before_gives_the_same():
    x = normal(0, 2, 8, 4, 3)
    wide = jnp.pad(x, resample.padding(resample.FIR, 2))
    close(resample.shrink(wide, resample.FIR, padded=True), resample.shrink(x, resample.FIR))
