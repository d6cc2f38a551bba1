"""DiT: a transformer over the patches of an image, for audio and volumes too.

References:
  Peebles & Xie 2023, Scalable Diffusion Models with Transformers (https://arxiv.org/abs/2212.09748).
  Chen et al. 2023, PixArt-alpha (https://arxiv.org/abs/2310.00426), for the place of the text.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets import check, positions
from jaxdiff.nets.attention import CrossAttention, multi_head
from jaxdiff.nets.conditions import told
from jaxdiff.nets.layers import Dropout, at_least_single, dense, gelu

FREQUENCIES = 256  # features of the noise level, as in DiT's code

# To mean 0 and variance 1 over the channels of a token; what scales and shifts comes from the conditions.
layer_norm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_scale=False, use_bias=False)


def check_size(shape, patch, spatial_dims):
    """Refuses a shape that can't be cut into patches.

    Args:
      shape: (..., *spatial, c).
      patch: the side of a patch.
      spatial_dims: the number of spatial axes.

    Raises:
      ValueError: where a spatial size isn't a positive multiple of `patch`, with the nearest sizes that are.
    """
    check.divisible(shape, patch, spatial_dims, f'a DiT of {patch=}')


def to_patches(x, patch):
    """[b, h, w, c] -> [b, h/p * w/p, p * p * c]: patches row by row, the pixels of each row by row; any spatial axes."""
    batch, *sizes, channels = x.shape
    axes = len(sizes)
    x = x.reshape(batch, *(n for size in sizes for n in (size // patch, patch)), channels)
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(batch, -1, patch**axes * channels)


def from_patches(x, sizes, patch):
    """The inverse of `to_patches`: [b, h/p * w/p, p * p * c] -> [b, h, w, c], for `sizes` (h, w)."""
    axes = len(sizes)
    x = x.reshape(x.shape[0], *(size // patch for size in sizes), *(patch,) * axes, -1)
    x = x.transpose(0, *(i for k in range(1, axes + 1) for i in (k, k + axes)), 2 * axes + 1)
    return x.reshape(x.shape[0], *sizes, -1)


def modulation(embedding, count, width, dtype):
    """`count` vectors, [b, 1, width], from the embedding, [b, e]: a layer of the calling module that starts at zero."""
    h = nn.silu(embedding)[:, None]
    h = dense(h, count * width, kernel_init=nn.initializers.zeros, dtype=dtype, name='modulation')
    return jnp.split(h, count, axis=-1)


class Block(nn.Module):
    """A transformer's block, adaLN-zero, with attention to a text where there is one.

        x = x + gate_1 * attention(norm(x) * (1 + scale_1) + shift_1)
        x = x + attention_to_text(norm(x))
        x = x + gate_2 * mlp(norm(x) * (1 + scale_2) + shift_2)

    with shifts, scales and gates from the embedding, all 0 at the start, so that the block starts as the identity. The
    second line stands where PixArt-alpha has it, without a gate and at zero at the start; the norm in it is ours (and
    that of most transformers), for the size of x grows with depth.

    Attributes:
      heads: of both attentions.
      hidden: the width inside the mlp.
      dropout: the rate of dropout inside the mlp.
      dtype: of the computation; the statistics of the norms and the softmax are float32.
    """

    heads: int
    hidden: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, embedding, text, angles, dropout_keys):
        """x, [b, n, width], embedding, [b, e], text, a Text or None, angles, [n, width / heads / 2] for rotary positions
        or None, dropout_keys, [b] or None -> [b, n, width]."""
        width = x.shape[-1]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation(
            embedding, 6, width, self.dtype
        )
        norm = layer_norm(dtype=self.dtype)
        turn = (lambda x: x) if angles is None else (lambda x: positions.rotate(x, angles))
        h = norm(x) * (1 + scale_1) + shift_1
        x = x + gate_1 * multi_head(h, h, self.heads, self.dtype, turn=turn)
        if text is not None:
            x = CrossAttention(self.heads, self.dtype, layer_norm, name='text_attention')(x, *text)
        h = norm(x) * (1 + scale_2) + shift_2
        h = dense(h, self.hidden, dtype=self.dtype, name='mlp_in')
        h = Dropout(self.dropout, name='dropout')(gelu(h), dropout_keys)
        return x + gate_2 * dense(h, width, dtype=self.dtype, name='mlp_out')


class DiT(nn.Module):
    """Patches, `depth` blocks, patches back; y = net(x, noise_level, cond), as a `UNet` is called.

    The noise level, the label and the pooled text make the embedding that scales and shifts every block; the tokens of
    a text are attended to after every self-attention; a picture's channels join those of x. Any sizes divisible by
    `patch` will do, at sampling others than at training too. The last layer starts at zero: a new net returns exactly 0.

    The paper's models, with patch 2, 4 or 8: S (depth 12, width 384, heads 6), B (12, 768, 12), L (24, 1024, 16) and XL
    (28, 1152, 16). DiT-XL/2 on 32x32x4 latents with a learned variance and 1000 classes has the 675,129,632 numbers of
    the paper's code, 294,912 of which are its fixed positions, no parameters here.

    Attributes:
      out_channels: of the result.
      patch: the side of a patch.
      width: of a token.
      depth: the number of blocks.
      heads: of the attention, which share the width equally.
      mlp_ratio: the width inside the mlp over that of a token.
      positions: 'sincos' (added to the patches; the paper's) or 'rotary' (queries and keys are turned by them).
      dropout: the rate, in [0, 1), inside the mlp.
      num_classes, text_width, image_channels, spatial_dims, dtype, remat: as of `UNet`.
    """

    out_channels: int
    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    positions: str = 'sincos'
    dropout: float = 0.0
    num_classes: int = 0
    text_width: int = 0
    image_channels: int = 0
    spatial_dims: int = 2
    dtype: str = 'float32'
    remat: bool = False

    @nn.compact
    def __call__(self, x, noise_level, cond, dropout_keys=None):
        """Asks the network; arguments and result are those of `UNet`.

        Raises:
          ValueError: on attributes, shapes or conditions that don't fit.
        """
        self._check(x, cond, dropout_keys)
        dtype = jnp.dtype(self.dtype)
        sizes = x.shape[1:-1]
        grid = tuple(size // self.patch for size in sizes)
        x, embedding, text = told(
            x,
            noise_level,
            cond,
            features=FREQUENCIES,
            width=self.width,
            num_classes=self.num_classes,
        )
        h = dense(to_patches(x.astype(dtype), self.patch), self.width, dtype=dtype, name='patches')
        angles = None
        if self.positions == 'rotary':
            angles = positions.rotary(grid, self.width // self.heads)
        else:
            h = h + positions.sincos(grid, self.width).astype(dtype)

        make_block = nn.remat(Block) if self.remat else Block
        hidden = round(self.mlp_ratio * self.width)
        for i in range(self.depth):
            block = make_block(self.heads, hidden, self.dropout, dtype, name=f'block_{i}')
            h = block(h, embedding, text, angles, dropout_keys)

        exact = at_least_single(dtype)
        shift, scale = modulation(embedding, 2, self.width, exact)
        h = layer_norm(dtype=exact)(h) * (1 + scale) + shift
        h = dense(
            h,
            self.patch**self.spatial_dims * self.out_channels,
            kernel_init=nn.initializers.zeros,
            dtype=exact,
            name='out',
        )
        return from_patches(h, sizes, self.patch)

    def _check(self, x, cond, dropout_keys):
        check.call(self, x, cond, dropout_keys)
        check.one_of(self, positions=('sincos', 'rotary'))
        for name in ('patch', 'width', 'depth', 'heads', 'mlp_ratio'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be positive, got {name}={getattr(self, name)}')
        check_size(x.shape, self.patch, self.spatial_dims)
        heads = self.heads if self.positions == 'rotary' else 1
        factor = math.lcm(self.heads, 2 * self.spatial_dims * heads)
        if self.width % factor:
            raise ValueError(
                f'with heads={self.heads}, {self.spatial_dims} spatial axes and positions={self.positions!r} '
                f'width must be divisible by {factor}, got width={self.width}'
            )
