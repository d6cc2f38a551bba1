"""How trained networks were shown images: resizing that is TensorFlow 1's or Pillow's, number by number.

References:
  https://github.com/toshas/torch-fidelity, `interpolate_compat_tensorflow.py`: TensorFlow 1's.
  Parmar et al. 2021, On Aliased Resizing and Surprising Subtleties in GAN Evaluation
    (https://arxiv.org/abs/2104.11222): how much the resizing matters.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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


def bicubic(x: Array, side: int) -> Array:
    """Pillow's `resize` of 8-bit images by default: [b, h, w, c] of 0 … 255 -> [b, side, side, c].

    Keys' cubic (a = -1/2), widened where images shrink; first along rows and then along columns, each
    rounded to whole numbers of 0 … 255. Pillow's weights have 22 bits, so that one number in
    thousands may be another by 1; and its later versions take the columns of tall images first.
    """
    for axis in (2, 1):
        shape = tuple(side if i == axis else n for i, n in enumerate(x.shape))
        x = jax.image.resize(x, shape, 'cubic')
        x = jnp.clip(jnp.floor(x + 0.5), 0, 255)
    return x
