"""The two branches of diffusion as film strips and animations."""

import io
import json
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from jaxdiff.viz.grid import tile, to_rgb

_INK = (40, 40, 40)


class Branch(NamedTuple):
    """Frames uint8 [times, n, h, w, c] of n examples in the order of the walk, and their times."""

    title: str
    frames: np.ndarray
    times: np.ndarray


def figure(branches: list[Branch], columns: int = 11, rows: int = 8, size: int = 64) -> np.ndarray:
    """The branches below each other: a row an example, a column a time, under their titles.

    Args:
      columns: times shown, evenly spread over the walk, its first and last among them.
      rows: examples shown.
      size: least side of an image in pixels of the picture.
    """
    strips = [_strip(branch, columns, rows, size) for branch in branches]
    width = max(strip.shape[1] for strip in strips)
    pads = [[(0, 0), (0, width - strip.shape[1]), (0, 0)] for strip in strips]
    return np.concatenate([np.pad(s, p, constant_values=255) for s, p in zip(strips, pads)])


def _strip(branch, columns, rows, size):
    frames = to_rgb(branch.frames[:, :rows])
    steps, n, h, w, _ = frames.shape
    shown = np.unique(np.linspace(0, steps - 1, min(columns, steps)).round().astype(int))
    zoom = max(1, -(-size // h))
    picture = tile(np.concatenate(frames[shown].swapaxes(0, 1)), len(shown), zoom)
    head = 52
    canvas = Image.new('RGB', (picture.shape[1], picture.shape[0] + head), 'white')
    canvas.paste(Image.fromarray(picture), (0, head))
    draw = ImageDraw.Draw(canvas)
    draw.text((6, 4), branch.title, _INK, ImageFont.load_default(16))
    cell = picture.shape[1] / len(shown)
    for column, k in enumerate(shown):
        middle = ((column + 0.5) * cell, head - 4)
        draw.text(middle, f't={branch.times[k]:.2f}', _INK, ImageFont.load_default(12), 'ms')
    return np.asarray(canvas)


def animation(path: epath.Path, branches: list[Branch], made: dict, seconds: float = 4.0) -> None:
    """Writes a GIF that plays the branches one after the other, holding the last picture of each.

    Every branch must show the same number of examples of the same size. `made` stands as JSON in the
    file's comment.
    """
    pictures, durations = [], []
    for branch in branches:
        step = max(1, round(len(branch.frames) / 60))
        shown = sorted({*range(0, len(branch.frames), step), len(branch.frames) - 1})
        for k in shown:
            picture = Image.fromarray(tile(branch.frames[k]))
            canvas = Image.new('RGB', (picture.width, picture.height + 24), 'white')
            canvas.paste(picture, (0, 24))
            label = f'{branch.title.split(":")[0]}  t={branch.times[k]:.2f}'
            ImageDraw.Draw(canvas).text((4, 4), label, _INK, ImageFont.load_default(14))
            pictures.append(canvas)
            durations.append(max(20, int(1000 * seconds / len(shown))))
        durations[-1] = 1500
    buffer = io.BytesIO()
    options = {
        'comment': json.dumps(made),
        'save_all': True,
        'append_images': pictures[1:],
        'duration': durations,
        'loop': 0,
    }
    pictures[0].save(buffer, 'GIF', **options)
    path.write_bytes(buffer.getvalue())
