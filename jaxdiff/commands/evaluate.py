"""`jaxdiff evaluate`: how good a run's samples are, in figures with their intervals.

Or, as a measure for these, how good real images are: `real` takes those of a split in their place.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from jaxdiff import build, data
from jaxdiff.commands import (
    asked_for,
    judges,
    like,
    measurable,
    run as runs,
    sample as sampling,
    seen,
    written,
)
from jaxdiff.commands.measurable import METRICS, OF_CLASSES, OF_DATA, OF_FEATURES, OF_PAIRS
from jaxdiff.commands.tables import aligned
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import read, stack, texts
from jaxdiff.evaluation import classes, frechet, interval, kernel, memorised, neighbours, rows
from jaxdiff.evaluation.features import Features, named
from jaxdiff.evaluation.figure import Figure
from jaxdiff.evaluation.images import psnr, ssim
from jaxdiff.viz import grid

METHOD = 5  # counts up where the same request has another figure: no figures before are reused
_BITS = 'bits_per_dim'
_SHOWN = 32  # samples in the picture, those nearest to a training image


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


class Drawn(NamedTuple):
    """What is known of samples once they are drawn."""

    samples: np.ndarray | None  # themselves, where each is compared with a whole image
    looked: seen.Seen | None  # what they are seen as
    distance: np.ndarray | None  # of each to the nearest training image, [n]
    closest: list[np.ndarray] | None  # of those nearest to one: distances, its rows, and samples


def prepare(
    workdir: str,
    overrides: list[tuple[str, str]],
    metrics: list[str] | None = None,
    features: str | None = None,
    split: str | None = None,
    held_out: str = 'test',
    most: int = 50_000,
    real: str | None = None,
    step: int | None = None,
    ema: bool = True,
    ema_width: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    reuse: bool = False,
) -> Job:
    """Reads a run and checks a request against it; writes nothing.

    Samples are drawn by the labels and captions of examples of the training set, drawn at random, and
    those of a task's model are made from held-out ones, see `like`.

    Args:
      metrics: some of `METRICS`; None are all that the features and the run allow, but for the
        likelihoods, which take long.
      features: what samples are seen by, see `judges.find`.
      split: of the run's data, that samples are measured against; None is the training set.
      held_out: the split that copies of training images are told by, and that likelihoods are of.
      most: images of a split that are looked at, drawn at random where it has more.
      real: a split of whose images as many as there would be samples are measured instead.
      reuse: take the figures that are there, where they were measured so before; those of another
        `METHOD`, commit, version or device are measured anew.

    Raises: ValueError, FileNotFoundError for what can't be measured, before anything is drawn.
    """
    if unknown := set(metrics or ()) - set(METRICS):
        raise ValueError(f'--metrics {" ".join(sorted(unknown))}: there are {", ".join(METRICS)}')
    sampling.check_seed(seed)
    trained = runs.find(workdir, overrides, step, ema, ema_width)
    c, prompts = trained.config.data, None

    def load(split):
        return data.load(c.name, c.path, c.dir, split, c.image_size)

    training, taken = load(c.split), load(real) if real else None
    reference, num = load(split) if split else training, trained.config.sample.num
    if taken and data.overlap(taken, reference):
        raise ValueError(
            f'--real {real} would be measured against images of its own: give another split'
        )
    test = load(held_out) if trained.model.task else None
    shown = taken or test  # images that there may be fewer of than samples are asked for
    if shown and len(shown.source) < num:
        num = len(shown.source)
        overrides = [*overrides, ('sample.num', str(num))]
    alike = like.find(trained, training, shown, real or held_out, num, seed, bool(taken))
    if any(key == 'sample.prompts' for key, _ in overrides):  # the run's own are for its pictures
        prompts = list(trained.config.sample.prompts)
    asked = {'prompts': prompts, 'images': alike.request, 'like': alike.examples}
    decided = overrides, step, ema, ema_width, seed
    job = sampling.prepare(workdir, *decided, **asked, overwrite=True)
    if taken and not taken.class_names:
        job = job._replace(labels=None)
    job.made.update(made_by='jaxdiff evaluate', generated=not taken, method=METHOD)
    job.made['evaluated'] = {
        'features': features,
        'metrics': metrics,
        'split': split,
        'held_out': held_out,
        'most': most,
        'real': real,
    }
    if trained.model.text and not (prompts or taken):
        job.made['prompts'] = f'captions of {c.name or c.path}, {held_out if test else c.split}'
    of = judges.find(features) if features else None
    chosen = tuple(metrics or measurable.some(job, of, training, bool(taken)))
    if taken and {*chosen} & {*OF_DATA, *OF_PAIRS}:
        raise ValueError(
            f'--real: {" ".join(chosen)} are not all of images that are seen by features'
        )
    if {*chosen} & {'copies', *OF_DATA}:
        test = test or load(held_out)
    if {*chosen} & {*OF_DATA} and len(test.source) < 2:
        raise ValueError(f'--held-out {held_out}: an interval needs two images or more')
    if 'copies' in chosen:
        given = training, test, most, taken, held_out
        chosen = measurable.without_copies(chosen, metrics, *given)
    sets = {'training': training, 'held_out': test, 'reference': reference, 'real': taken}
    job.made['against'] = {name: dataset and dataset.fingerprint for name, dataset in sets.items()}
    job.made['against']['classes'] = job.labels is not None
    measurable.check(job, chosen, of, min(most, len(reference.source)), training)
    name = f'real_{real}_num{num}' if taken else job.out.name.removeprefix('samples_')
    name += _suffix(of, metrics and chosen, split, held_out, most)
    out = epath.Path(workdir) / 'evaluations' / f'{name}.json'
    if out.exists() and not (overwrite or reuse):
        raise ValueError(f'{out} exists: give --overwrite, --reuse, or other settings')
    if reuse and out.exists():
        before = json.loads(out.read_text())
        reuse = before['made'].get('method') == METHOD
        if reuse and not _measured_so(before, job.made, of):
            raise ValueError(
                f'{out} is of another run, other features or settings: --overwrite measures anew'
            )
        if reuse and (others := _others(before['made'], job.made)):
            print(f'{out} was measured with {others}, and is measured anew', file=sys.stderr)
            reuse = False
    does = {k: v for k, v in trained.config.to_dict().items() if k in ('task', 'degradation')}
    task = json.dumps([_digest(alike.source, num), does], sort_keys=True)
    return Job(job, chosen, of, training, test, reference, taken, task, most, out, reuse)


def _suffix(of, metrics, split, held_out, most):
    """What a file's name says of a request, defaults left out."""
    name = f'_{of.name}' if of else ''
    name += '_' + '-'.join(metrics) if metrics else ''
    asked = {'split': (split, None), 'heldout': (held_out, 'test'), 'most': (most, 50_000)}
    return name + ''.join(
        f'_{k}{value}' for k, (value, default) in asked.items() if value != default
    )


