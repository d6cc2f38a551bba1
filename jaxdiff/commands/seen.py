"""Features of images: of those drawn, and of a data set's, which are kept where it lies."""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxdiff import data
from jaxdiff.commands import kept
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import read, stack
from jaxdiff.evaluation import rows
from jaxdiff.evaluation.features import Features

BATCH = 250  # images that are looked at together


class Seen(NamedTuple):
    """What features said of images."""

    features: np.ndarray  # float32 [n, width]
    logp: np.ndarray | None  # float32 [n, classes], of a classifier


def looker(features: Features, most: int = BATCH) -> Callable[[np.ndarray], Seen]:
    """images uint8 [n, h, w, c] -> what they are seen as, on all devices, in parts of one shape.

    Args:
      most: images that come at once.
    """
    see = _see(features.apply, features.log_probabilities)
    return rows.of(see, features.params, block=min(most, BATCH))


@functools.cache  # one function of the same features, and so one program
def _see(apply, log_probabilities):
    def see(images, params):
        found = apply(params, images)
        return Seen(found, log_probabilities and log_probabilities(params, images, found))

    return see


def together(parts: Iterable[Seen]) -> Seen:
    """All of them as one."""
    return jax.tree.map(lambda *found: np.concatenate(found), *parts)


def some(dataset: data.Dataset, num: int) -> np.ndarray:
    """Rows of `num` of its images, drawn at random without replacement, in order; of all where it has no more.

    The first ones would not do: folders and files are often sorted by class.
    """
    n = len(dataset.source)
    return np.sort(np.random.default_rng(0).permutation(n)[:num])


def digest_of(dataset: data.Dataset, num: int) -> str:
    """What `some` are."""
    return f'{dataset.fingerprint}, {num} of {len(dataset.source)}'


def of_data(features: Features, dataset: data.Dataset, num: int) -> np.ndarray:
    """The features of `some` of a data set's images, [n, width], computed once where they can be kept."""
    num = min(num, len(dataset.source))

    def look():
        of = looker(features)
        return together(of(images) for images in _parts(dataset, num)).features

    if not dataset.place:  # arrays lie nowhere
        return look()
    name = f'features_{digest(dataset.fingerprint, features.digest, num, "some")}.npy'
    file = Path(dataset.place) / name
    if not file.exists():
        looked = look()
        try:
            kept.write(file, looked, 'the features')
        except OSError as error:
            print(f'warning: {error}; they are computed anew each time', file=sys.stderr)
            return looked
    try:
        found = np.load(file, mmap_mode='r')
        if found.shape == (num, features.width):
            return found
    except (ValueError, EOFError):  # cut off
        pass
    raise OSError(f'{file} does not hold the features of this data: delete it')


def images(dataset: data.Dataset, rows: Iterable[int]) -> np.ndarray:
    """Some of its images, uint8 [n, h, w, c]."""
    return stack(read(dataset.source, [int(i) for i in rows]))['image']


def _parts(dataset, num) -> Iterator[np.ndarray]:
    rows, starts = some(dataset, num), range(0, num, 4 * BATCH)
    for i in tqdm(starts, desc='features of the data', unit='batch', dynamic_ncols=True):
        yield images(dataset, rows[i : i + 4 * BATCH])
