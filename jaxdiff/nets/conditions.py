"""What a network is told beside x: the noise level, a label, a text and a picture. The same for every network."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxdiff.nets.layers import default_init, fourier_embedding, sinusoidal_embedding


class Text(NamedTuple):
    """A text with the network's own token before it; what the mask hides is 0."""

    states: Array  # [b, 1 + l, d]
    mask: Array  # [b, 1 + l] bool, True at the first token always


class LearnedToken(nn.Module):
    """Puts a token before a text, learned and always attended to, so that an empty or hidden text is well defined.

    States under a False mask become 0, whatever they were: nothing that is computed of the text can depend on them.
    """

    @nn.compact
    def __call__(self, states, mask):
        """states, [b, l, d], mask, [b, l] bool -> Text."""
        batch, _, width = states.shape
        token = self.param(
            'token', nn.initializers.normal(1.0), (width,)
        )  # as a state after a LayerNorm
        states = jnp.where(mask[..., None], states, 0.0)
        token = jnp.broadcast_to(token, (batch, 1, width))
        return Text(
            jnp.concatenate([token, states], axis=1),
            jnp.concatenate([jnp.ones((batch, 1), bool), mask], axis=1),
        )


def pooled(text):
    """The mean of the states that the mask shows, the learned token among them: [b, d]."""
    return jnp.sum(text.states, axis=1) / jnp.sum(text.mask, axis=1, keepdims=True)


def told(x, noise_level, cond, *, features, width, num_classes, fourier=False):
    """Reads the conditions; its layers belong to the module that calls it.

        embedding = dense(silu(dense(sinusoidal(noise_level)))) + embed(label) + dense(pooled(text))

    with the terms that `cond` has.

    Args:
      x: [b, *spatial, c].
      noise_level: [b] or a scalar.
      cond: {} or some of 'label', 'text' with 'mask', 'image'; see `UNet`.
      features: of the noise level, an even number.
      width: of the embedding.
      num_classes: the number of labels without the null label.
      fourier: sees the noise level by `fourier_embedding` instead, with twice as many features.

    Returns:
      (x with the picture's channels after its own, the embedding [b, width] in float32 at least, Text or None).
    """
    noise_level = jnp.broadcast_to(noise_level, x.shape[:1])
    if fourier:
        h = fourier_embedding(noise_level, 2 * features)
    else:
        h = sinusoidal_embedding(noise_level, features)
    h = nn.Dense(width, kernel_init=default_init, name='noise_dense_0')(h)
    h = nn.Dense(width, kernel_init=default_init, name='noise_dense_1')(nn.silu(h))
    text = None
    if 'label' in cond:
        h = h + nn.Embed(num_classes + 1, width, name='label_embedding')(cond['label'])
    if 'text' in cond:
        text = LearnedToken(name='text')(cond['text'], cond['mask'])
        h = h + nn.Dense(width, kernel_init=default_init, name='text_dense')(pooled(text))
    if 'image' in cond:
        x = jnp.concatenate([x, cond['image']], axis=-1)
    return x, h, text
