"""The U-Net of DDPM, for audio, images and volumes.

References:
  Ho et al. 2020, Denoising Diffusion Probabilistic Models, appendix B (https://arxiv.org/abs/2006.11239).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets import check
from jaxdiff.nets.attention import CrossAttention, SelfAttention
from jaxdiff.nets.conditions import told
from jaxdiff.nets.layers import (
    Dropout,
    GroupNorm,
    at_least_single,
    convolution,
    default_init,
    upsample,
)


def check_size(shape, multipliers, spatial_dims):
    """Refuses a shape that a U-Net can't halve at every level.

    Args:
      shape: (..., *spatial, c).
      multipliers: one per level of the U-Net; each level but the last halves every spatial axis.
      spatial_dims: the number of spatial axes.

    Raises:
      ValueError: where a spatial size isn't a positive multiple of 2**(levels - 1), with the nearest sizes that are.
    """
    levels = len(multipliers)
    check.divisible(shape, 2 ** (levels - 1), spatial_dims, f'a U-Net of {levels} levels')


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + dense(silu(embedding)))))); the last convolution starts at zero.

    Where the number of channels changes, x passes through a 1x1 convolution on its way to the sum.

    Attributes:
      channels: of the result.
      dropout: the rate of dropout.
      dtype: of the computation.
    """

    channels: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, embedding, dropout_keys):
        """x, [b, *spatial, c], embedding, [b, e], dropout_keys, [b] or None -> [b, *spatial, channels]."""
        spatial_dims = x.ndim - 2
        h = nn.silu(GroupNorm(self.dtype, name='norm_0')(x))
        h = convolution(self.channels, spatial_dims, dtype=self.dtype, name='conv_0')(h)
        told = nn.Dense(
            self.channels, dtype=self.dtype, kernel_init=default_init, name='embedding'
        )(nn.silu(embedding))
        h = h + jnp.expand_dims(told, range(1, 1 + spatial_dims))
        h = nn.silu(GroupNorm(self.dtype, name='norm_1')(h))
        h = Dropout(self.dropout, name='dropout')(h, dropout_keys)
        h = convolution(
            self.channels,
            spatial_dims,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name='conv_1',
        )(h)
        if x.shape[-1] != self.channels:
            x = nn.Dense(
                self.channels, dtype=self.dtype, kernel_init=default_init, name='shortcut'
            )(x)
        return x + h


