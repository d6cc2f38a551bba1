"""Linear measurements of images, y = A x, and their pseudo-inverses A⁺.

A⁺ y is the smallest x among those that come nearest to y:

    A A⁺ A = A,    A⁺ A A⁺ = A⁺,    A A⁺ and A⁺ A symmetric.                               (66)

Images are [b, h, w, c]. The adjoint Aᵀ is `jax.linear_transpose` of `apply`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Singular values of an axis below this share of the largest are taken for 0 by the pseudo-inverse:
# undoing them would raise the rounding of 8 bits above the image. DDRM's code has the same share.
_SMALLEST = 0.03


class Operator(NamedTuple):
    """`apply` is A, of images, and `pinv` is A⁺, of measurements."""

    apply: Callable[[Array], Array]
    pinv: Callable[[Array], Array]


def identity() -> Operator:
    """The image itself."""
    return Operator(lambda x: x, lambda y: y)


def mask(known: Array) -> Operator:
    """The image where `known`, [h, w, 1] or [b, h, w, 1], is 1, and 0 where it is 0: a projection."""
    return Operator(lambda x: known * x, lambda y: known * y)


def grey(channels: int) -> Operator:
    """The mean of the channels, [b, h, w, 1]."""

    def mean(x):
        return jnp.mean(x, -1, keepdims=True)

    return Operator(mean, lambda y: jnp.repeat(y, channels, -1))


def separable(rows: np.ndarray, columns: np.ndarray) -> Operator:
    """R x Cᵀ in each channel; its pseudo-inverse is R⁺ y C⁺ᵀ, since (R ⊗ C)⁺ = R⁺ ⊗ C⁺.

    Args:
      rows: R, [h', h].
      columns: C, [w', w].
    """

    def both(r, c):
        r, c = (jnp.asarray(m, jnp.float32) for m in (r, c))
        return lambda x: jnp.einsum('ih,bhwc,jw->bijc', r, x, c, precision='highest')

    inverses = (np.linalg.pinv(np.float64(m), rcond=_SMALLEST) for m in (rows, columns))
    return Operator(both(rows, columns), both(*inverses))


def downsample(shape: tuple[int, ...], factor: int) -> Operator:
    """Images of `shape` (h, w, c) made smaller by `factor`, bicubic and antialiased.

    Raises: ValueError where the factor does not divide both sides.
    """
    h, w = shape[:2]
    if factor < 1 or h % factor or w % factor:
        raise ValueError(
            f'images of {w} x {h} pixels cannot be made {factor} times smaller: both sides must be '
            'multiples of that'
        )

    def axis(n):
        with jax.ensure_compile_time_eval():
            smaller = jax.image.resize(jnp.eye(n), (n // factor, n), 'cubic', precision='highest')
        return np.asarray(smaller)

    return separable(axis(h), axis(w))


def blur(shape: tuple[int, ...], deviation: float) -> Operator:
    """Images of `shape` (h, w, c) under a Gaussian of so many pixels, mirrored at their borders.

    Raises: ValueError where the deviation isn't positive.
    """
    if not deviation > 0:
        raise ValueError(f'the deviation of a blur must be positive, got {deviation}')
    return separable(*(_mirrored(n, deviation) for n in shape[:2]))


def _mirrored(n, deviation):
    """The matrix of a Gaussian filter on n pixels, [n, n]; each row sums to 1."""
    reach = int(np.ceil(4 * deviation))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2))
    seen = (np.arange(n)[:, None] + offsets) % (2 * n)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], np.minimum(seen, 2 * n - 1 - seen)), weights)
    return matrix / weights.sum()
