"""Random access to examples.

A source has `len(source)`, and `source[i]` is {'image': uint8 [h, w, c]}, with an int 'label' where
the data is labelled, and a 'text' where it is captioned: a str, or a tuple of some. One that is quicker at many has `source.__getitems__([i, …])` too, a list.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

PIXELS = 'pixels'


def read(source: Any, examples: list[int]) -> list[dict]:
    """The examples of a source, read together where it can."""
    if hasattr(source, '__getitems__'):
        return source.__getitems__(examples)
    return [source[i] for i in examples]


def stack(elements: list[dict]) -> dict:
    """The arrays of the examples: 'image' uint8 [b, h, w, c], 'label' int32 [b] where labelled.

    Where 'image' is something else that was made of it, the image itself may stand under `PIXELS`.
    """
    names = [name for name in ('image', PIXELS) if name in elements[0]]
    batch = {name: np.stack([element[name] for element in elements]) for name in names}
    if 'label' in elements[0]:
        batch['label'] = np.array([element['label'] for element in elements], np.int32)
    return batch


def texts(element: dict) -> tuple[str, ...]:
    """The captions of an example."""
    found = element['text']
    return (found,) if isinstance(found, str) else tuple(found)


def choose(elements: list[dict], words: np.ndarray) -> list[str]:
    """One caption of each example; of several, the one that its word, uint64 [b], points at."""
    found = map(texts, elements)
    return [captions[int(word) % len(captions)] for captions, word in zip(found, words)]


class Arrays:
    """Images, uint8 [n, h, w, c], with or without labels, int [n], and captions, [n], as a source."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray | None = None, texts: Sequence | None = None
    ):
        self._images, self._labels, self._texts = images, labels, texts

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> dict:
        element = {'image': self._images[i]}
        if self._labels is not None:
            element['label'] = int(self._labels[i])
        if self._texts is not None:
            element['text'] = self._texts[i]
        return element


class Cache(Arrays):
    """A source that keeps each example of another one in memory after its first read.

    Memory is taken up by the examples that were read and no others. Threads may share it: two that
    miss the same example both read it, and write the same bytes.
    """

    def __init__(
        self, source: Any, shape: tuple[int, ...], labelled: bool, captioned: bool = False
    ):
        n = len(source)
        super().__init__(
            np.empty((n, *shape), np.uint8),  # pages that nothing touches take no memory
            np.empty(n, np.int32) if labelled else None,
            [None] * n if captioned else None,
        )
        self._source, self._ready = source, np.zeros(n, bool)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, examples: list[int]) -> list[dict]:
        missing = [i for i in examples if not self._ready[i]]
        for i, element in zip(missing, read(self._source, missing) if missing else ()):
            self._keep(i, element)
        return [super(Cache, self).__getitem__(i) for i in examples]

    def _keep(self, i, element):
        if element['image'].shape != self._images.shape[1:]:
            raise ValueError(
                f'image {i} has the shape {element["image"].shape}, the others '
                f'{self._images.shape[1:]}: set image_size to resize them all'
            )
        self._images[i] = element['image']
        if self._labels is not None:
            self._labels[i] = element['label']
        if self._texts is not None:
            self._texts[i] = element['text']
        self._ready[i] = True  # last, for the other threads
