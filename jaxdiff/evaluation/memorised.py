"""Whether samples are copies of training images: how near the nearest one is."""

import numpy as np

from jaxdiff.evaluation import interval, neighbours
from jaxdiff.evaluation.figure import Figure

RARE = (
    0.01  # share of held-out images that are as near to a training image as what counts as a copy
)
LEAST = 99  # held-out images, of which so few can be told
_SAME = 1e-3  # of the training set's width: so near, two images are one, but for float32's rounding


def usual(training: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """How far held-out images are from the nearest training image, by features or pixels [n, d] each.

    Those that are in the training set too, but for rounding, tell nothing and are left out.

    Raises: ValueError where fewer than `LEAST` are left.
    """
    _, distance = neighbours.nearest(training)(held_out)
    distance = distance[distance > _SAME * np.linalg.norm(training.std(0))]
    if len(distance) < LEAST:
        raise ValueError(
            f'copies are told by {LEAST} held-out images or more that are not in the training set, got '
            f'{len(distance)} of {len(held_out)}'
        )
    return distance


def copies(distance: np.ndarray, apart: np.ndarray) -> Figure:
    """The share of samples nearer to a training image than all but 1 % of held-out ones.

    Of a model that has memorised nothing it is 0.01, in the mean over held-out sets: of n + 1 images
    that are alike each is as likely as any other among the (n + 1) / 100 nearest.

    Args:
      distance: of each sample to the nearest training image, [n].
      apart: how far held-out images are, see `usual`.
    """
    return interval.of_share(distance < np.quantile(apart, RARE, method='weibull'))