class UNet(nn.Module):
    """DDPM's network: residual blocks on the way down and up, joined level by level; y = net(x, noise_level, cond).

    Level l has `channels * multipliers[l]` channels and 2^-l of the side length. Down: `blocks` residual blocks, then a
    convolution of stride 2. Middle: residual block, attention, residual block. Up: `blocks + 1` residual blocks, each
    given one of the arrays kept on the way down, then nearest-neighbour upsampling and a convolution. The noise level,
    the label and the pooled text are embedded, added, and told to every residual block. Where there is a text, attention
    to its tokens follows each self-attention. The last convolution starts at zero: a new net returns exactly 0.

    With the settings of CIFAR-10 (out_channels 3, dropout 0.1, the rest as the defaults, x of [b, 32, 32, 3]) it has
    DDPM's 35,746,307 parameters.

    Attributes:
      out_channels: of the result.
      channels: of the first level; even.
      multipliers: one per level.
      blocks: residual blocks per level on the way down; one more on the way up.
      attention: the sizes of the first spatial axis at which self-attention follows each residual block. A size that
        the net never meets adds nothing. The middle has attention always.
      heads: of the attention.
      dropout: the rate, in [0, 1), inside the residual blocks.
      num_classes: 0 for a net without labels; else labels are 0 .. num_classes - 1 and the null label, num_classes.
      text_width: of the states of a text; 0 for a net without text.
      image_channels: of a picture to condition on; 0 for a net without one.
      spatial_dims: 1 (audio, [b, t, c]), 2 (images, [b, h, w, c]) or 3 (volumes, [b, d, h, w, c]).
      dtype: 'float32', 'bfloat16' or 'float64', of the computation. The embedding, the statistics of the norms, the
        softmax and the last layer are float32 at least.
      remat: computes each block again for the gradient instead of keeping its insides; same parameters, same values.
    """

    out_channels: int
    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    blocks: int = 2
    attention: Sequence[int] = (16,)
    heads: int = 1
    dropout: float = 0.0
    num_classes: int = 0
    text_width: int = 0
    image_channels: int = 0
    spatial_dims: int = 2
    dtype: str = 'float32'
    remat: bool = False

    @nn.compact
    def __call__(self, x, noise_level, cond, dropout_keys=None):
        """Asks the network.

        Args:
          x: [b, *spatial, c].
          noise_level: [b] or a scalar for all, real numbers of the size of 0 .. 1000 (DDPM's timesteps).
          cond: a dict with exactly what the net was made for:
            'label': [b] int32, with num_classes;
            'text': [b, l, text_width], states of a text encoder, and 'mask': [b, l] bool, True where there is a token
              (a hidden or empty text: False everywhere), with text_width;
            'image': [b, *spatial, image_channels], joined to the channels of x, with image_channels.
          dropout_keys: [b] typed keys from jax.random, one per example; None for no dropout.

        Returns:
          [b, *spatial, out_channels], float32, or float64 where that is the dtype.

        Raises:
          ValueError: on attributes, shapes or conditions that don't fit.
        """
        self._check(x, cond, dropout_keys)
        dtype = jnp.dtype(self.dtype)
        make_block, make_attention, make_cross = (
            nn.remat(block) if self.remat else block
            for block in (ResidualBlock, SelfAttention, CrossAttention)
        )
        x, embedding, text = told(
            x,
            noise_level,
            cond,
            features=self.channels,
            width=4 * self.channels,
            num_classes=self.num_classes,
        )

        def conv(features, name, dtype=dtype, **options):
            return convolution(features, self.spatial_dims, dtype=dtype, name=name, **options)

        def block(h, level, name):
            width = self.channels * self.multipliers[level]
            return make_block(width, self.dropout, dtype, name=name)(h, embedding, dropout_keys)

        def attention(h, prefix, suffix=''):
            h = make_attention(self.heads, dtype, name=f'{prefix}_attention{suffix}')(h)
            if text is None:
                return h
            return make_cross(self.heads, dtype, name=f'{prefix}_text_attention{suffix}')(h, *text)

        def stage(h, level, side, i):
            h = block(h, level, f'{side}_{level}_block_{i}')
            return attention(h, f'{side}_{level}', f'_{i}') if h.shape[1] in self.attention else h

        last = len(self.multipliers) - 1
        h = conv(self.channels, 'conv_in')(x.astype(dtype))
        kept = [h]
        for level in range(last + 1):
            for i in range(self.blocks):
                h = stage(h, level, 'down', i)
                kept.append(h)
            if level < last:
                h = conv(h.shape[-1], f'down_{level}_downsample', strides=2)(h)
                kept.append(h)

        h = block(h, last, 'middle_block_0')
        h = attention(h, 'middle')
        h = block(h, last, 'middle_block_1')

        for level in reversed(range(last + 1)):
            for i in range(self.blocks + 1):
                h = stage(jnp.concatenate([h, kept.pop()], axis=-1), level, 'up', i)
            if level > 0:
                h = conv(h.shape[-1], f'up_{level}_upsample')(upsample(h))

        h = nn.silu(GroupNorm(at_least_single(dtype), name='norm_out')(h))
        return conv(
            self.out_channels, 'conv_out', kernel_init=nn.initializers.zeros, dtype=h.dtype
        )(h)

    def _check(self, x, cond, dropout_keys):
        check.call(self, x, cond, dropout_keys)
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f'channels must be even and positive, got channels={self.channels}')
        check_size(x.shape, self.multipliers, self.spatial_dims)