def run(job: Job) -> Iterator[str]:
    """Draws, looks, measures; yields the table and the paths of what it wrote."""
    if job.reuse and job.out.exists():
        record = json.loads(job.out.read_text())
        yield table({name: Figure(**figure) for name, figure in record['figures'].items()})
        yield str(job.out)
        return
    took, found = {'sampling': 0.0, 'features': 0.0, 'metrics': 0.0}, {}
    began, near, shown = time.monotonic(), None, None
    if {*job.metrics} & {*OF_FEATURES, *OF_CLASSES}:
        reference = _timed(took, 'features', seen.of_data, job.features, job.reference, job.most)
    if 'copies' in job.metrics:
        training, held_out = (
            _timed(took, 'features', seen.of_data, job.features, dataset, job.most)
            for dataset in (job.training, job.held_out)
        )
        usual = _timed(took, 'metrics', _usual, job, training, held_out)
        near = None if usual is None else neighbours.nearest(training)
    if {*job.metrics} - {*OF_DATA}:
        drawn = _drawn(job, took, near)
    if {*job.metrics} & {*OF_PAIRS}:
        found |= _timed(took, 'metrics', _of_pairs, job, drawn.samples)
    if {*job.metrics} & {*OF_FEATURES, *OF_CLASSES}:
        found |= _timed(took, 'metrics', _of_features, job, drawn.looked, reference)
        if near:
            found['copies'], shown = _copies(job, drawn, usual, len(training), len(held_out))
        found = {name: _restored(job, figure) for name, figure in found.items()}
    for kind in OF_DATA:
        if kind in job.metrics:
            found[f'{_BITS}_{kind}'] = _timed(took, 'metrics', _bits, job, kind)
    job.out.parent.mkdir(exist_ok=True)
    made = job.sampling.made
    step = made['step']
    figures = {name: figure._asdict() for name, figure in found.items()}
    took['total'] = time.monotonic() - began
    took = {name: round(seconds, 1) for name, seconds in took.items()}
    record = {'step': step, 'figures': figures, 'seconds': took, 'made': made}
    new = job.out.with_suffix('.new')
    new.write_text(json.dumps(record, indent=1))
    new.replace(job.out)
    yield table(found)
    yield str(job.out)
    if shown is not None:
        picture = job.out.with_suffix('.png')
        grid.save_png(picture, shown, made)
        yield str(picture)


