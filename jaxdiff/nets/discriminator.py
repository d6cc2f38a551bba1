"""A discriminator of patches: a score for every part of an image, high for real ones.

References:
  Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks, section 3.2.2
    and appendix 6.1.2 (https://arxiv.org/abs/1611.07004).
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets.layers import GroupNorm, at_least_single

_WIDEST = 8  # times the first layer's channels


def check_size(shape, layers):
    """Refuses images that so many halvings leave nothing of.

    Args:
      shape: (..., h, w, c).

    Raises:
      ValueError: where a side is less than 2**layers.
    """
    if min(shape[-3:-1]) < 2**layers:
        raise ValueError(
            f'autoencoder.discriminator_layers={layers} halves the sides as often, which must be '
            f'at least {2**layers}, got {tuple(shape[-3:-1])}'
        )


class Discriminator(nn.Module):
    """x [b, h, w, c] -> scores [b, h / f, w / f], f = 2**layers, each of a part of the image.

    Convolutions of side 4, `layers` of stride 2 and two of stride 1, with leaky ReLU; channels
    double at each. A score sees 16 x 16 pixels with one layer, 34 x 34 with two, 70 x 70 with
    three. Normalised over groups of channels where the paper does over the batch, so that a score
    is of its own image alone.

    Attributes:
      channels: of the first layer.
      layers: of stride 2.
      dtype: of the computation; the scores are float32 at least.
    """

    channels: int = 64
    layers: int = 2
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x):
        dtype = jnp.dtype(self.dtype)
        conv = functools.partial(
            nn.Conv, kernel_size=(4, 4), kernel_init=nn.initializers.normal(0.02)
        )
        h = x.astype(dtype)
        for i in range(self.layers + 1):
            width = self.channels * min(2**i, _WIDEST)
            strides = 2 if i < self.layers else 1
            h = conv(width, strides=strides, dtype=dtype, name=f'conv_{i}')(h)
            h = GroupNorm(dtype, name=f'norm_{i}')(h) if i else h
            h = nn.leaky_relu(h, 0.2)
        return conv(1, dtype=at_least_single(dtype), name='conv_out')(h)[..., 0]
