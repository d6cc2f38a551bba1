"""Attention: of the positions of an image, a sound or a volume to each other, and to the tokens of a text."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.layers import GroupNorm, at_least_single, default_init, dense


def attend(query, key, value, mask=None):
    """Scaled dot-product attention: softmax(q k^T / sqrt(d)) v for each head, the softmax in float32 at least.

    Two einsums on the CPU, where XLA runs them faster than `jax.nn.dot_product_attention`; that function elsewhere.

    Args:
      query: [b, n, heads, d].
      key: [b, m, heads, d].
      value: [b, m, heads, d].
      mask: [b, m] bool, at least one True per example: only keys where it is True are attended to, the others have a
        weight of exactly 0. None is True everywhere.

    Returns:
      [b, n, heads, d], in the dtype of `value`.

    References:
      Vaswani et al. 2017, Attention Is All You Need, equation 1.
    """
    masks = (
        () if mask is None else (None, mask[:, None, None])
    )  # [b, heads, n, m]; the first: no bias
    return jax.lax.platform_dependent(
        query, key, value, *masks, cpu=_einsums, default=jax.nn.dot_product_attention
    )


def _einsums(query, key, value, bias=None, mask=None):
    logits = jnp.einsum(
        'bnhd,bmhd->bhnm',
        query * query.shape[-1] ** -0.5,
        key,
        preferred_element_type=at_least_single(value.dtype),
    )
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    return jnp.einsum('bhnm,bmhd->bnhd', jax.nn.softmax(logits).astype(value.dtype), value)


def multi_head(x, source, heads, dtype, *, mask=None, turn=lambda x: x, out_init=default_init):
    """out(attend(turn(query(x)), turn(key(source)), value(source))), the heads sharing the channels equally.

    Its layers, named query, key, value and out, belong to the module that calls it.

    Args:
      x: [b, n, c].
      source: [b, m, d], what is attended to; x itself for self-attention.
      heads: the number of heads; 0 is one for every 64 channels.
      dtype: of the computation.
      mask: [b, m] bool or None, see `attend`.
      turn: what is done to queries and keys, [b, n, heads, c / heads], such as `positions.rotate`.
      out_init: the initialiser of `out`.

    Returns:
      [b, n, c].

    Raises:
      ValueError: when the channels don't divide by the heads.
    """
    batch, _, channels = x.shape
    asked, heads = heads, heads or max(1, channels // 64)
    if channels % heads:
        raise ValueError(
            f'attention needs channels divisible by heads, got {channels=} and heads={asked}'
            + ('' if asked else f', which is {heads}')
        )

    def project(inputs, name):
        y = dense(inputs, channels, dtype=dtype, name=name)
        return y.reshape(batch, -1, heads, channels // heads)

    query, key = turn(project(x, 'query')), turn(project(source, 'key'))
    h = attend(query, key, project(source, 'value'), mask).reshape(x.shape)
    return dense(h, channels, kernel_init=out_init, dtype=dtype, name='out')


class SelfAttention(nn.Module):
    """scale * (x + out(attend(query(h), key(h), value(h)))), h = norm(x): DDPM's attention block, every position to every other.

    `out` starts at zero, so the block starts as the identity, times the scale.

    Attributes:
      heads: the number of heads, which share the channels equally.
      dtype: of the computation; the statistics of the norm and the softmax are float32.
      scale: of the sum.

    Raises:
      ValueError: when the channels don't divide by the heads.
    """

    heads: int = 1
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        h = GroupNorm(self.dtype, name='norm')(x).reshape(x.shape[0], -1, x.shape[-1])
        out = multi_head(h, h, self.heads, self.dtype, out_init=nn.initializers.zeros)
        return (x + out.reshape(x.shape)) * self.scale


class CrossAttention(nn.Module):
    """x + out(attend(query(norm(x)), key(text), value(text))): every position to every token that the mask shows.

    `out` starts at zero, so the block starts as the identity.

    Attributes:
      heads: the number of heads, which share the channels equally.
      dtype: of the computation; the statistics of the norm and the softmax are float32.
      norm: makes the layer that normalises x, by its `dtype` and `name`.

    Raises:
      ValueError: when the channels don't divide by the heads.

    References:
      Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models, section 3.3.
    """

    heads: int = 1
    dtype: Any = jnp.float32
    norm: Callable = GroupNorm

    @nn.compact
    def __call__(self, x, text, mask):
        """x, [b, *spatial, c], text, [b, l, d], mask, [b, l] bool -> the shape of x."""
        h = self.norm(dtype=self.dtype, name='norm')(x).reshape(x.shape[0], -1, x.shape[-1])
        out = multi_head(h, text, self.heads, self.dtype, mask=mask, out_init=nn.initializers.zeros)
        return x + out.reshape(x.shape)
