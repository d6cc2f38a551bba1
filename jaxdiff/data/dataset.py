"""Data sets, and their batches as a pure function of (seed, step)."""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np

from jaxdiff.data import order as orders
from jaxdiff.data.check import check
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import Arrays, Cache, choose, read, stack, texts

_TOGETHER = 256  # examples read at once
CACHE_BYTES = 2**30  # a set that is smaller decoded stays in memory once read


class Dataset(NamedTuple):
    """Images, and what a model must know of them."""

    name: str  # of the TFDS set, or the path given
    source: Any  # random access to the examples, see `source`
    shape: tuple[int, ...]  # of each image, (h, w, c)
    levels: int  # distinct values per channel, spread evenly over 0 … 255
    class_names: tuple[str, ...]  # label i is class_names[i]; () where unlabelled
    fingerprint: str  # of the data, the same on every machine; of large sets see `fingerprint`
    captioned: bool = False  # whether its examples have a 'text'
    place: str = ''  # the folder where what is computed of it is kept
    # Which it has of a prepared set: (file, first, last + 1) each.
    records: tuple[tuple[str, int, int], ...] = ()


def load(
    name: str = '', path: str = '', data_dir: str = '', split: str = 'train', image_size: int = 0
) -> Dataset:
    """Opens a data set and checks it; images are read when asked for.

    Nothing is ever downloaded. 'digits' and 'fashion_mnist' are prepared on first use, 'emoji' and
    'mnist5k' by `jaxdiff prepare`.

    Args:
      name: a TFDS set: 'digits', 'fashion_mnist', 'emoji', 'mnist5k', or one prepared as
        array_record: 'cifar10', 'mnist:3.0.1', 'imagenet_resized/32x32'. Give either this or `path`.
      path: a folder of images (see `folder`) or an .npz file (see `npz`).
      data_dir: where TFDS keeps prepared sets; '' is TFDS_DATA_DIR or ~/tensorflow_datasets.
      split: of a TFDS set, slices and sums included: 'train', 'train[:50%]', 'train+test'. A path
        has only 'train'.
      image_size: in pixels; the shorter side is resized to it and the centre cropped. 0 leaves the
        images as they are; then all must have one size.

    Raises:
      FileNotFoundError: the files aren't there.
      ValueError: a name or a split that doesn't exist, or data that can't be used.
    """
    if bool(name) == bool(path):
        raise ValueError(f"give either a data set's name or a path, got {name=} and {path=}")
    if image_size < 0:
        raise ValueError(
            f'image_size must be 0 (as they are) or a number of pixels, got {image_size}'
        )
    dataset = _named(name, data_dir, split) if name else _at(path, split)
    size = (image_size, image_size)
    if image_size and dataset.shape[:2] != size:
        from jaxdiff.data.image import Resized

        dataset = dataset._replace(
            source=Resized(dataset.source, image_size),
            shape=(*size, dataset.shape[2]),
            levels=256,
            fingerprint=digest(dataset.fingerprint, image_size),
        )
    elif None in dataset.shape:
        raise ValueError(
            f'{dataset.name} holds images of several sizes: set image_size, for example to 64'
        )
    in_memory = isinstance(dataset.source, Arrays)
    if not in_memory and len(dataset.source) * math.prod(dataset.shape) <= CACHE_BYTES:
        labelled, captioned = bool(dataset.class_names), dataset.captioned
        cache = Cache(dataset.source, dataset.shape, labelled, captioned)
        dataset = dataset._replace(source=cache)
    check(dataset)
    return dataset


def _named(name, data_dir, split):
    from jaxdiff.data import records  # imports tensorflow_datasets

    return records.read(name, data_dir, split)


def _at(path, split):
    from jaxdiff.data import folder, npz

    if split != 'train':
        raise ValueError(f"{path} has one split, 'train', got {split=}")
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f'{path} does not exist: give a folder of images or an .npz file')
    if place.is_dir():
        return folder.read(path, place)
    if place.suffix == '.npz':
        return npz.read(path, place)
    raise ValueError(f'{path} is neither a folder of images nor an .npz file')


