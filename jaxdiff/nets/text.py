"""A transformer that reads text: one trained with the diffusion model, BERT's, or CLIP's.

References:
  Vaswani et al. 2017, Attention Is All You Need (https://arxiv.org/abs/1706.03762).
  Devlin et al. 2018, BERT (https://arxiv.org/abs/1810.04805).
  Radford et al. 2021, CLIP (https://arxiv.org/abs/2103.00020), section 2.4.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.layers import at_least_single

ACTIVATIONS = {
    'gelu': lambda x: nn.gelu(x, approximate=False),  # x Phi(x)
    'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # CLIP's
}


class TextBlock(nn.Module):
    """Attention and then a hidden layer, each with a norm and a way around it.

        norm first: x + f(norm(x));  norm last: norm(x + f(x));  f = attention, dense(act(dense(.)))

    Attributes: as those of `TextEncoder`.
    """

    heads: int
    hidden: int
    norm_first: bool
    causal: bool
    activation: str
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x, mask):
        """x, [b, l, width], mask, [b, l], True where there is a token -> [b, l, width]."""
        for i, branch in enumerate((self._attention, self._layer)):
            norm = layer_norm(self.epsilon, self.dtype, f'norm_{i}')
            x = x + branch(norm(x), mask) if self.norm_first else norm(x + branch(x, mask))
        return x

    def _attention(self, x, mask):
        batch, length, width = x.shape
        query, key, value = (
            nn.Dense(width, dtype=self.dtype, name=name)(x).reshape(batch, length, self.heads, -1)
            for name in ('query', 'key', 'value')
        )
        y = jax.nn.dot_product_attention(
            query, key, value, mask=mask[:, None, None, :], is_causal=self.causal
        )
        return nn.Dense(width, dtype=self.dtype, name='out')(y.reshape(x.shape))

    def _layer(self, x, mask):
        h = nn.Dense(self.hidden, dtype=self.dtype, name='dense_0')(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name='dense_1')(
            ACTIVATIONS[self.activation](h)
        )


class TextEncoder(nn.Module):
    """Tokens to states: embeddings and learned positions, blocks of attention, a norm.

    What stands where the mask is False changes nothing, bit for bit, and the states there are 0.
    A text without any token has states of 0 only.

    As it stands by default it is meant to be trained with a diffusion model. BERT's has its norms
    last, `norm_first=False`; CLIP's is `causal`, with 'quick_gelu': see `jaxdiff.text`.

    Attributes:
      vocabulary: tokens are 0 … vocabulary − 1.
      width: of the states.
      layers: the number of blocks.
      heads: of attention, which share the width equally.
      length: the largest number of tokens.
      hidden: the width of the blocks' hidden layer; 0 is 4 * width.
      norm_first: norms before attention and hidden layer, and one at the end; or else after each
        sum, and one after the embedding.
      causal: a token sees those before it only.
      activation: of the hidden layer, 'gelu' or 'quick_gelu'.
      epsilon: added to the norms' variances.
      dtype: of the computation; the statistics of norms and softmax are float32.

    Raises:
      ValueError: when there are more tokens than `length`, or the width doesn't divide by the heads.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    length: int
    hidden: int = 0
    norm_first: bool = True
    causal: bool = False
    activation: str = 'gelu'
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens, mask):
        """tokens, int [b, l], mask, bool [b, l] -> states, [b, l, width], float32 at least."""
        if tokens.shape[1] > self.length:
            raise ValueError(f'the text encoder takes {self.length} tokens, got {tokens.shape[1]}')
        if self.width % self.heads:
            raise ValueError(
                f'the text encoder needs a width divisible by heads, got {self.width} and {self.heads}'
            )
        small = nn.initializers.normal(0.02)
        embed = nn.Embed(
            self.vocabulary, self.width, dtype=self.dtype, embedding_init=small, name='tokens'
        )
        positions = self.param('positions', small, (self.length, self.width))
        norm = layer_norm(self.epsilon, self.dtype, 'norm')
        x = embed(tokens) + positions[: tokens.shape[1]].astype(self.dtype)
        x = x if self.norm_first else norm(x)
        for i in range(self.layers):
            x = TextBlock(
                self.heads,
                self.hidden or 4 * self.width,
                self.norm_first,
                self.causal,
                self.activation,
                self.epsilon,
                self.dtype,
                name=f'block_{i}',
            )(x, mask)
        x = norm(x) if self.norm_first else x
        return jnp.where(mask[..., None], x, 0.0).astype(at_least_single(self.dtype))


def layer_norm(epsilon, dtype, name):
    """y = scale * (x - m) / sqrt(E[(x - m)^2] + epsilon) + bias, m = E[x] over the width (Ba et al. 2016)."""
    return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)
