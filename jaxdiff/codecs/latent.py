"""Latents: what an autoencoder's arrays mean, as Gaussians (KL) or codes (VQ).

Between the latents of an autoencoder and the space in which diffusion runs, which wants a mean of 0
and a deviation of 1, stand a shift and a scale, measured over a data set.

With the encoder's mean m and log variance v an image's latent is

    z = m + exp(v / 2) eps,  eps ~ N(0, I),                                                   (1)

and its distance from N(0, I), summed over a latent's components, is

    KL = 1/2 sum(m² + exp(v) − 1 − v).                                                        (2)

Of codes e_k, the latent y becomes the nearest: k = argmin |y − e_k|², with the gradient of a copy.

References:
  Kingma & Welling 2013, Auto-Encoding Variational Bayes, appendix B (arXiv:1312.6114).
  van den Oord et al. 2017, Neural Discrete Representation Learning, equations 2 and 3 (arXiv:1711.00937).
  Zheng & Vedaldi 2023, Online Clustered Codebook (arXiv:2307.15139), for codes that nothing uses.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.codecs.codec import Codec

# Log variances outside are of no use, and their exponentials overflow.
_LOG_VARIANCES = (-30.0, 20.0)


class Gaussian(NamedTuple):
    """Means and log variances, [b, ..., d] each."""

    mean: Array
    log_variance: Array


def gaussian(moments: Array) -> Gaussian:
    """An encoder's result, [b, ..., 2 d]: the mean, then the log variance."""
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    return Gaussian(mean, jnp.clip(log_variance, *_LOG_VARIANCES))


def draw(keys: Array, of: Gaussian) -> Array:
    """z by (1), a key for each example."""
    eps = jax.vmap(lambda key: jax.random.normal(key, of.mean.shape[1:], of.mean.dtype))(keys)
    return of.mean + jnp.exp(of.log_variance / 2) * eps


def kl(of: Gaussian) -> Array:
    """(2) in nats for each example, [b]."""
    each = jnp.square(of.mean) + jnp.exp(of.log_variance) - 1 - of.log_variance
    return 0.5 * jnp.sum(each, axis=tuple(range(1, each.ndim)))


class Quantized(NamedTuple):
    """A latent made of codes."""

    z: Array  # [b, ..., d], with the encoder's gradient
    codes: Array  # int32 [b, ...]
    commitment: Array  # mean (y − sg[e])² of each example, [b]
    codebook: Array  # mean (sg[y] − e)² of each example, [b]


def quantize(y: Array, codebook: Array) -> Quantized:
    """The nearest code to each vector.

    Args:
      y: [b, ..., d].
      codebook: [n, d].
    """
    fixed = jax.lax.stop_gradient
    distance = jnp.sum(jnp.square(codebook), -1) - 2 * jnp.einsum(
        '...d,nd->...n', y, codebook, precision='highest'
    )
    codes = jnp.argmin(distance, axis=-1)
    e = codebook[codes]
    axes = tuple(range(1, y.ndim))
    return Quantized(
        y + fixed(e - y),
        codes,
        jnp.mean(jnp.square(y - fixed(e)), axes),
        jnp.mean(jnp.square(fixed(y) - e), axes),
    )


def restart(key: Array, y: Array, codes: Array, codebook: Array) -> Array:
    """A loss that draws codes which nothing in the batch uses to latents of the batch: a scalar.

        mean over the unused k of |sg[y_i] − e_k|² / d,  i uniform and drawn anew,

    so that a code that is too far from all latents to be the nearest to one comes back among them.

    Args:
      y: the encoder's latents, [b, ..., d].
      codes: the nearest code to each, [b, ...].
      codebook: [n, d].
    """
    n, d = codebook.shape
    used = jnp.zeros(n, bool).at[codes.reshape(-1)].set(True)
    vectors = jax.lax.stop_gradient(y.reshape(-1, d))
    anchors = vectors[jax.random.randint(key, (n,), 0, len(vectors))]
    away = jnp.mean(jnp.square(anchors - codebook), -1)
    return jnp.sum(jnp.where(used, 0.0, away)) / jnp.maximum(1, jnp.sum(~used))


def latent(
    autoencoder: nn.Module,
    weights: Any,
    image: Codec,
    shape: tuple[int, ...],
    shift: Array,
    scale: Array,
) -> Codec:
    """The codec of an autoencoder's latents: z = (latent − shift) / scale.

    A batch holds what the encoder says of its images: means and log variances, from which a latent
    is drawn each time; or the vectors that become codes.

    Args:
      autoencoder: see `nets.Autoencoder`.
      weights: its parameters.
      image: the codec between images and what the autoencoder takes.
      shape: of a latent, [h, w, d].
      shift, scale: of the channels, [d].
    """

    def prepare(weights, x):
        found = autoencoder.apply(weights, image.encode(None, x), method='encode')
        return found.astype(jnp.float16)  # which rounds far less than an encoder errs

    def encode(keys, prepared):
        prepared = prepared.astype(float)
        drawn = prepared if autoencoder.codes else draw(keys, gaussian(prepared))
        return (drawn - shift) / scale

    def decode(weights, z):
        found = z * scale + shift
        if autoencoder.codes:
            found = quantize(found, weights['params']['codebook']).z
        return image.decode((), autoencoder.apply(weights, found, method='decode'))

    return Codec(prepare, encode, decode, shape, weights)