def overlap(a: Dataset, b: Dataset) -> bool:
    """Whether two have examples in common, as splits of one set: 'train[:500]' and 'train+test'."""
    return a.fingerprint == b.fingerprint or any(
        file == other and max(first, begin) < min(last, end)
        for file, first, last in a.records
        for other, begin, end in b.records
    )


def captions(dataset: Dataset) -> list[str]:
    """All captions, each once."""
    found, n = {}, len(dataset.source)
    for start in range(0, n, _TOGETHER):
        elements = read(dataset.source, list(range(start, min(start + _TOGETHER, n))))
        found |= dict.fromkeys(text for element in elements for text in texts(element))
    return list(found)


def titles(dataset: Dataset, num: int) -> list[str]:
    """The first caption of each of `num` examples, spread evenly over the set."""
    chosen = np.linspace(0, len(dataset.source), num, endpoint=False).astype(int)
    return [texts(element)[0] for element in read(dataset.source, chosen.tolist())]


def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    flip: bool = False,
    process: int = 0,
    processes: int = 1,
    order: int = 0,
    tokenize: Callable[[list[str]], dict[str, np.ndarray]] | None = None,
) -> grain.MapDataset:
    """The batches of endless epochs, random access: `batches(...)[step]`.

    Each epoch visits every example once, in an order of its own; a batch may span epochs. A batch
    is {'image': uint8 [b, h, w, c], 'label': int32 [b] where labelled, 'index': int32 [b]}, with
    b = batch_size / processes and `index` the row's place in the global batch. Process p holds
    rows p, p + processes, …, and reads no others. Of an example with several captions each epoch
    takes one, which its position decides.

    Args:
      batch_size: of the global batch, over all processes.
      seed: decides the order and the flips, 0 … 2**32 − 1.
      flip: mirror each example left to right with probability 1/2, drawn anew in each epoch.
      order: another number, of 32 bits, is another order of the same examples.
      tokenize: makes arrays [b, …] of b captions, which the batch then has under the names that it
        gives them; without it captions are left out, since devices take no strings.

    Raises: ValueError where a size or the seed is out of range, or there are no captions to tokenize.
    """
    examples = len(dataset.source)
    if not examples:
        raise ValueError(f'{dataset.name} holds no images')
    if batch_size < 1 or processes < 1 or batch_size % processes:
        raise ValueError(
            f'batch_size must be a positive multiple of the number of processes, got '
            f'{batch_size=} and {processes=}'
        )
    if not 0 <= process < processes:
        raise ValueError(f'process must lie between 0 and {processes - 1}, got {process}')
    if not 0 <= seed < 2**32:
        raise ValueError(f'seed must lie between 0 and 2**32 - 1, got {seed}')
    if tokenize and not dataset.captioned:
        raise ValueError(
            f'{dataset.name} has no captions to tokenize: give one that has, or no text'
        )
    rows = np.arange(process, batch_size, processes)

    def batch(step):
        positions = step * batch_size + rows
        elements = read(dataset.source, orders.examples(seed, positions, examples, order))
        batch = stack(elements)
        if tokenize:
            batch |= tokenize(choose(elements, orders.choices(seed, positions)))
        if flip:
            flipped = orders.flips(seed, positions)[:, None, None, None]
            batch['image'] = np.where(flipped, batch['image'][:, :, ::-1], batch['image'])
        return batch | {'index': rows.astype(np.int32)}

    return grain.MapDataset.range(sys.maxsize // batch_size).map(batch)


def stream(
    batches: grain.MapDataset, start: int = 0, threads: int = 4, buffer: int = 8
) -> Iterator[dict]:
    """Batches from step `start` on, read ahead by threads; `close()` stops them.

    Args:
      threads: how many batches are read at once.
      buffer: how many batches are kept ready, at most.

    Raises: ValueError where start < 0; later, whatever reading an example raises.
    """
    if start < 0:
        raise ValueError(f'start must be a step, 0 or more, got {start}')
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    return iter(batches[start:].to_iter_dataset(options))
