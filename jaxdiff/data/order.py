"""Which example stands at each position of an endless, shuffled run of epochs.

Position p = step * batch_size + row lies in epoch p // n of a set of n examples. They are all pure
functions, so that a run goes on after a restart, and is split among processes, without any state. Their
random words are Philox's, counter-based and the same in every version of NumPy.
"""

import functools

import numpy as np


def examples(seed: int, positions: np.ndarray, n: int, order: int = 0) -> list[int]:
    """The example at each position, [b]: every epoch is a permutation of its own of 0 … n − 1.

    Another `order` has other permutations.
    """
    epochs, places = np.divmod(positions, n)
    found = np.empty(len(positions), int)
    for epoch in set(epochs.tolist()):
        here = epochs == epoch
        found[here] = _permutation(seed + (order << 32), epoch, n)[places[here]]
    return found.tolist()


def flips(seed: int, positions: np.ndarray) -> np.ndarray:
    """Whether the example at each position is mirrored: a fair coin, bool [b]; positions ascend."""
    return _words(seed, 0, positions) % 2 == 1


def choices(seed: int, positions: np.ndarray) -> np.ndarray:
    """A random word for each position, uint64 [b], to choose a caption by; positions ascend."""
    return _words(seed, 2**64 - 1, positions)  # a stream that no epoch comes to


def _words(seed, stream, positions):
    block = int(positions[0]) // 4  # each count of Philox gives four words
    words = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=block)
    words = words.random_raw(int(positions[-1]) + 1 - 4 * block)
    return words[positions - 4 * block]


@functools.lru_cache(2)  # a batch, and the threads that read ahead, span two epochs
def _permutation(seed, epoch, n):
    words = np.random.Philox(key=np.array([seed, epoch + 1], np.uint64)).random_raw(n)
    return np.argsort(words, kind='stable')
