"""A folder of images."""

import os
from pathlib import Path

from PIL import Image

from jaxdiff.data import image
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.fingerprint import CONTENT_BYTES, digest

ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')


def read(name: str, root: Path) -> Dataset:
    """The images in a folder and all folders below it, in the order of their paths.

    Images that all lie in sub-folders are labelled: the sub-folders' names, sorted, are the classes.
    The set is grey where every image is, and RGB otherwise. Files of other endings, and what starts
    with a dot, are passed over. Every header is read now, the pixels later.

    Args:
      name: what the set is called in messages, the path that the user gave.

    Returns: a Dataset, its shape (None, None, c) where the images have several sizes.

    Raises: ValueError where there are no images, an image can't be read, or only some are labelled.
    """
    files = sorted(_images(root))
    if not files:
        raise ValueError(f'{name} holds no images: {", ".join(ENDINGS)} are read, sub-folders too')
    own = [file for file in files if '/' not in file]
    if 0 < len(own) < len(files):
        below = next(file for file in files if '/' in file)
        raise ValueError(
            f'{name} holds images both of its own and in sub-folders, which name classes: '
            f'put {own[0]} and {below} both into sub-folders, or neither'
        )
    labels = [] if own else [file.split('/')[0] for file in files]
    class_names = tuple(sorted(set(labels)))
    headers = {_read(root / file, _header) for file in files}
    sizes, modes = {size for size, _ in headers}, {mode for _, mode in headers}
    channels = 1 if modes == {'L'} else 3
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    source = Folder(root, files, channels, [class_names.index(label) for label in labels])
    return Dataset(name, source, (height, width, channels), 256, class_names, _digest(root, files))


class Folder:
    """Image files as a source; `labels` is [] where there are none."""

    def __init__(self, root: Path, files: list[str], channels: int, labels: list[int]):
        self._root, self._files, self._channels, self._labels = root, files, channels, labels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> dict:
        file = self._root / self._files[i]
        element = {'image': _read(file, lambda file: image.decode(file, self._channels))}
        return element | ({'label': self._labels[i]} if self._labels else {})


def _images(root):
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not name.startswith('.')]
        for name in names:
            if name.lower().endswith(ENDINGS) and not name.startswith('.'):
                yield Path(folder, name).relative_to(root).as_posix()


def _header(file):
    with Image.open(file) as header:
        image.check_depth(header)
        return header.size, header.mode


def _read(file, reader):
    try:
        return reader(file)
    except Exception as error:  # a broken file makes Pillow raise almost anything
        raise ValueError(
            f'{file} cannot be read as an image, remove or mend it: {error}'
        ) from error


def _digest(root, files):
    sizes = [(root / file).stat().st_size for file in files]
    contents = files if sum(sizes) <= CONTENT_BYTES else []
    return digest('folder', *zip(files, sizes), *((root / file).read_bytes() for file in contents))
