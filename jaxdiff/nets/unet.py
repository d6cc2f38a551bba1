"""The U-Nets of DDPM, of Song et al.'s DDPM++ and NCSN++, of ADM and of VDM, for audio, images and volumes.

References:
  Ho et al. 2020, Denoising Diffusion Probabilistic Models, appendix B (https://arxiv.org/abs/2006.11239).
  Song et al. 2021, Score-Based Generative Modeling through SDEs, appendix H (https://arxiv.org/abs/2011.13456).
  Dhariwal & Nichol 2021, Diffusion Models Beat GANs on Image Synthesis, section 3 (https://arxiv.org/abs/2105.05233).
  Kingma et al. 2021, Variational Diffusion Models, appendix B (https://arxiv.org/abs/2107.00630).
  Karras et al. 2022, Elucidating the Design Space, whose networks are DDPM++, NCSN++ and ADM.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxdiff.nets import check, resample
from jaxdiff.nets.attention import CrossAttention, SelfAttention
from jaxdiff.nets.conditions import told
from jaxdiff.nets.layers import (
    Dropout,
    GroupNorm,
    at_least_single,
    convolution,
    default_init,
    dense,
    silu,
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


class Style(NamedTuple):
    """In what U-Nets differ.

    residual: sizes are halved and doubled inside residual blocks (BigGAN's), by the filter `taps`, instead of by
      convolutions; projected: x then passes through a 1x1 convolution on its way to the sum.
    scale: of every sum in a residual block or an attention.
    adaptive: the embedding scales and shifts what the second norm returns, instead of being added before it.
    attend_once: on the way up, attention follows the last block of a level alone.
    pyramid: x itself, halved level by level through convolutions, joins the way down.
    fourier: the noise level is seen through random frequencies; it must be that of `denoiser.logsnr_embedding`.
    waves: x is seen also as sin(2^n pi x) and cos(2^n pi x) for these n, and is added to the result.
    """

    residual: bool = False
    taps: tuple[int, ...] = resample.BOX
    projected: bool = False
    scale: float = 1.0
    adaptive: bool = False
    attend_once: bool = False
    pyramid: bool = False
    fourier: bool = False
    waves: tuple[int, ...] = ()


_SONG = Style(residual=True, projected=True, scale=0.5**0.5, attend_once=True)
STYLES = {
    'ddpm': Style(),
    'ddpm++': _SONG,
    'ncsn++': _SONG._replace(taps=resample.FIR, pyramid=True, fourier=True),
    'adm': Style(residual=True, adaptive=True),
    'vdm': Style(waves=(7, 8)),
}


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + dense(silu(embedding)))))); the last convolution starts at zero.

    Where the number of channels changes, x passes through a 1x1 convolution on its way to the sum.

    Attributes:
      channels: of the result.
      dropout: the rate of dropout.
      dtype: of the computation.
      style: see `Style`.
      resize: resamples both x and what the first norm returns; None leaves their size.
    """

    channels: int
    dropout: float = 0.0
    dtype: Any = jnp.float32
    style: Style = Style()
    resize: Callable[[Array, tuple[int, ...]], Array] | None = None

    @nn.compact
    def __call__(self, x, embedding, dropout_keys):
        """x, [b, *spatial, c], embedding, [b, e], dropout_keys, [b] or None -> [b, *spatial, channels]."""
        spatial_dims, style = x.ndim - 2, self.style
        h = silu(GroupNorm(self.dtype, name='norm_0')(x))
        if self.resize:
            h, x = self.resize(h, style.taps), self.resize(x, style.taps)
        h = convolution(self.channels, spatial_dims, dtype=self.dtype, name='conv_0')(h)
        told = nn.Dense(
            self.channels * (1 + style.adaptive),
            dtype=self.dtype,
            kernel_init=default_init,
            name='embedding',
        )(silu(embedding))
        told = jnp.expand_dims(told, range(1, 1 + spatial_dims))
        norm = GroupNorm(self.dtype, name='norm_1')
        if style.adaptive:
            gain, shift = jnp.split(told, 2, axis=-1)
            h = silu(norm(h) * (1 + gain) + shift)
        else:
            h = silu(norm(h + told))
        h = Dropout(self.dropout, name='dropout')(h, dropout_keys)
        h = convolution(
            self.channels,
            spatial_dims,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name='conv_1',
        )(h)
        if x.shape[-1] != self.channels or (self.resize and style.projected):
            x = dense(x, self.channels, dtype=self.dtype, name='shortcut')
        return (x + h) * style.scale


class UNet(nn.Module):
    """DDPM's network, and its variants: residual blocks on the way down and up, joined level by level; y = net(x, noise_level, cond).

    Level l has `channels * multipliers[l]` channels and 2^-l of the side length. Down: `blocks` residual blocks, then a
    convolution of stride 2. Middle: residual block, attention, residual block. Up: `blocks + 1` residual blocks, each
    given one of the arrays kept on the way down, then nearest-neighbour upsampling and a convolution. The noise level,
    the label and the pooled text are embedded, added, and told to every residual block. Where there is a text, attention
    to its tokens follows each self-attention. The last convolution starts at zero: a new net returns exactly 0
    ('vdm': x).

    With the settings of CIFAR-10 (out_channels 3, dropout 0.1, the rest as the defaults, x of [b, 32, 32, 3]) it has
    DDPM's 35,746,307 parameters. All this is said of `style` 'ddpm'; in what those of other papers, 'ddpm++', 'ncsn++',
    'adm' and 'vdm', differ from it is said by `Style`.

    Attributes:
      out_channels: of the result.
      channels: of the first level; even.
      multipliers: one per level.
      blocks: residual blocks per level on the way down; one more on the way up.
      attention: the sizes of the first spatial axis at which self-attention follows each residual block. A size that
        the net never meets adds nothing. The middle has attention always.
      heads: of the attention; 0 is one for every 64 channels.
      dropout: the rate, in [0, 1), inside the residual blocks.
      num_classes: 0 for a net without labels; else labels are 0 .. num_classes - 1 and the null label, num_classes.
      text_width: of the states of a text; 0 for a net without text.
      image_channels: of a picture to condition on; 0 for a net without one.
      spatial_dims: 1 (audio, [b, t, c]), 2 (images, [b, h, w, c]) or 3 (volumes, [b, d, h, w, c]).
      dtype: 'float32', 'bfloat16' or 'float64', of the computation. The embedding, the statistics of the norms, the
        softmax and the last layer are float32 at least.
      remat: computes each block again for the gradient instead of keeping its insides; same parameters, same values.
      style: 'ddpm', 'ddpm++', 'ncsn++', 'adm' or 'vdm'.
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
    style: str = 'ddpm'

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
        dtype, style = jnp.dtype(self.dtype), STYLES[self.style]
        make_block, make_attention, make_cross = (
            nn.remat(block) if self.remat else block
            for block in (ResidualBlock, SelfAttention, CrossAttention)
        )
        x_t = x
        x, embedding, text = told(
            x,
            noise_level,
            cond,
            features=self.channels,
            width=4 * self.channels,
            num_classes=self.num_classes,
            fourier=style.fourier,
        )
        if style.waves:
            angles = [2**n * jnp.pi * x_t for n in style.waves]
            waves = [wave(angle) for wave in (jnp.sin, jnp.cos) for angle in angles]
            x = jnp.concatenate([x, *waves], axis=-1)

        def conv(features, name, dtype=dtype, **options):
            return convolution(features, self.spatial_dims, dtype=dtype, name=name, **options)

        def block(h, channels, name, resize=None):
            made = make_block(channels, self.dropout, dtype, style, resize, name=name)
            return made(h, embedding, dropout_keys)

        def attention(h, prefix, suffix=''):
            name = f'{prefix}_attention{suffix}'
            h = make_attention(self.heads, dtype, style.scale, name=name)(h)
            if text is None:
                return h
            return make_cross(self.heads, dtype, name=f'{prefix}_text_attention{suffix}')(h, *text)

        def stage(h, level, side, i):
            h = block(h, self.channels * self.multipliers[level], f'{side}_{level}_block_{i}')
            attends = side == 'down' or not style.attend_once or i == self.blocks
            if attends and h.shape[1] in self.attention:
                return attention(h, f'{side}_{level}', f'_{i}')
            return h

        def halve(h, name):
            if style.residual:
                return block(h, h.shape[-1], name, resample.shrink)
            return conv(h.shape[-1], name, strides=2)(h)

        def double(h, name):
            if style.residual:
                return block(h, h.shape[-1], name, resample.grow)
            return conv(h.shape[-1], name, doubled=True)(h)

        last = len(self.multipliers) - 1
        shown = x.astype(dtype)
        h = conv(self.channels, 'conv_in')(shown)
        kept = [h]
        for level in range(last + 1):
            for i in range(self.blocks):
                h = stage(h, level, 'down', i)
                kept.append(h)
            if level < last:
                h = halve(h, f'down_{level}_downsample')
                if style.pyramid:
                    wide = jnp.pad(shown, resample.padding(style.taps, self.spatial_dims))
                    wide = conv(h.shape[-1], f'down_{level}_pyramid')(wide)
                    h = (h + resample.shrink(wide, style.taps, padded=True)) * style.scale
                    shown = h
                kept.append(h)

        h = block(h, h.shape[-1], 'middle_block_0')
        h = attention(h, 'middle')
        h = block(h, h.shape[-1], 'middle_block_1')

        for level in reversed(range(last + 1)):
            for i in range(self.blocks + 1):
                h = stage(jnp.concatenate([h, kept.pop()], axis=-1), level, 'up', i)
            if level > 0:
                h = double(h, f'up_{level}_upsample')

        h = silu(GroupNorm(at_least_single(dtype), name='norm_out')(h))
        h = conv(self.out_channels, 'conv_out', kernel_init=nn.initializers.zeros, dtype=h.dtype)(h)
        if not style.waves:
            return h
        own = h[..., : x_t.shape[-1]] + x_t
        return jnp.concatenate([own, h[..., x_t.shape[-1] :]], axis=-1)

    def _check(self, x, cond, dropout_keys):
        check.call(self, x, cond, dropout_keys)
        check.one_of(self, style=tuple(STYLES))
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f'channels must be even and positive, got channels={self.channels}')
        check_size(x.shape, self.multipliers, self.spatial_dims)
