"""Halving and doubling by a filter, along every spatial axis.

References:
  Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, appendix B: the filter (1, 3, 3, 1).
"""

import jax.numpy as jnp
from jax import Array

BOX, FIR = (1, 1), (1, 3, 3, 1)  # the mean of two and nearest-neighbour; bilinear, smoother


def shrink(x: Array, taps: tuple[int, ...], padded: bool = False) -> Array:
    """y_i = sum_k f_k x_(2 i + k - p), f = taps / sum(taps), p = len(taps) / 2 - 1, zeros outside: [b, *spatial, c] to half.

    Args:
      padded: x has p more elements at either end of every axis already.
    """
    margin = len(taps) // 2 - 1
    for axis in range(1, x.ndim - 1):
        x = x if padded else _pad(x, axis, margin)
        parts = [
            _every_other(x, axis, k, len(taps)) * (tap / sum(taps)) for k, tap in enumerate(taps)
        ]
        x = sum(parts)
    return x


def grow(x: Array, taps: tuple[int, ...]) -> Array:
    """y_j = 2 sum_i f_(j - 2 i + p) x_i, the transpose of twice `shrink`: [b, *spatial, c] to double."""
    margin = len(taps) // 2 - 1
    for axis in range(1, x.ndim - 1):
        size, wide = x.shape[axis], _pad(x, axis, margin)

        def phase(j):
            ks = [k for k in range(len(taps)) if (k - margin - j) % 2 == 0]
            starts = {k: margin + (j + margin - k) // 2 for k in ks}
            return sum(
                _slice(wide, axis, starts[k], starts[k] + size) * (2 * taps[k] / sum(taps))
                for k in ks
            )

        both = jnp.stack([phase(0), phase(1)], axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


def padding(taps: tuple[int, ...], spatial_dims: int) -> list[tuple[int, int]]:
    """What `shrink` of a padded x needs around [b, *spatial, c]."""
    margin = len(taps) // 2 - 1
    return [(0, 0), *[(margin, margin)] * spatial_dims, (0, 0)]


def _pad(x, axis, margin):
    return jnp.pad(x, [(margin, margin) if i == axis else (0, 0) for i in range(x.ndim)])


def _slice(x, axis, start, stop, step=1):
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def _every_other(x, axis, start, length):
    return _slice(x, axis, start, x.shape[axis] - length + start + 1, 2)
