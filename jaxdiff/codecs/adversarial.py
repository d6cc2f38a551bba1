"""A game between an autoencoder and a discriminator, as one loss for both.

With a discriminator's scores D of the parts of an image x, and of its reconstruction x', the
discriminator falls on the hinge loss, and the autoencoder on its distance and a share of the score:

    L_D = mean (max(0, 1 − D(x)) + max(0, 1 + D(sg[x']))) / 2,                                (1)
    L_A = d(x, x') + weight λ g(x'),  g = −mean D(x'),  λ = |∂d/∂x'| / (|∂g/∂x'| + δ).           (2)

λ makes the two gradients the same size, as VQGAN's weight does, which takes them at the decoder's
last layer and over the batch; at each image's own pixels they are known before the batch is
averaged, and so don't depend on how it is split.

References:
  Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks
    (arXiv:1611.07004).
  Lim & Ye 2017, Geometric GAN, for the hinge loss (arXiv:1705.02894).
  Esser et al. 2021, Taming Transformers, equations 6 and 7 (arXiv:2012.09841).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

_DELTA = 1e-6


def hinge(real: Array, fake: Array) -> Array:
    """(1) for each example, [b], of scores [b, ...]."""
    real, fake = (scores.reshape(len(scores), -1) for scores in (real, fake))
    return jnp.mean(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), -1) / 2


def with_score(
    distance: Callable[[Array], Array], score: Callable[[Array], Array], y: Array, weight: Array
) -> Array:
    """The values of the distance d(y), [b], with the gradient of (2) by y; λ has none of its own.

    The score's value stays outside: in a game it says nothing of how good the images are.

    Args:
      distance: of images from what they should be, [b, ...] -> [b].
      score: g, [b, ...] -> [b].
      y: the images, [b, ...]; each one's distance and score must be its own.
      weight: of the score's gradient, a scalar: 1 is as much as the distance's.
    """
    fixed = jax.lax.stop_gradient(y)
    values, back = jax.vjp(distance, fixed)
    (of_distance,) = back(jnp.ones_like(values))
    of_score = jax.grad(lambda y: jnp.sum(score(y)))(fixed)
    share = weight * _length(of_distance) / (_length(of_score) + _DELTA)
    gradient = jax.lax.stop_gradient(of_distance + share * of_score)
    return jax.lax.stop_gradient(values) + jnp.sum((y - fixed) * gradient, tuple(range(1, y.ndim)))


def _length(x):
    """Of each example, [b, 1, ...]."""
    return jnp.sqrt(jnp.sum(jnp.square(x), tuple(range(1, x.ndim)), keepdims=True))
