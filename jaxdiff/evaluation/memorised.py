"""Whether samples are copies of training images: how near the nearest one is."""

from typing import NamedTuple

import numpy as np

from jaxdiff.evaluation import interval, neighbours
from jaxdiff.evaluation.figure import Figure

RARE = (
    0.01  # share of held-out images that are as near to a training image as what counts as a copy
)
_SAME = 1e-3  # of the training set's width: so near, two images are one, but for float32's rounding


class Found(NamedTuple):
    """Of samples against the training set."""

    copies: (
        Figure  # the share of samples nearer to a training image than all but 1 % of held-out ones
    )
    nearest: np.ndarray  # the row of each sample's nearest training image, [n]
    distance: np.ndarray  # [n]


def usual(training: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """How far held-out images are from the nearest training image, by features or pixels [n, d] each.

    Those that are in the training set too, but for rounding, tell nothing and are left out.

    Raises: ValueError where all are.
    """
    _, distance = neighbours.nearest(held_out, training)
    distance = distance[distance > _SAME * np.linalg.norm(training.std(0))]
    if not len(distance):
        raise ValueError('copies are told by held-out images, and all are in the training set')
    return distance


def copies(samples: np.ndarray, training: np.ndarray, apart: np.ndarray) -> Found:
    """Of samples and training images, [n, d] each; a model that has memorised nothing has a share of 0.01.

    Args:
      apart: how far held-out images are, see `usual`.
    """
    row, distance = neighbours.nearest(samples, training)
    near = distance < np.quantile(apart, RARE)
    return Found(interval.of_share(near), row, distance)
