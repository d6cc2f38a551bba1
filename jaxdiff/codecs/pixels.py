"""Pixels: uint8 images and real numbers in [-1, 1]."""

import jax
import jax.numpy as jnp

from jaxdiff.codecs.codec import Codec


def pixels(levels: int = 256, dequantize: bool = False) -> Codec:
    """Scales uint8 values to [-1, 1] and back.

    An image whose channel takes `levels` distinct values, spread evenly over 0 … 255, is the
    integer k in 0 … levels − 1. It becomes 2 k / (levels − 1) − 1 or, dequantised,
    2 (k + u) / levels − 1 with u uniform on [0, 1), which has a density (Theis et al. 2016,
    arXiv:1511.01844, section 3.1).

    Decoding clips and rounds to the nearest of the 256 values (dequantised: to the level whose
    interval holds z), so that decode(encode(x)) = x.
    """
    if not 2 <= levels <= 256:
        raise ValueError(f'levels must lie between 2 and 256, got {levels=}')

    def encode(keys, x):
        k = jnp.round(x.astype(float) * (levels - 1) / 255)
        if not dequantize:
            return 2 * k / (levels - 1) - 1
        u = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], k.dtype))(keys)
        return 2 * (k + u) / levels - 1

    def decode(weights, z):
        unit = (jnp.clip(z, -1, 1) + 1) / 2
        if dequantize:
            unit = jnp.minimum(jnp.floor(unit * levels), levels - 1) / (levels - 1)
        return jnp.round(unit * 255).astype(jnp.uint8)

    return Codec(lambda weights, x: x, encode, decode)