def _measured_so(before, made, of):
    """Whether the figures in a record are those that would be measured now."""
    figures = before['figures'].items()
    features = {f['features'] for name, f in figures if not name.startswith(_BITS)} - {''}
    now = json.loads(json.dumps(made))
    decide = ['evaluated', 'against']
    if not now['evaluated']['real']:
        decide += ['sample', 'run', 'seed', 'guides']
    alike = all(before['made'].get(key) == now[key] for key in decide)
    return alike and features <= ({of.digest} if of else set())


def _others(before, now):
    """The versions, devices and commit of a record, as far as they are not those of now.

    Of changes that aren't committed, '+', it is not known which they were.
    """
    then, this = (m['versions'] | {k: m[k] for k in ('devices', 'commit')} for m in (before, now))
    return ', '.join(
        f'{key} {then.get(key)}'
        for key in {**then, **this}
        if then.get(key) != this.get(key) or str(then.get(key)).endswith('+')
    )


def table(figures: dict[str, Figure]) -> str:
    """Names, values and intervals, one a line."""
    rows = [
        {
            'metric': name,
            'value': f'{f.value:.4g}',
            '95 % interval': f'[{f.low:.4g}, {f.high:.4g}]',
            'count': f'{f.count:,}',
        }
        for name, f in figures.items()
    ]
    return aligned(rows, right={'value', 'count'})


def _timed(took, name, f, *given):
    began = time.monotonic()
    result = f(*given)
    took[name] += time.monotonic() - began
    return result


def _usual(job, training, held_out):
    """How far held-out images are; None where they tell no copies, and these were not asked for by name."""
    asked = job.sampling.made['evaluated']
    try:
        return memorised.usual(training, held_out)
    except ValueError as error:
        why = f'--held-out {asked["held_out"]}: {error}'
        if asked['metrics']:
            raise OSError(why) from error
        print(f'warning: without copies, {why}', file=sys.stderr)


def _drawn(job, took, near):
    """Draws the samples, of which what isn't needed any more is let go.

    Args:
      near: features [n, d] -> the nearest training image of each, where that is asked for.
    """
    num, most = job.sampling.config.sample.num, _most(job)
    look = job.features and seen.looker(job.features, most)
    pairs = {*job.metrics} & {*OF_PAIRS}
    samples, looked, held, distances, closest = [], [], [], [], None
    parts, drawing = _parts(job, num), 'features' if job.real else 'sampling'
    with tqdm(total=num, unit='sample', dynamic_ncols=True) as bar:
        while (part := _timed(took, drawing, next, parts, None)) is not None:
            if pairs:
                samples.append(part)
            if look:
                looked.append(_timed(took, 'features', look, part))
            if near:
                held.append(part)
                full = (len(held) + 1) * most > rows.BLOCK  # all at once take less time
                if full or bar.n + len(part) == num:
                    x = seen.together(looked[-len(held) :]).features
                    row, distance = _timed(took, 'metrics', near, x)
                    distances.append(distance)
                    closest = _closest(closest, [distance, row, np.concatenate(held)])
                    held = []
            bar.update(len(part))
    whole = lambda parts: np.concatenate(parts) if parts else None
    looked = seen.together(looked) if looked else None
    return Drawn(whole(samples), looked, whole(distances), closest)


