"""What images are seen by: a network whose features, and classes, metrics are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array


class Features(NamedTuple):
    """A network and how images are put to it.

    A distance is named by its features: only that by Inception's is FID.
    """

    name: str
    digest: str  # of weights and preprocessing
    params: Any  # an argument of programs, never a constant in them
    # (params, images uint8 [b, h, w, c]) -> features [b, width] and, of a classifier, log p(class) [b, k], else None.
    see: Callable[[Any, Array], tuple[Array, Array | None]]
    width: int
    shape: tuple[int, ...] | None = None  # of the images that it takes; None: of all


def named(metric: str, features: Features) -> str:
    """The name of a metric by these features: 'frechet_distance[inception]' is called 'FID'."""
    if (metric, features.name) == ('frechet_distance', 'inception'):
        return 'FID'
    return f'{metric}[{features.name}]'
