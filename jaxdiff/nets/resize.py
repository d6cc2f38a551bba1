"""How trained networks were shown images: resizing that is TensorFlow 1's, or Pillow's.

References:
  https://github.com/toshas/torch-fidelity, `interpolate_compat_tensorflow.py`: TensorFlow 1's.
  Parmar et al. 2021, On Aliased Resizing and Surprising Subtleties in GAN Evaluation
    (https://arxiv.org/abs/2104.11222): how much the resizing matters.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

_BITS = 22  # of fractions in bicubic weights


def rgb(images: Array) -> Array:
    """uint8 images [b, h, w, 1 or 3] as float32 [b, h, w, 3], grey ones three times.

    Raises: ValueError where they are anything else.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != jnp.uint8:
        raise ValueError(
            'images must be uint8 of shape [b, h, w, 1 or 3], '
            f'got {images.dtype} of shape {tuple(images.shape)}'
        )
    return jnp.broadcast_to(jnp.asarray(images, jnp.float32), (*images.shape[:-1], 3))


def bilinear(x: Array, side: int) -> Array:
    """TensorFlow 1's `resize_bilinear`: [b, h, w, c] -> [b, side, side, c].

    Row i of the result lies at p = i h / side, without the half of a pixel that makes it symmetric,

        y_i = x_⌊p⌋ + (p - ⌊p⌋) (x_⌊p⌋+1 - x_⌊p⌋),

    the last row standing for those behind it; columns likewise. Two neighbours are seen whatever the
    size, so that large images are aliased.
    """
    for axis in (2, 1):
        size = x.shape[axis]
        at = np.arange(side, dtype=np.float32) * np.float32(size / side)
        low = at.astype(np.int32)
        part = jnp.expand_dims(at - low, [i for i in range(x.ndim) if i != axis])
        a, b = (jnp.take(x, np.minimum(low + i, size - 1), axis) for i in (0, 1))
        x = a + (b - a) * part
    return x


def bicubic(images: Array, side: int) -> Array:
    """Pillow's `resize` by default: uint8 or float of whole numbers [b, h, w, c] -> float32 [b, side, side, c].

    Keys' cubic k (a = -1/2), widened by r = max(n / side, 1) where n pixels shrink, in integers:

        y_i = ⌊(2^21 + sum_j w_ij x_j) / 2^22⌋, clipped to 0 … 255,
        w_ij = 2^22 k((j + 1/2 - (i + 1/2) n / side) / r), rounded, the sum over j being about 2^22

    first along rows and then along columns. So it is the same on every device, and of square images
    in every bit Pillow's, whose later versions take the columns of some others first (tall ones).

    References:
      Keys 1981, Cubic Convolution Interpolation for Digital Image Processing, equation 15.
      https://github.com/python-pillow/Pillow, `src/libImaging/Resample.c`.
    """
    x = images.astype(jnp.int32)
    for axis in (2, 1):
        places, weights = _cubic(x.shape[axis], side)
        others = [i for i in range(x.ndim) if i != axis]
        total = sum(
            jnp.take(x, at, axis) * jnp.expand_dims(w, others) for at, w in zip(places, weights)
        )
        x = jnp.clip((total + 2 ** (_BITS - 1)) >> _BITS, 0, 255)
    return x.astype(jnp.float32)


def _cubic(size, side):
    """Pixels that each of `side` results sees, and their weights, int32 [seen, side] each."""
    scale = size / side
    wide = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    low = np.maximum((centre - 2 * wide + 0.5).astype(int), 0)
    high = np.minimum((centre + 2 * wide + 0.5).astype(int), size)
    places = low + np.arange((high - low).max())[:, None]
    d = np.abs((places - centre + 0.5) * (1 / wide))
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = np.where(d < 1, near, np.where(d < 2, far, 0)) * (places < high)
    weights *= 2**_BITS / weights.sum(0)
    weights = np.trunc(weights + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(places, size - 1), weights
