"""Whether a picture is told apart from others by its caption: the right one's rank.

References:
  Radford et al. 2021, CLIP, section 3.1.1 (https://arxiv.org/abs/2103.00020).
"""

import numpy as np

from jaxdiff.data.fingerprint import digest
from jaxdiff.evaluation import interval
from jaxdiff.evaluation.figure import Figure


def ranks(scores: np.ndarray, among: int, seed: int = 0) -> np.ndarray:
    """The rank of each picture's own caption among `among`, 1 being the best, int [n].

    The others are drawn for each picture without replacement from those of the other pictures; of
    equal scores the own one counts as worse, and so it does where one is not a number.

    Args:
      scores: [n, n], of picture i with caption j; caption i is its own, and no other is right.
      among: captions, the own one included.

    Raises: ValueError where there are fewer captions.
    """
    n = len(scores)
    if not 2 <= among <= n:
        raise ValueError(f'a rank among {among} captions needs as many pictures, got {n}')
    draws, found = np.random.default_rng(seed), np.empty(n, int)
    for i, row in enumerate(scores):
        others = draws.choice(n - 1, among - 1, replace=False)
        others += others >= i
        found[i] = among - np.sum(row[others] < row[i])
    return found


def figures(
    ranks: np.ndarray, among: int, captions: list[str], features: str = ''
) -> dict[str, Figure]:
    """The shares of pictures whose own caption is first and among the first five, and the median rank.

    Args:
      ranks: of each picture, see `ranks`, int [n].
      among: captions that each was told among.
      captions: of the pictures, which the others were drawn from.
      features: digest of what scored them.
    """
    found = {
        'first': interval.of_share(ranks == 1),
        'first five': interval.of_share(ranks <= 5),
        'median rank': interval.of_median(ranks),
    }
    reference = digest(among, *captions)
    return {k: f._replace(reference=reference, features=features) for k, f in found.items()}
