"""A checked request for figures, and how each of them is measured."""

import sys
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from jaxdiff import build, data
from jaxdiff.commands import asked_for, sample as sampling, seen, written
from jaxdiff.commands.drawn import Drawn
from jaxdiff.commands.measurable import OF_PAIRS
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import read, stack, texts
from jaxdiff.evaluation import classes, frechet, interval, kernel, memorised, neighbours, rows
from jaxdiff.evaluation.features import Features, named
from jaxdiff.evaluation.figure import Figure
from jaxdiff.evaluation.images import psnr, ssim

BITS = 'bits_per_dim'


class Job(NamedTuple):
    """A checked request for figures."""

    sampling: sampling.Job
    metrics: tuple[str, ...]
    features: Features | None
    training: data.Dataset
    held_out: data.Dataset | None
    reference: data.Dataset
    real: data.Dataset | None  # whose images are measured in the place of samples
    task: str  # what restored images are of: the data, what was done to them
    most: int  # images of a data set that are looked at
    out: epath.Path
    reuse: bool


def usual(job: Job, training: np.ndarray, held_out: np.ndarray) -> np.ndarray | None:
    """How far held-out images are from the training set, by the features of both.

    None, with a warning, where they tell no copies, and these were not asked for by name.
    """
    asked = job.sampling.made['evaluated']
    try:
        return memorised.usual(training, held_out)
    except ValueError as error:
        why = f'--held-out {asked["held_out"]}: {error}'
        if asked['metrics']:
            raise OSError(why) from error
        print(f'warning: without copies, {why}', file=sys.stderr)


def of_pairs(job: Job, drawn: Drawn) -> dict[str, Figure]:
    """How near restored images come to the whole ones."""
    measures = {'psnr': psnr, 'ssim': ssim}
    pairs = np.stack([job.sampling.start.whole, drawn.samples], 1)
    found = {
        name: interval.of_mean(rows.of(_of_pair(measures[name]), block=seen.BATCH)(pairs))
        for name in OF_PAIRS
        if name in job.metrics
    }
    return {name: figure._replace(reference=digest(job.task)) for name, figure in found.items()}


def _of_pair(measure):
    return lambda pairs: measure(pairs[:, 0], pairs[:, 1])


def of_features(job: Job, drawn: Drawn, reference: np.ndarray) -> dict[str, Figure]:
    """The figures of features, and of classes, but for the copies.

    Args:
      reference: features of the images that samples are measured against.
    """
    x, found = drawn.looked.features, {}
    chosen = (seen.some(job.reference, num) for num in (len(reference), len(x)))
    near = reference[np.isin(*chosen)]  # of neighbours as many, where there are
    labels = job.sampling.labels
    made_by = {
        'frechet': lambda: {'frechet_distance': frechet.of(x, reference)},
        'kernel': lambda: {'kernel_distance': kernel.distance(x, reference)},
        'precision': lambda: neighbours.precision_recall(x, near),
        'density': lambda: neighbours.density_coverage(x, near),
    }
    for metric, measure in made_by.items():
        if metric in job.metrics:
            used = near if metric in ('precision', 'density') else reference
            for name, figure in measure().items():
                told = seen.digest_of(job.reference, len(used))
                found[named(name, job.features)] = figure._replace(reference=told)
    by_class = {}
    if 'diversity' in job.metrics:
        kinds = np.zeros(len(x), int) if labels is None else labels
        by_class['diversity'] = classes.diversity(x, kinds)
    if 'agreement' in job.metrics:
        by_class['agreement'] = classes.agreement(drawn.looked.logp, labels)
    classes_of = 'no classes'
    if labels is not None:
        shown = job.real or (job.held_out if job.sampling.model.task else job.training)
        classes_of = f'classes of {shown.fingerprint}'
    for name, figure in by_class.items():
        found[named(name, job.features)] = figure._replace(reference=classes_of)
    if 'score' in job.metrics:  # which needs no labels
        found[named('score', job.features)] = classes.score(drawn.looked.logp)
    return {name: _told(job, figure) for name, figure in found.items()}


def _told(job, figure):
    """A figure with the digest of its features and, of restored samples, of what they were made from."""
    figure = figure._replace(features=job.features.digest)
    if not job.sampling.model.task or job.real:
        return figure
    return figure._replace(reference=f'{figure.reference} {digest(job.task)}'.strip())


def copies(job: Job, drawn: Drawn, usual: np.ndarray, *counts: int) -> Figure:
    """The share of samples that are nearer to a training image than held-out ones are.

    Args:
      usual: how far these are.
      counts: training and held-out images that were looked at.
    """
    reference = '; '.join(map(seen.digest_of, (job.training, job.held_out), counts))
    return _told(job, memorised.copies(drawn.distance, usual)._replace(reference=reference))


def beside_nearest(job: Job, drawn: Drawn, num: int) -> np.ndarray:
    """A picture of the samples nearest to one of `num` training images, to the right of this one."""
    _, near, samples = drawn.closest
    training = seen.images(job.training, seen.some(job.training, num)[near])
    return written.beside((training,), samples)


def bits(job: Job, kind: str) -> Figure:
    """Bits per dimension of held-out images, by the 'bound' or the 'flow'."""
    asked, source = job.sampling, job.held_out.source
    num = min(asked.config.sample.num, len(source))
    chosen = seen.some(job.held_out, num)
    measure = jax.jit(build.bits_per_dim(asked.model, job.held_out.levels, kind))
    params, size, put = sampling.spread(asked.params, min(asked.config.sample.batch_size, num))
    found = []
    bar = tqdm(range(0, num, size), desc=f'bits per dimension ({kind})', dynamic_ncols=True)
    for start in bar:
        i = np.minimum(np.arange(start, start + size), num - 1)
        elements = read(source, chosen[i].tolist())
        batch = stack(elements)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(asked.seed), i)
        labels = batch['label'] if asked.model.num_classes else None
        words = [texts(e)[0] for e in elements] if asked.model.text else []
        cond = asked_for.conditions(asked.model, labels, words, captions=True)
        of_batch = measure(params, *map(put, (keys, batch['image'], cond)))
        found.append(np.asarray(of_batch)[: num - start])
    figure = interval.of_mean(np.concatenate(found))
    as_seen = digest(kind, job.held_out.levels, asked.config.codec.dequantize)
    return figure._replace(reference=seen.digest_of(job.held_out, num), features=as_seen)
