"""What images are seen by before sets of them are compared: a trained network's features."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxdiff.data.fingerprint import digest


class Features(NamedTuple):
    """A trained network with its weights, by which images are vectors.

    The weights are an argument of every program, never a constant of one: `jax.jit(apply)`, called
    with `params` and images.
    """

    name: str
    digest: str  # of the weights and of how images are prepared; see `Figure`
    width: int
    params: Any  # as float32 in NumPy
    apply: Callable[[Any, Array], Array]  # params, uint8 [b, h, w, 1 or 3] -> float32 [b, width]
    # Of a classifier: params, images and their features -> log p(class), [b, classes].
    log_probabilities: Callable[[Any, Array, Array], Array] | None = None
    shape: tuple[int, ...] | None = None  # of the images that it takes; None: any
    class_names: tuple[str, ...] = ()  # of a classifier, where they are known
    fid: bool = False  # whether a Fréchet distance by it is FID: of the published weights alone


def known(
    name: str,
    width: int,
    params: Any,
    apply: Callable[[Any, Array], Array],
    prepared: str,
    log_probabilities: Callable[[Any, Array, Array], Array] | None = None,
    shape: tuple[int, ...] | None = None,
) -> Features:
    """Features with their digest.

    It is of the arrays and their places, so that one network's weights have one digest in whatever
    file they are kept.

    Args:
      prepared: in words that change with it, how `apply` prepares images and what it returns.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    parts = [name, width, prepared]
    for path, leaf in leaves:
        parts += [jax.tree_util.keystr(path), leaf.shape, np.ascontiguousarray(leaf).tobytes()]
    return Features(name, digest(*parts), width, params, apply, log_probabilities, shape)


def against(y: np.ndarray) -> str:
    """The `reference` of a `Figure` that was measured against features y [m, d]."""
    return digest(y.shape, memoryview(np.ascontiguousarray(y)).cast('B'))


def named(metric: str, features: Features) -> str:
    """A metric's name by these features: 'frechet_distance[mobilenet]'; by the published Inception's 'FID'."""
    if metric == 'frechet_distance' and features.fid:
        return 'FID'
    return f'{metric}[{features.name}]'
