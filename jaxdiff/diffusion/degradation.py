"""Degradations: what is left of an image x0 when it is measured, and what a network is shown of that.

A conditional diffusion model is trained to undo one: it draws x0 given the picture of y ~ p(y | x0).
All but `sketching` are linear with Gaussian noise,

    y = A x0 + noise · eps,  eps ~ N(0, I),

so that a model trained without any can undo them too, see `inverse`. Images are [b, h, w, c] in
[-1, 1].

References:
  Saharia et al. 2021, Image Super-Resolution via Iterative Refinement (SR3), arXiv:2104.07636.
  Saharia et al. 2022, Palette: Image-to-Image Diffusion Models, arXiv:2111.05826.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion import operators
from jaxdiff.diffusion.operators import Operator
from jaxdiff.diffusion.samplers.base import normal

# Of a sketch: edges of this share of the largest contrast are drawn black.
_BLACK = 0.5


class Measurement(NamedTuple):
    """What is known of images."""

    y: Array  # [b, ...]
    known: Array | None = None  # of inpainting: 1.0 where a pixel is known, else 0.0, [b, h, w, 1]


class Degradation(NamedTuple):
    """`measure` is p(y | x0), with a key for each image; `picture` is y as an image [b, h, w, k].

    `operator` is its A, of inpainting another one for each measurement; None where it is not linear.
    """

    measure: Callable[[Array, Array], Measurement]
    picture: Callable[[Measurement], Array]
    operator: Callable[[Measurement], Operator] | None
    noise: float = 0.0


def super_resolution(shape: tuple[int, ...], factor: int, noise: float = 0.0) -> Degradation:
    """Images of [h / factor, w / factor, c], shown enlarged again, both bicubic (SR3, section 2)."""
    operator = operators.downsample(shape, factor)

    def picture(measured):
        return jax.image.resize(measured.y, (len(measured.y), *shape), 'cubic')

    return _linear(operator, picture, noise)


def deblurring(shape: tuple[int, ...], deviation: float, noise: float = 0.0) -> Degradation:
    """Images under a Gaussian blur of so many pixels."""
    return _linear(operators.blur(shape, deviation), lambda measured: measured.y, noise)


def colorization(shape: tuple[int, ...], noise: float = 0.0) -> Degradation:
    """The lightness of images in colour, [h, w, 1].

    Raises: ValueError for images that have no colours.
    """
    if shape[-1] < 3:
        raise ValueError(f'to colourise needs images with 3 channels, got {shape[-1]}')
    return _linear(operators.grey(shape[-1]), lambda measured: measured.y, noise)


def denoising(noise: float) -> Degradation:
    """Images under noise.

    Raises: ValueError for no noise.
    """
    if not noise > 0:
        raise ValueError(f'to denoise needs a noise above 0, got {noise}')
    return _linear(operators.identity(), lambda measured: measured.y, noise)


def inpainting(noise: float = 0.0) -> Degradation:
    """Images of which a part is unknown: 0 there, and beside it a channel that says what is known.

    That part is a box with sides of a quarter to three quarters of the image's, or, one time in
    four, all but such a box (Palette, section 4.3, with boxes alone).
    """

    def measure(keys, x0):
        boxes, eps = jax.vmap(jax.random.split, out_axes=1)(keys)
        return masked(eps, x0, jax.vmap(lambda key: _box(key, x0.shape[1:3]))(boxes), noise)

    def picture(measured):
        return jnp.concatenate([measured.y, 2 * measured.known - 1], -1)

    return Degradation(measure, picture, lambda measured: operators.mask(measured.known), noise)


def masked(keys: Array, x0: Array, known: Array, noise: float = 0.0) -> Measurement:
    """The measurement of images where `known`, [b, h, w, 1], is 1."""
    y = x0 + noise * normal(keys, x0) if noise else x0
    return Measurement(known * y, known)


def sketching() -> Degradation:
    """Black lines on white, [h, w, 1], where the lightness of images changes: Sobel's gradient."""

    def measure(keys, x0):
        grey = jnp.mean(x0, -1)
        padded = jnp.pad(grey, ((0, 0), (1, 1), (1, 1)), 'edge')
        across = padded[:, :, 2:] - padded[:, :, :-2]
        down = padded[:, 2:] - padded[:, :-2]
        horizontal = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
        vertical = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        contrast = (
            jnp.sqrt(jnp.square(horizontal) + jnp.square(vertical)) / 8
        )  # 1 at most, straight
        return Measurement(1 - 2 * jnp.minimum(contrast / _BLACK, 1)[..., None])

    return Degradation(measure, lambda measured: measured.y, None)


def _linear(operator, picture, noise):
    def measure(keys, x0):
        y = operator.apply(x0)
        return Measurement(y + noise * normal(keys, y) if noise else y)

    return Degradation(measure, picture, lambda measured: operator, noise)


def _box(key, size):
    """1.0 where an image of `size` is known, [h, w, 1]."""
    lengths, places, whole = jax.random.split(key, 3)
    length = jax.random.uniform(lengths, (2,), minval=0.25, maxval=0.75)
    start = jax.random.uniform(places, (2,)) * (1 - length)
    rows, columns = (
        (jnp.arange(n) >= jnp.round(a * n)) & (jnp.arange(n) < jnp.round((a + b) * n))
        for n, a, b in zip(size, start, length)
    )
    box = rows[:, None, None] & columns[None, :, None]
    return jnp.where(jax.random.bernoulli(whole, 0.25), box, ~box).astype(float)
