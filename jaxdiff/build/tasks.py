"""From a config to the task of a model that is shown a picture, `config.task`.

Its network is told the picture beside x_t, folded to the sides of diffusion space: where that is
an autoencoder's latents, each square of pixels that makes a latent is one position's channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff import codecs
from jaxdiff.build import names
from jaxdiff.diffusion.degradation import Degradation, Measurement
from jaxdiff.nets.autoencoder import space_to_depth


class Task(NamedTuple):
    """A degradation of data, and how a network is told of it."""

    degradation: Degradation
    scale: Callable[[Array], Array]  # images uint8 -> numbers in [-1, 1]
    fold: int  # pixels that are one position of diffusion space, along a side


def task(
    config: ConfigDict, name: str, shape: tuple[int, ...], levels: int, inner: tuple[int, ...]
) -> Task:
    """The task `name` on data of `shape` (h, w, c) that diffusion sees as `inner`.

    Raises: ValueError where the data can't be degraded so.
    """
    pixels = codecs.pixels(levels)
    made = names.DEGRADATIONS[name](config.degradation, shape)
    return Task(made, lambda x: pixels.encode(None, x), shape[0] // inner[0])


def picture(task: Task, measured: Measurement) -> Array:
    """What the network is told of a measurement, [b, h, w, k] with the sides of diffusion space."""
    return space_to_depth(task.degradation.picture(measured), task.fold)


def degraded(task: Task, keys: Array, images: Array) -> Array:
    """The picture of images, uint8 [b, h, w, c], that are measured with a key each."""
    return picture(task, task.degradation.measure(keys, task.scale(images)))


def folded(known: Array, side: int) -> Array:
    """Where diffusion space is known, [b, h / side, w / side, 1]: where all of a square's pixels are."""
    return jnp.min(space_to_depth(known, side), axis=-1, keepdims=True)


def channels(task: Task, shape: tuple[int, ...]) -> int:
    """Of the picture, for images of `shape`."""
    return jax.eval_shape(lambda k, x: degraded(task, k, x), *_one(shape)).shape[-1]


def measured_shape(task: Task, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What was measured of an image of `shape` as an image, (h, w, c)."""

    def measure(keys, images):
        return task.degradation.measure(keys, task.scale(images)).y

    return jax.eval_shape(measure, *_one(shape)).shape[1:]


def _one(shape):
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    return keys, jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
