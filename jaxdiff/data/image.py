"""Image files to uint8 arrays, and arrays to another size."""

from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jaxdiff.data.source import read

EIGHT_BIT = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')


def decode(file: str | BinaryIO, channels: int) -> np.ndarray:
    """The pixels of an image file, uint8 [h, w, channels]: grey (1), RGB (3) or RGBA (4).

    What is transparent is laid on white, but not of RGBA. Of an animation it is the first frame; an orientation in
    the metadata is not applied.

    Raises: ValueError where a channel has more than 8 bits; OSError where the file is broken.
    """
    with Image.open(file) as image:
        check_depth(image)
        if channels != 4 and image.has_transparency_data:
            image = image.convert('RGBA')
            image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
        image = image.convert({1: 'L', 3: 'RGB', 4: 'RGBA'}[channels])
    return np.array(image).reshape(image.height, image.width, channels)


def check_depth(image: Image.Image) -> None:
    """Raises a ValueError where a channel of an opened image has more than 8 bits."""
    if image.mode not in EIGHT_BIT:
        raise ValueError(f'8 bits per channel are allowed, not the mode {image.mode}: convert it')


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side of uint8 [h, w, c] to `size` pixels, and crops the centre.

    Bicubic, antialiased. Returns uint8 [size, size, c].
    """
    height, width = image.shape[:2]
    scale = size / min(height, width)
    target = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    channels = [
        np.asarray(Image.fromarray(channel).resize(target, Image.Resampling.BICUBIC))
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)[top : top + size, left : left + size]


class Resized:
    """A source whose images are those of another one, resized to [size, size, c]."""

    def __init__(self, source: Any, size: int):
        self._source, self._size = source, size

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, examples: list[int]) -> list[dict]:
        elements = read(self._source, examples)
        return [e | {'image': resize(e['image'], self._size)} for e in elements]
