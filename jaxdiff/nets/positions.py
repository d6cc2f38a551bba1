"""Where a token stands on its grid, for any number of axes and any sizes: fixed numbers, nothing learned."""

import jax.numpy as jnp

from jaxdiff.nets.layers import at_least_single


def angles(sizes, features, base):
    """Each position's coordinates times falling frequencies.

        angle[axis, position, i] = coordinate of the position on the axis * base^(-i / features),  i = 0 .. features - 1

    Args:
      sizes: of the grid's axes; its n positions are counted row by row.
      features: the number of frequencies per axis.
      base: over one below the lowest frequency, about.

    Returns:
      [axes, n, features], float32.
    """
    coordinates = jnp.indices(sizes).reshape(len(sizes), -1, 1)
    return coordinates * float(base) ** -(jnp.arange(features) / features)


def sincos(sizes, width):
    """The sines and cosines of every axis' angles, to be added to a token; the last axis comes first.

    The inner product of two depends on their distances d alone: the sum over axes and frequencies f of cos(f d).

    Args:
      sizes: of the grid's axes, n positions in all.
      width: of a token, divisible by twice the number of axes.

    Returns:
      [n, width], float32.

    References:
      Peebles & Xie 2023, Scalable Diffusion Models with Transformers, section 3.2; the order is their code's.
    """
    a = angles(sizes, width // (2 * len(sizes)), 10000)[::-1]
    return jnp.concatenate([f(axis) for axis in a for f in (jnp.sin, jnp.cos)], axis=-1)


def rotary(sizes, width):
    """The angles by which `rotate` turns a head's queries and keys.

    Args:
      sizes: of the grid's axes, n positions in all.
      width: of a head, divisible by twice the number of axes.

    Returns:
      [n, width / 2], float32.

    References:
      Heo et al. 2024, Rotary Position Embedding for Vision Transformer, section 3.1 (axial frequencies, base 100).
    """
    return jnp.concatenate(list(angles(sizes, width // (2 * len(sizes)), 100)), axis=-1)


def rotate(x, angles):
    """Turns each pair (x_i, x_{i + d/2}) by its angle, so that q k^T depends on where q and k are by difference alone.

    Args:
      x: [b, n, heads, d], queries or keys.
      angles: [n, d / 2].

    Returns:
      [b, n, heads, d], in the dtype of x.

    References:
      Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding, equation 16.
    """
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    first, second = jnp.split(x.astype(at_least_single(x.dtype)), 2, axis=-1)
    turned = [first * cos - second * sin, first * sin + second * cos]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
