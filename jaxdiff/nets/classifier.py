"""A classifier of noisy images: the way down of the U-Net, and a decision.

References:
  Dhariwal & Nichol 2021, Diffusion Models Beat GANs on Image Synthesis, section 4 (https://arxiv.org/abs/2105.05233).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets.attention import SelfAttention
from jaxdiff.nets.conditions import told
from jaxdiff.nets.layers import GroupNorm, at_least_single, convolution, default_init, silu
from jaxdiff.nets.unet import ResidualBlock, check_size


class Classifier(nn.Module):
    """log-odds of the classes of x_t; the blocks of `UNet`'s way down, then the mean over all positions.

    Attributes:
      num_classes: of the result.
      channels, multipliers, blocks, attention, heads, dropout, dtype, remat: as of `UNet`.
    """

    num_classes: int
    channels: int = 32
    multipliers: Sequence[int] = (1, 2)
    blocks: int = 1
    attention: Sequence[int] = ()
    heads: int = 1
    dropout: float = 0.0
    dtype: str = 'float32'
    remat: bool = False

    @nn.compact
    def __call__(self, x, noise_level, cond, dropout_keys=None, maps=False):
        """Asks the network.

        Args:
          x: [b, h, w, c].
          noise_level: [b] or a scalar for all.
          cond: {}, where other networks are told a condition.
          dropout_keys: [b] typed keys from jax.random; None for no dropout.
          maps: whether to return what each level ends with instead, a list of [b, h / 2^l, w / 2^l, c_l]: features
            of an image, for distances between images.

        Returns:
          [b, num_classes], float32 at least.

        Raises:
          ValueError: on sizes that can't be halved so often, or an odd number of channels.
        """
        check_size(x.shape, self.multipliers, 2)
        if self.channels % 2:
            raise ValueError(f'channels must be even, got channels={self.channels}')
        dtype = jnp.dtype(self.dtype)
        make_block, make_attention = (
            nn.remat(block) if self.remat else block for block in (ResidualBlock, SelfAttention)
        )
        x, embedding, _ = told(
            x, noise_level, cond, features=self.channels, width=4 * self.channels, num_classes=0
        )
        h, found = convolution(self.channels, 2, dtype=dtype, name='conv_in')(x.astype(dtype)), []
        for level, multiplier in enumerate(self.multipliers):
            if level:
                h = convolution(h.shape[-1], 2, strides=2, dtype=dtype, name=f'down_{level}')(h)
            for i in range(self.blocks):
                name = f'level_{level}_block_{i}'
                block = make_block(self.channels * multiplier, self.dropout, dtype, name=name)
                h = block(h, embedding, dropout_keys)
                if h.shape[1] in self.attention:
                    h = make_attention(self.heads, dtype, name=f'{name}_attention')(h)
            found.append(h)
        if maps and not self.is_initializing():
            return found
        exact = at_least_single(dtype)
        h = jnp.mean(silu(GroupNorm(exact, name='norm_out')(h)), (1, 2))
        return nn.Dense(self.num_classes, dtype=exact, kernel_init=default_init, name='logits')(h)
