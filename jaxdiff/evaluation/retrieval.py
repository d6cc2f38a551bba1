"""Whether a picture is told apart from others by its caption: the right one's rank.

References:
  Radford et al. 2021, CLIP, section 3.1.1 (https://arxiv.org/abs/2103.00020).
"""

import numpy as np


def ranks(scores: np.ndarray, among: int, seed: int = 0) -> np.ndarray:
    """The rank of each picture's own caption among `among`, 1 being the best, int [n].

    The others are drawn for each picture without replacement from those of the other pictures; of
    equal scores the own one counts as worse.

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
        found[i] = 1 + np.sum(row[others] >= row[i])
    return found
