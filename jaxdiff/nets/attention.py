"""Self-attention over all positions of an image, a sound or a volume."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.layers import GroupNorm, at_least_single, default_init


def attend(query, key, value):
    """Scaled dot-product attention: softmax(q k^T / sqrt(d)) v for each head, the softmax in float32 at least.

    Two einsums on the CPU, where XLA runs them faster than `jax.nn.dot_product_attention`; that function elsewhere.

    Args:
      query: [b, n, heads, d].
      key: [b, m, heads, d].
      value: [b, m, heads, d].

    Returns:
      [b, n, heads, d], in the dtype of `value`.

    References:
      Vaswani et al. 2017, Attention Is All You Need, equation 1.
    """
    return jax.lax.platform_dependent(
        query, key, value, cpu=_einsums, default=jax.nn.dot_product_attention
    )


def _einsums(query, key, value):
    logits = jnp.einsum(
        'bnhd,bmhd->bhnm',
        query * query.shape[-1] ** -0.5,
        key,
        preferred_element_type=at_least_single(value.dtype),
    )
    return jnp.einsum('bhnm,bmhd->bnhd', jax.nn.softmax(logits).astype(value.dtype), value)


class SelfAttention(nn.Module):
    """x + out(attend(query(h), key(h), value(h))), h = norm(x): DDPM's attention block, every position to every other.

    `out` starts at zero, so the block starts as the identity.

    Attributes:
      heads: the number of heads, which share the channels equally.
      dtype: of the computation; the statistics of the norm and the softmax are float32.

    Raises:
      ValueError: when the channels don't divide by the heads.
    """

    heads: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        batch, *_, channels = x.shape
        if channels % self.heads:
            raise ValueError(
                f'attention needs channels divisible by heads, got {channels=} and heads={self.heads}'
            )
        h = GroupNorm(self.dtype, name='norm')(x).reshape(batch, -1, channels)

        def project(name):
            y = nn.Dense(channels, dtype=self.dtype, kernel_init=default_init, name=name)(h)
            return y.reshape(batch, -1, self.heads, channels // self.heads)

        h = attend(project('query'), project('key'), project('value')).reshape(x.shape)
        return x + nn.Dense(
            channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name='out'
        )(h)
