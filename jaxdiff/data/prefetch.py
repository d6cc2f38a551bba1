"""Batches on their way to the device before they are needed."""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import Any


def prefetch(iterator: Iterator, put: Callable[[Any], Any], size: int = 2) -> Iterator:
    """Yields put(batch) of every batch, `size` of them under way at any time.

    There is no thread: a transfer such as `jax.device_put` returns before it is done, and goes on
    while the device computes. Errors of the iterator and of `put` come through. `close()`, and the
    end, close the iterator too where it can be closed.

    Raises: ValueError where size < 1.
    """
    if size < 1:
        raise ValueError(f'at least one batch must be under way, got {size=}')
    return _prefetch(iterator, put, size)


def _prefetch(iterator, put, size):
    try:
        coming = map(put, iterator)
        ready = collections.deque(itertools.islice(coming, size))
        while ready:
            yield ready.popleft()
            ready.extend(itertools.islice(coming, 1))
    finally:
        close = getattr(iterator, 'close', None)
        if close:
            close()