def _most(job):
    """Samples that come at once."""
    return seen.BATCH if job.real else job.sampling.config.sample.batch_size


def _parts(job, num):
    """The samples, or real images in their place, some at a time."""
    if job.real:
        rows, most = seen.some(job.real, num), _most(job)
        yield from (seen.images(job.real, rows[i : i + most]) for i in range(0, num, most))
        return
    asked = job.sampling
    draw = sampling.sampler(asked.config, asked.model, **asked.guides.models())
    drawn_by = draw, asked.model, asked.params, asked.cond, asked.seed
    yield from sampling.draw_all(*drawn_by, num, _most(job), asked.away, asked.given)


def _closest(known, more):
    """Of [distances, rows, samples] those of the least distances, the least first."""
    both = [np.concatenate(parts) for parts in zip(known, more)] if known else more
    order = np.argsort(both[0], kind='stable')[:_SHOWN]
    return [x[order] for x in both]


def _of_pairs(job, samples):
    """How near restored images come to the whole ones."""
    measures = {'psnr': psnr, 'ssim': ssim}
    pairs = np.stack([job.sampling.start.whole, samples], 1)
    found = {
        name: interval.of_mean(rows.of(_of_pair(measures[name]), block=seen.BATCH)(pairs))
        for name in OF_PAIRS
        if name in job.metrics
    }
    return {name: figure._replace(reference=digest(job.task)) for name, figure in found.items()}


def _of_pair(measure):
    return lambda pairs: measure(pairs[:, 0], pairs[:, 1])


def _of_features(job, looked, reference):
    x, found = looked.features, {}
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
                told = _digest(job.reference, len(used))
                found[named(name, job.features)] = figure._replace(reference=told)
    by_class = {}
    if 'diversity' in job.metrics:
        kinds = np.zeros(len(x), int) if labels is None else labels
        by_class['diversity'] = classes.diversity(x, kinds)
    if 'agreement' in job.metrics:
        by_class['agreement'] = classes.agreement(looked.logp, labels)
    classes_of = 'no classes'
    if labels is not None:
        shown = job.real or (job.held_out if job.sampling.model.task else job.training)
        classes_of = f'classes of {shown.fingerprint}'
    for name, figure in by_class.items():
        found[named(name, job.features)] = figure._replace(reference=classes_of)
    if 'score' in job.metrics:  # which needs no labels
        found[named('score', job.features)] = classes.score(looked.logp)
    return {name: figure._replace(features=job.features.digest) for name, figure in found.items()}


def _restored(job, figure):
    """A figure of samples that were made from other images, if they were, with what these are."""
    if not job.sampling.model.task or job.real or not figure.features:
        return figure
    return figure._replace(reference=f'{figure.reference} {digest(job.task)}'.strip())


def _digest(dataset, num):
    """Of `seen.some` of a data set."""
    return f'{dataset.fingerprint}, {num} of {len(dataset.source)}'


def _copies(job, drawn, usual, *counts):
    """The figure, and the samples that come nearest to a training image to the right of it."""
    _, near, samples = drawn.closest
    beside = seen.images(job.training, seen.some(job.training, counts[0])[near])
    reference = '; '.join(map(_digest, (job.training, job.held_out), counts))
    figure = memorised.copies(drawn.distance, usual)
    figure = figure._replace(reference=reference, features=job.features.digest)
    return figure, written.beside((beside,), samples)


def _bits(job, kind):
    """Bits per dimension of held-out images."""
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
        bits = measure(params, *map(put, (keys, batch['image'], cond)))
        found.append(np.asarray(bits)[: num - start])
    figure = interval.of_mean(np.concatenate(found))
    as_seen = digest(kind, job.held_out.levels, asked.config.codec.dequantize)
    return figure._replace(reference=_digest(job.held_out, num), features=as_seen)
