"""The samples that `evaluate` measures, as they are drawn and seen."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxdiff import data
from jaxdiff.commands import sample as sampling, seen
from jaxdiff.evaluation import rows
from jaxdiff.evaluation.features import Features

_SHOWN = 32  # samples in the picture, those nearest to a training image


class Drawn(NamedTuple):
    """What is known of samples once they are drawn."""

    samples: np.ndarray | None  # themselves, where each is compared with a whole image
    looked: seen.Seen | None  # what they are seen as
    distance: np.ndarray | None  # of each to the nearest training image, [n]
    closest: list[np.ndarray] | None  # of those nearest to one: distances, its rows, and samples
    lost: dict = {}  # which are not finite, see `sample.not_finite`


def timed(took: dict[str, float], name: str, f: Callable, *given) -> Any:
    """f(*given), whose seconds are added to took[name]."""
    began = time.monotonic()
    result = f(*given)
    took[name] += time.monotonic() - began
    return result


def draw(
    asked: sampling.Job,
    real: data.Dataset | None,
    features: Features | None,
    near: Callable | None,
    whole: bool,
    took: dict[str, float],
) -> Drawn:
    """Draws the samples, of which what isn't needed any more is let go.

    Args:
      real: whose images are taken in their place.
      features: what they are seen by.
      near: features [n, d] -> the nearest training image of each, see `neighbours.nearest`.
      whole: whether the samples themselves are kept.
      took: seconds by name, to which those of this are added.
    """
    num, most = asked.config.sample.num, seen.BATCH if real else asked.config.sample.batch_size
    look = features and seen.looker(features, most)
    samples, looked, held, distances, closest, finite = [], [], [], [], None, []
    parts, drawing = _parts(asked, real, num, most), 'features' if real else 'sampling'
    with tqdm(total=num, unit='sample', dynamic_ncols=True) as bar:
        while drawn := timed(took, drawing, next, parts, None):
            part, of_each = drawn
            finite.append(of_each)
            if whole:
                samples.append(part)
            if look:
                looked.append(timed(took, 'features', look, part))
            if near:
                held.append(part)
                full = (len(held) + 1) * most > rows.BLOCK  # all at once take less time
                if full or bar.n + len(part) == num:
                    x = seen.together(looked[-len(held) :]).features
                    row, distance = timed(took, 'metrics', near, x)
                    distances.append(distance)
                    closest = _closest(closest, [distance, row, np.concatenate(held)])
                    held = []
            bar.update(len(part))
    joined = lambda parts: np.concatenate(parts) if parts else None
    looked = seen.together(looked) if looked else None
    lost = sampling.not_finite(joined(finite))
    return Drawn(joined(samples), looked, joined(distances), closest, lost)


def _parts(asked, real, num, most):
    """The samples, or real images in their place, and whether each is finite, some at a time."""
    if real:
        chosen = seen.some(real, num)
        for i in range(0, num, most):
            images = seen.images(real, chosen[i : i + most])
            yield images, np.ones(len(images), bool)
        return
    draw = sampling.sampler(asked.config, asked.model, **asked.guides.models())
    drawn_by = draw, asked.model, asked.params, asked.cond, asked.seed
    yield from sampling.draw_all(*drawn_by, num, most, asked.away, asked.given)


def _closest(known, more):
    """Of [distances, rows, samples] those of the least distances, the least first."""
    both = [np.concatenate(parts) for parts in zip(known, more)] if known else more
    order = np.argsort(both[0], kind='stable')[:_SHOWN]
    return [x[order] for x in both]
