"""An .npz file of images."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import Arrays

IMAGES = ('image', 'images', 'x', 'samples')
LABELS = ('label', 'labels', 'y')
CLASSES = 2**16


def read(name: str, file: Path) -> Dataset:
    """The images of an .npz file, and their labels where it has them; `jaxdiff sample` writes such.

    The images are one uint8 array [n, h, w, c] or [n, h, w] called image, images, x or samples; the
    labels one integer array [n] called label, labels or y. Class i is named by its number.

    Args:
      name: what the set is called in messages, the path that the user gave.

    Raises: ValueError where the file holds anything else, broken or pickled data.
    """
    with file.open('rb') as opened:
        content = hashlib.file_digest(opened, 'sha256').digest()
        try:
            images, labels = _arrays(opened)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f'{name} cannot be used: {error}') from error
    classes = 0 if labels is None else int(labels.max()) + 1
    return Dataset(
        name,
        Arrays(images, labels),
        images.shape[1:],
        256,
        tuple(map(str, range(classes))),
        digest('npz', content),
    )


def _arrays(file):
    if not zipfile.is_zipfile(file):
        raise ValueError(
            'it is not an .npz file such as numpy.savez writes, or not the whole of it'
        )
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        images, labels = _one(arrays, IMAGES), _one(arrays, LABELS)
    if images is None:
        raise ValueError(f'it has no images, which must be called {" or ".join(IMAGES)}')
    images = _checked_images(images)
    return images, None if labels is None else _checked_labels(labels, len(images))


def _one(arrays, names):
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise ValueError(f'it must have one of {", ".join(found)}, it has all of them')
    if found and not isinstance(arrays[found[0]], np.ndarray):
        raise ValueError(f'its {found[0]} must be an array that NumPy wrote')
    return arrays[found[0]] if found else None


def _checked_images(images):
    if images.dtype != np.uint8:
        raise ValueError(f'its images must be uint8 (0 to 255), they are {images.dtype}')
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f'its images must have the shape (n, h, w, c) or (n, h, w), none of them 0, '
            f'they have {images.shape}'
        )
    return images if images.ndim == 4 else images[..., None]


def _checked_labels(labels, n):
    if labels.dtype.kind not in 'iu' or labels.shape != (n,):
        raise ValueError(
            f'its labels must be integers of the shape ({n},), one for each image, '
            f'they are {labels.dtype} of {labels.shape}'
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(
            f'its labels must lie between 0 and {CLASSES - 1}, '
            f'they lie between {labels.min()} and {labels.max()}'
        )
    return labels
