"""What can be measured of a run's samples, and by what."""

import jax
import numpy as np

from jaxdiff import build, data
from jaxdiff.commands import sample as sampling
from jaxdiff.evaluation import interval, memorised
from jaxdiff.evaluation.features import Features
from jaxdiff.evaluation.images import WINDOW

OF_FEATURES = ('frechet', 'kernel', 'precision', 'density', 'diversity', 'copies')
OF_CLASSES = ('score', 'agreement')
OF_DATA = ('bound', 'flow')
OF_PAIRS = ('psnr', 'ssim')  # of a task's model: of held-out images that are degraded and restored
METRICS = OF_FEATURES + OF_CLASSES + OF_DATA + OF_PAIRS
_LEAST = 6  # images that neighbours are looked for among


def some(job: sampling.Job, of: Features | None, training: data.Dataset, real: bool) -> list[str]:
    """The metrics that features and a run allow, but for the likelihoods, which take long.

    Args:
      real: whether images are measured that were not restored.
    """
    pairs = [*OF_PAIRS] if job.model.task and not real else []
    if min(job.model.data_shape[:2]) < WINDOW:
        pairs = [name for name in pairs if name != 'ssim']
    if not of and pairs:
        return pairs
    if not of:
        raise ValueError(
            "what are samples to be seen by? Give --features, a classifier's run of the same "
            'images, mobilenet or inception:FILE, or --metrics bound or flow, which need none'
        )
    kinds = _classes(of, job)
    chosen = [*OF_FEATURES] + ['score'] * bool(kinds)
    if job.config.data.path:  # which has no held-out split to tell copies by
        chosen.remove('copies')
    if kinds and job.labels is not None and not _other_classes(of, kinds, job, training):
        chosen.append('agreement')
    return chosen + pairs


def without_copies(
    chosen: tuple[str, ...],
    metrics: list[str] | None,
    training: data.Dataset,
    held_out: data.Dataset,
    most: int,
    taken: data.Dataset | None,
    split: str,
) -> tuple[str, ...]:
    """The chosen metrics, without copies where these can't be told by the held-out images.

    Raises: ValueError where they were asked for.
    """
    why = None
    if data.overlap(training, held_out):
        why = f'--held-out {split} has images of the training set'
    elif (num := min(most, len(held_out.source))) < memorised.LEAST:
        why = f'--held-out {split} has {num} images, and {memorised.LEAST} are needed'
    elif taken and (data.overlap(taken, held_out) or data.overlap(taken, training)):
        why = f'--real has images of --held-out {split} or of the training set'
    if why and metrics:
        raise ValueError(f'copies cannot be told: {why}')
    return tuple(name for name in chosen if name != 'copies') if why else chosen


def _other_classes(of, kinds, job, training):
    """In what a classifier's classes and the model's differ; None where in nothing."""
    ours = training.class_names
    if kinds != len(ours):
        return f'{of.name} knows {kinds} classes and the model {len(ours)}'
    if of.class_names and of.class_names != ours:
        return f'{of.name} knows other classes, {", ".join(of.class_names[:3])} …'
    return None


def check(
    job: sampling.Job,
    chosen: tuple[str, ...],
    of: Features | None,
    references: int,
    training: data.Dataset,
) -> None:
    """Raises a ValueError where these metrics of a request for samples can't be measured."""
    if of is None and {*chosen} - {*OF_DATA, *OF_PAIRS}:
        raise ValueError(f'--metrics {" ".join(chosen)} need --features')
    if {*chosen} & {*OF_PAIRS} and not job.model.task:
        raise ValueError('psnr and ssim are of a model that was trained for a task, config.task')
    if 'ssim' in chosen and min(job.model.data_shape[:2]) < WINDOW:
        raise ValueError(f'ssim needs images of {WINDOW} x {WINDOW} at least')
    num = job.config.sample.num
    if num < 2:
        raise ValueError(f'--num {num}: an interval needs two samples or more')
    if {*chosen} & {*OF_DATA}:
        if job.model.task:
            raise ValueError('bound and flow are of models of images alone, not of a task')
        build.bits_per_dim(job.model, 256, 'bound')  # refuses what can't be
    if of is None:
        return
    shape = tuple(job.model.data_shape)
    if of.shape and of.shape != shape:
        raise ValueError(
            f'{of.name} sees images of {"x".join(map(str, of.shape))}, and the samples are '
            f'{"x".join(map(str, shape))}'
        )
    if shape[-1] == 4 and not of.shape:
        raise ValueError(f'{of.name} sees images of 1 or 3 channels, and the samples have 4')
    if references < _LEAST:
        raise ValueError(f'{references} images are too few to measure against: {_LEAST} or more')
    if 'diversity' in chosen and job.labels is not None:
        if num < (kinds := len(np.unique(job.labels))) + 2:
            raise ValueError(f'diversity of {num} images in {kinds} classes: give --num, more')
    if num < 2 * interval.GROUPS:
        raise ValueError(f'--num {num}: an interval needs {2 * interval.GROUPS} samples or more')
    if 'frechet' in chosen and min(num, references) <= of.width:
        raise ValueError(
            f'the Fréchet distance by {of.width} features needs more samples and references than that: '
            f'got {num} and {references}'
        )
    kinds = _classes(of, job)
    if {*chosen} & {*OF_CLASSES} and not kinds:
        raise ValueError(f'{of.name} is no classifier: {" and ".join(OF_CLASSES)} need one')
    if 'agreement' in chosen and job.labels is None:
        raise ValueError('the run is not conditioned on labels: there is none to agree with')
    if 'agreement' in chosen and (why := _other_classes(of, kinds, job, training)):
        raise ValueError(f'there is no agreement: {why}')


def _classes(of, job):
    """How many classes the features know, 0 where they are no classifier's."""
    if of.log_probabilities is None:
        return 0
    image = jax.ShapeDtypeStruct((1, *job.model.data_shape), np.uint8)
    seen_as = jax.ShapeDtypeStruct((1, of.width), np.float32)
    return jax.eval_shape(of.log_probabilities, of.params, image, seen_as).shape[1]
