"""Autoencoders: an image as a small latent array, and back. Of Gaussians (KL) or of codes (VQ).

References:
  Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models, section 3.1 and
    appendix G (https://arxiv.org/abs/2112.10752).
  Kingma & Welling 2013, Auto-Encoding Variational Bayes (https://arxiv.org/abs/1312.6114).
  van den Oord et al. 2017, Neural Discrete Representation Learning (https://arxiv.org/abs/1711.00937).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets import check
from jaxdiff.nets.attention import SelfAttention
from jaxdiff.nets.layers import GroupNorm, at_least_single, convolution, dense, silu

# The side of the squares of pixels that become channels at first, and pixels again at last.
STEM = 2


def check_size(shape, multipliers):
    """Refuses a shape that an autoencoder can't shrink.

    Args:
      shape: (..., *spatial, c).
      multipliers: one per level; the sides shrink by 2 for the stem and for each level but the last.

    Raises:
      ValueError: where a side isn't a positive multiple of that, with the nearest that are.
    """
    levels = len(multipliers)
    check.divisible(shape, STEM * 2 ** (levels - 1), 2, f'an autoencoder of {levels} levels')


def space_to_depth(x, side):
    """[b, h, w, c] -> [b, h / side, w / side, side² c]: squares of pixels, row by row, as channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // side, w // side, side * side * c)


def depth_to_space(x, side):
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, side, side, c // side**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * side, w * side, c // side**2)


class PlainBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); the last convolution starts at zero.

    Attributes: as of `unet.ResidualBlock`, which is told of the noise as well.
    """

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        h = silu(GroupNorm(self.dtype, name='norm_0')(x))
        h = convolution(self.channels, 2, dtype=self.dtype, name='conv_0')(h)
        h = silu(GroupNorm(self.dtype, name='norm_1')(h))
        zero = nn.initializers.zeros
        h = convolution(self.channels, 2, kernel_init=zero, dtype=self.dtype, name='conv_1')(h)
        if x.shape[-1] != self.channels:
            x = dense(x, self.channels, dtype=self.dtype, name='shortcut')
        return x + h


class Encoder(nn.Module):
    """x [b, h, w, c] -> [b, h / f, w / f, out_channels], f = 2**levels.

    Squares of 2 x 2 pixels become channels; each level has `blocks` residual blocks, and all but the
    last end in a convolution of stride 2; then, with `attention`, every position sees all others.

    Attributes: as of `Autoencoder`.
    """

    out_channels: int
    channels: int
    multipliers: Sequence[int]
    blocks: int
    attention: bool
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x):
        check_size(x.shape, self.multipliers)
        make_block = nn.remat(PlainBlock) if self.remat else PlainBlock
        h = space_to_depth(x.astype(self.dtype), STEM)
        h = convolution(self.channels, 2, dtype=self.dtype, name='conv_in')(h)
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            if level:
                h = convolution(width, 2, strides=2, dtype=self.dtype, name=f'down_{level}')(h)
            for i in range(self.blocks):
                h = make_block(width, self.dtype, name=f'level_{level}_block_{i}')(h)
        if self.attention:
            h = SelfAttention(dtype=self.dtype, name='attention')(h)
        exact = at_least_single(self.dtype)
        h = silu(GroupNorm(exact, name='norm_out')(h))
        return convolution(self.out_channels, 2, dtype=exact, name='conv_out')(h)


class Decoder(nn.Module):
    """z [b, h / f, w / f, d] -> [b, h, w, out_channels]: the way back of `Encoder`.

    Attributes: as of `Autoencoder`.
    """

    out_channels: int
    channels: int
    multipliers: Sequence[int]
    blocks: int
    attention: bool
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, z):
        make_block = nn.remat(PlainBlock) if self.remat else PlainBlock
        levels = len(self.multipliers)
        h = convolution(self.channels * self.multipliers[-1], 2, dtype=self.dtype, name='conv_in')(
            z.astype(self.dtype)
        )
        if self.attention:
            h = SelfAttention(dtype=self.dtype, name='attention')(h)
        for level in reversed(range(levels)):
            width = self.channels * self.multipliers[level]
            if level < levels - 1:
                h = convolution(width, 2, doubled=True, dtype=self.dtype, name=f'up_{level}')(h)
            for i in range(self.blocks):
                h = make_block(width, self.dtype, name=f'level_{level}_block_{i}')(h)
        exact = at_least_single(self.dtype)
        h = silu(GroupNorm(exact, name='norm_out')(h))
        h = convolution(STEM**2 * self.out_channels, 2, dtype=exact, name='conv_out')(h)
        return depth_to_space(h, STEM)


class Autoencoder(nn.Module):
    """Both ways of an autoencoder: `encode` an image, `decode` a latent; methods for `module.apply`.

    The shapes of the latent-diffusion paper: f4 has two levels, f8 three, f16 four.

    Attributes:
      out_channels: of the image.
      latent_channels: of the latent.
      codes: 0 for Gaussians (KL); else how many codes there are (VQ).
      channels: of the first level.
      multipliers: one per level; the latent's sides are those of the image over 2**levels.
      blocks: residual blocks per level.
      attention: of all positions of the smallest level to each other.
      dtype: 'float32', 'bfloat16' or 'float64', of the computation; the last layers are float32 at
        least.
      remat: as of `UNet`.
    """

    out_channels: int
    latent_channels: int = 4
    codes: int = 0
    channels: int = 64
    multipliers: Sequence[int] = (1, 2)
    blocks: int = 2
    attention: bool = False
    dtype: str = 'float32'
    remat: bool = False

    def setup(self):
        dtype = jnp.dtype(self.dtype)
        parts = self.channels, self.multipliers, self.blocks, self.attention, dtype, self.remat
        each = 1 if self.codes else 2  # a mean and a log variance
        self.encoder = Encoder(each * self.latent_channels, *parts)
        self.decoder = Decoder(self.out_channels, *parts)
        if self.codes:
            # At once as far from each other as latents are.
            self.codebook = self.param(
                'codebook', nn.initializers.normal(1.0), (self.codes, self.latent_channels)
            )

    def encode(self, x):
        """x in [-1, 1], [b, h, w, c] -> [b, h / f, w / f, 2 d], mean and log variance; VQ: [..., d]."""
        return self.encoder(x)

    def decode(self, z):
        """z, [b, h / f, w / f, d] -> x, [b, h, w, c]."""
        return self.decoder(z)

    def __call__(self, x):
        """Both ways, by the mean; for `init`."""
        return self.decode(self.encode(x)[..., : self.latent_channels])
