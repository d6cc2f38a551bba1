"""The examples that evaluated samples are drawn like: by their labels and captions, or made from their images."""

from typing import NamedTuple

import numpy as np

from jaxdiff import data
from jaxdiff.commands import images, run as runs, seen
from jaxdiff.data.source import read


class Like(NamedTuple):
    """An example for each sample."""

    source: data.Dataset  # that they are of
    examples: list[dict]  # their 'label' and 'text', as far as the model knows of such
    request: images.Request  # of their images, where a model's task is to restore them


def find(
    trained: runs.Run,
    training: data.Dataset,
    shown: data.Dataset | None,
    split: str,
    num: int,
    seed: int,
    real: bool = False,
) -> Like:
    """Examples of the training set, drawn with replacement, or `some` of those that are shown.

    The former are independent of each other, and as frequent as there: in turn each class would be
    as frequent as any other, and exactly so.

    Args:
      shown: whose images are restored, or measured in the place of samples; None for neither.
      split: what these are called.
      num: of samples, and no more than there are shown.
      real: whether they are measured themselves, so that no captions are needed.
    """
    source, request = shown or training, images.Request()
    if shown:
        rows = seen.some(shown, num)
    else:
        rows = np.random.default_rng(seed).integers(len(training.source), size=num)
    if trained.model.task:
        request = images.Request(split=split, degrade=True, whole=seen.images(source, rows))
    if not (trained.model.num_classes or trained.model.text or trained.config.sample.classifier):
        return Like(source, [], request)
    examples, keys = [], ('label',) if real else ('label', 'text')
    for i in range(0, num, seen.BATCH):  # whose images need not stay
        part = read(source.source, rows[i : i + seen.BATCH].tolist())
        examples += [{key: x[key] for key in keys if key in x} for x in part]
    return Like(source, examples, request)
