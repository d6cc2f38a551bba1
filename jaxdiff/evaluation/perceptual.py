"""How alike images are to a network that knows images: a distance of its feature maps.

References:
  Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
    equation 1 with all weights w_l = 1 (https://arxiv.org/abs/1801.03924).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

# Below this length, squared, a feature vector counts as none: its direction is noise.
_LEAST = 1e-12


def distance(features: Callable[[Array], Sequence[Array]], x: Array, y: Array) -> Array:
    """The sum over layers l of the mean over positions p of |u_lp(x) − u_lp(y)|², [b].

    u_lp = f_lp / |f_lp| is the direction of layer l's channels at position p: a layer counts the
    same whatever the size of its features. 0 for equal images; a layer gives 4 at most.

    Args:
      features: images -> feature maps, [b, *positions, channels] each, of any sizes.
      x, y: images, as `features` takes them.
    """
    apart = [jnp.sum(jnp.square(_unit(f) - _unit(g)), -1) for f, g in zip(features(x), features(y))]
    return sum(jnp.mean(each.reshape(len(x), -1), -1) for each in apart)


def _unit(f):
    f = f.astype(jnp.promote_types(f.dtype, jnp.float32))
    return f * jax.lax.rsqrt(jnp.sum(jnp.square(f), -1, keepdims=True) + _LEAST)
