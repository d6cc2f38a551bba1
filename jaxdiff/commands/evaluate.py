"""`jaxdiff evaluate`: how good a run's samples are, in figures with their intervals.

Or, as a measure for these, how good real images are: `real` takes those of a split in their place.
"""

import json
import sys
import time
from collections.abc import Iterator

from etils import epath

from jaxdiff import data
from jaxdiff.commands import (
    drawn,
    figures,
    judges,
    like,
    measurable,
    run as runs,
    sample as sampling,
    seen,
)
from jaxdiff.commands.drawn import timed
from jaxdiff.commands.figures import Job
from jaxdiff.commands.measurable import METRICS, OF_CLASSES, OF_DATA, OF_FEATURES, OF_PAIRS
from jaxdiff.commands.tables import aligned
from jaxdiff.evaluation import neighbours
from jaxdiff.evaluation.figure import Figure
from jaxdiff.viz import grid

METHOD = 5  # counts up where the same request has another figure: no figures before are reused


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
    task = json.dumps([seen.digest_of(alike.source, num), does], sort_keys=True)
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
        if lost := record['made'].get('not_finite'):
            sampling.warn_of(lost)
        yield table({name: Figure(**figure) for name, figure in record['figures'].items()})
        yield str(job.out)
        return
    took, found = {'sampling': 0.0, 'features': 0.0, 'metrics': 0.0}, {}
    began, near, shown, made = time.monotonic(), None, None, job.sampling.made
    seen_by = bool({*job.metrics} & {*OF_FEATURES, *OF_CLASSES})
    if seen_by:
        reference = timed(took, 'features', seen.of_data, job.features, job.reference, job.most)
    if 'copies' in job.metrics:
        training, held_out = (
            timed(took, 'features', seen.of_data, job.features, dataset, job.most)
            for dataset in (job.training, job.held_out)
        )
        usual = timed(took, 'metrics', figures.usual, job, training, held_out)
        near = None if usual is None else neighbours.nearest(training)
    pairs = bool({*job.metrics} & {*OF_PAIRS})
    if seen_by or pairs:
        by = job.features if seen_by else None
        samples = drawn.draw(job.sampling, job.real, by, near, pairs, took)
        made = made | samples.lost
    if pairs:
        found |= timed(took, 'metrics', figures.of_pairs, job, samples)
    if seen_by:
        found |= timed(took, 'metrics', figures.of_features, job, samples, reference)
    if near:
        found['copies'] = figures.copies(job, samples, usual, len(training), len(held_out))
        shown = figures.beside_nearest(job, samples, len(training))
    for kind in OF_DATA:
        if kind in job.metrics:
            found[f'{figures.BITS}_{kind}'] = timed(took, 'metrics', figures.bits, job, kind)
    job.out.parent.mkdir(exist_ok=True)
    step = made['step']
    values = {name: figure._asdict() for name, figure in found.items()}
    took['total'] = time.monotonic() - began
    took = {name: round(seconds, 1) for name, seconds in took.items()}
    record = {'step': step, 'figures': values, 'seconds': took, 'made': made}
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
    known = before['figures'].items()
    features = {f['features'] for name, f in known if not name.startswith(figures.BITS)} - {''}
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
