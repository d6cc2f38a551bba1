"""A folder of images."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from jaxdiff.data import image, metadata
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.fingerprint import CONTENT_BYTES, digest

ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')


def read(name: str, root: Path) -> Dataset:
    """The images in a folder and all folders below it, in the order of their paths.

    Where the folder has a metadata.jsonl or metadata.csv, that gives captions and labels, see
    `metadata`. Otherwise images that all lie in sub-folders are labelled: the sub-folders' names,
    sorted, are the classes. The set is grey where every image is, and RGB otherwise. Files of other endings, and what starts
    with a dot, are passed over. Every header is read now, the pixels later.

    Args:
      name: what the set is called in messages, the path that the user gave.

    Returns: a Dataset, its shape (None, None, c) where the images have several sizes.

    Raises: ValueError where there are no images, an image can't be read, only some are labelled, or
      the metadata don't fit them.
    """
    files = sorted(_images(root))
    if not files:
        raise ValueError(f'{name} holds no images: {", ".join(ENDINGS)} are read, sub-folders too')
    table = metadata.find(root)
    told = metadata.read(table, files) if table else _sub_folders(name, files)
    headers = {_read(root / file, _header) for file in files}
    sizes, modes = {size for size, _ in headers}, {mode for _, mode in headers}
    channels = 1 if modes == {'L'} else 3
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    return Dataset(
        name,
        Folder(root, files, channels, told.labels, told.texts),
        (height, width, channels),
        256,
        told.class_names,
        _digest(root, files, table),
        bool(told.texts),
        str(root),
    )


class Folder:
    """Image files as a source; `labels` and `texts` are empty where there are none."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        channels: int,
        labels: Sequence[int] = (),
        texts: Sequence = (),
    ):
        self._root, self._files, self._channels = root, files, channels
        self._labels, self._texts = labels, texts

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> dict:
        file = self._root / self._files[i]
        element = {'image': _read(file, lambda file: image.decode(file, self._channels))}
        if self._labels:
            element['label'] = self._labels[i]
        if self._texts:
            element['text'] = self._texts[i]
        return element


def _sub_folders(name, files):
    """The labels that sub-folders give, as metadata."""
    own = [file for file in files if '/' not in file]
    if 0 < len(own) < len(files):
        below = next(file for file in files if '/' in file)
        raise ValueError(
            f'{name} holds images both of its own and in sub-folders, which name classes: '
            f'put {own[0]} and {below} both into sub-folders, or neither, or add a metadata.jsonl'
        )
    labels = [] if own else [file.split('/')[0] for file in files]
    class_names = tuple(sorted(set(labels)))
    number = {label: i for i, label in enumerate(class_names)}
    return metadata.Metadata((), tuple(number[label] for label in labels), class_names)


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


def _digest(root, files, table):
    sizes = [(root / file).stat().st_size for file in files]
    contents = files if sum(sizes) <= CONTENT_BYTES else []
    contents = [*contents, *([table.name] if table else [])]
    return digest('folder', *zip(files, sizes), *((root / file).read_bytes() for file in contents))
