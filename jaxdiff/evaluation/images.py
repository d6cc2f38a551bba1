"""How near images are to others: PSNR and SSIM, of each pair.

References:
  Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

# Wang et al. 2004, section 3: the window's side and deviation in pixels, K_1 and K_2.
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(x: Array, y: Array, peak: float = 255.0) -> Array:
    """Peak signal-to-noise ratio in decibels, 10 log10(peak² / mean (x − y)²), [b].

    Equal images, whose ratio would be infinite and so the mean of all, count as if they differed by 1
    of 255 in one value.

    Args:
      x, y: [b, ...], values of 0 … peak.
    """
    x, y = x.astype(float), y.astype(float)
    error = jnp.mean(jnp.square(x - y), axis=tuple(range(1, x.ndim)))
    least = (peak / 255) ** 2 / math.prod(x.shape[1:])
    return 10 * jnp.log10(peak**2 / jnp.where(error == 0, least, error))


def ssim(x: Array, y: Array, peak: float = 255.0) -> Array:
    """Structural similarity, [b]: the mean over positions and channels of

        (2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x² + m_y² + c_1) (s_x² + s_y² + c_2))

    with means m, variances s² and covariance s_xy under a Gaussian window at every position where it
    fits, c_1 = (K_1 peak)², c_2 = (K_2 peak)². 1 for equal images.

    Args:
      x, y: [b, h, w, c], values of 0 … peak.

    Raises: ValueError where an image is smaller than the window, 11 x 11.
    """
    if min(x.shape[1:3]) < WINDOW:
        raise ValueError(f'SSIM needs images of {WINDOW} x {WINDOW} at least, got {x.shape[1:3]}')
    offsets = jnp.arange(WINDOW) - WINDOW // 2
    kernel = jnp.exp(-(offsets**2) / (2 * DEVIATION**2))
    kernel = kernel / kernel.sum()

    def mean(v):  # under the window: along one axis, then the other
        for axis in (1, 2):
            v = jax.vmap(lambda row: jnp.convolve(row, kernel, 'valid', precision='highest'))(
                jnp.moveaxis(v, axis, -1).reshape(-1, v.shape[axis])
            ).reshape(*(n for i, n in enumerate(v.shape) if i != axis), -1)
            v = jnp.moveaxis(v, -1, axis)
        return v

    x, y = x.astype(float), y.astype(float)
    m_x, m_y = mean(x), mean(y)
    s_xx, s_yy, s_xy = mean(x * x) - m_x**2, mean(y * y) - m_y**2, mean(x * y) - m_x * m_y
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    each = (2 * m_x * m_y + c1) * (2 * s_xy + c2)
    each = each / ((m_x**2 + m_y**2 + c1) * (s_xx + s_yy + c2))
    return each.mean((1, 2, 3))
