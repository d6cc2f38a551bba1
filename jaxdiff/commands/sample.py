"""`jaxdiff sample`: from a run's checkpoint to pictures."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxdiff import build, distributed
from jaxdiff.commands import (
    asked_for,
    guides,
    images as image_inputs,
    run as runs,
    written,
)
from jaxdiff.commands.folder import check_writable
from jaxdiff.data.source import texts as captions_of
from jaxdiff.training import parallel
from jaxdiff.viz import film as films, grid

# What the name of a file of samples holds in any case, and what doesn't change them.
_NAMED = ('sampler', 'steps', 'eta', 'guidance', 'num', 'batch_size', 'weights')
_NAMED += ('weaker', 'weaker_step', 'classifier', 'classifier_step')  # by `guides.named`


class Job(NamedTuple):
    """A checked request for samples."""

    config: ConfigDict
    model: build.Model
    params: Any
    cond: dict[str, np.ndarray]  # what each sample is conditioned on, [num, …]
    away: dict[str, np.ndarray] | None  # what guidance leads each away from; None is nothing
    labels: np.ndarray | None  # of each sample, [num]
    prompts: list[str]  # of each sample; [] without
    start: image_inputs.Start | None  # the images that each is made from
    given: dict[str, np.ndarray] | None  # what each is given besides, see `build.sampling`
    guides: guides.Guides
    seed: int
    out: epath.Path
    film: bool
    made: dict  # what is written into the pictures


def prepare(
    workdir: str,
    overrides: list[tuple[str, str]],
    step: int | None = None,
    ema: bool = True,
    ema_width: float | None = None,
    seed: int = 0,
    labels: list[str] | None = None,
    prompts: list[str] | None = None,
    negative: str | None = None,
    images: image_inputs.Request = image_inputs.Request(),
    like: list[dict] = (),
    source_label: str | None = None,
    source_prompt: str | None = None,
    words: bool = True,
    out: str | None = None,
    film: bool = False,
    overwrite: bool = False,
) -> Job:
    """Reads a run and checks a request against it; writes nothing.

    Args:
      workdir: a training run's folder.
      overrides: of the config's `sample.` keys, such as ('sample.steps', '20').
      step: which checkpoint; None is the newest.
      ema: the averaged parameters rather than the last ones.
      ema_width: of an average made of the run's profiles instead, see `posthoc`.
      labels: classes to draw, by number or name, taken in turn; None takes all classes in turn.
      prompts: texts to draw, taken in turn; None takes those of the config's `sample.prompts`.
      negative: a text that guidance leads away from.
      images: that samples are made from, taken in turn; there are as many samples where
        `overrides` don't say, and no classes where `labels` don't.
      like: examples of the data, one for each sample, by whose labels they are drawn, and by whose
        captions where there are no `prompts`.
      source_label, source_prompt: what these are of, where the method walks back to their noise.
      words: whether prompts are kept in what is written.
      out: write `out`.png and `out`.npz; None is a name in the run's folder made of the settings.

    Raises:
      ValueError: no run, no such checkpoint or label, impossible settings, or files that are there.
    """
    check_seed(seed)
    trained = runs.find(workdir, overrides, step, ema, ema_width)
    names = trained.made['data']['class_names']
    c = trained.config.sample
    leads = guides.find(trained)
    classes = trained.model.num_classes
    if leads.classifier:
        classes = classes or leads.classifier.model.net.num_classes
    given = image_inputs.given(images, trained)
    if given and not any(key == 'sample.num' for key, _ in overrides):
        c.num = 9 if c.method == 'interpolate' else len(given.images)
    chosen = asked_for.choose_labels(labels, names, classes, c.num)
    if classes and like and 'label' in like[0]:
        chosen = np.array([example['label'] for example in like], np.int32)
    elif given and not (labels or leads.classifier):
        chosen = asked_for.no_labels(trained.model, trained.config, c.num)
    told = chosen if trained.model.num_classes else None
    if prompts and not any(prompts):
        raise ValueError(
            '--prompt is empty: write something, or leave it out to draw without a text'
        )
    if c.weights:
        texts, cond = asked_for.together(trained, prompts or list(c.prompts), told)
    else:
        asked, captions = prompts or ([] if like else list(c.prompts)), False
        if trained.model.text and like and 'text' in like[0] and not any(asked):
            asked, captions = [captions_of(example)[0] for example in like], True
        texts = asked_for.choose_prompts(asked, trained.model, c.num)
        cond = asked_for.conditions(trained.model, told, texts, captions)
    away = asked_for.away_from(trained, cond, negative)
    start = None
    if given:
        start = image_inputs.start(given, trained.config, trained.model, c.num, seed)
        shown = start.cond
        if c.weights:
            shown = {name: np.stack([x] * len(c.weights), 1) for name, x in shown.items()}
        cond |= shown
        away = away and away | start.cond
    start = asked_for.with_source(start, trained, source_label, source_prompt)
    others = dict(start.given or {}) if start else {}
    others |= {'class': chosen} if leads.classifier else {}
    made = runs.origin(trained) | {'made_by': 'jaxdiff sample', 'seed': seed, 'labels': labels}
    made |= {'generated': True, 'film': film, 'prompts': prompts, 'negative': negative}
    made |= {'guides': guides.made(leads)}
    if given:
        made |= {'images': given.made, 'source': [source_label, source_prompt]}
    if not words:
        made, texts = written.without_words(made), []
    name = f'samples_step{trained.step}_{c.sampler}{c.steps}_eta{c.eta:g}_guidance{c.guidance:g}'
    name += f'_{trained.which}_seed{seed}_num{c.num}'
    for key, (_, value) in trained.changed.items():
        short = key.removeprefix('sample.')
        if key.startswith('sample.') and short not in _NAMED:
            long = isinstance(value, tuple) and any(isinstance(x, str) for x in value)
            name += f'_{short}{_short(value) if long else value}'
    name += guides.named(leads)
    if c.weights:
        name += '_weights' + '_'.join(f'{weight:g}' for weight in c.weights)
    if labels:
        name += '_label' + '-'.join(map(str, chosen[: len(labels)]))
    if given:
        name += f'_images{_short((given.made, source_label, source_prompt))}'
    if prompts or negative:
        name += f'_prompt{_short((prompts, negative)) if words else ""}'
    out = epath.Path(out) if out else trained.folder / name
    check_writable(out.parent)
    for path in written.outputs(out, film):
        if path.exists() and not overwrite:
            raise ValueError(f'{path} exists: give another --out, or --overwrite')
    params = guides.with_guides(runs.parameters(trained), leads)
    asked = cond, away, chosen, texts, start, others or None, leads
    return Job(trained.config, trained.model, params, *asked, seed, out, film, made)


def run(job: Job) -> list[epath.Path]:
    """Draws and writes the samples; returns the files, the picture first."""
    c = job.config.sample
    job.out.parent.mkdir(parents=True, exist_ok=True)
    draw = sampler(job.config, job.model, **job.guides.models())
    others = job.away, job.given
    asked = job.cond, job.seed, c.num, c.batch_size, *others
    batches = draw_all(draw, job.model, job.params, *asked)
    bar = tqdm(total=c.num, unit='sample', dynamic_ncols=True, disable=not distributed.primary())
    samples, finite = [], []
    with bar:
        for images, of_each in batches:
            samples.append(images)
            finite.append(of_each)
            bar.update(len(images))
    samples, made = np.concatenate(samples), job.made | not_finite(np.concatenate(finite))
    if distributed.primary():
        near = written.nearness(job.start, samples)
        written.write(job.out, samples, job.labels, job.prompts, made | near, job.start)
        if near:
            print(written.told(near), file=sys.stderr)
    if job.film:
        rows = min(c.num, 16)
        draw = sampler(job.config, job.model, film=True, **job.guides.models())
        asked = job.cond, job.seed, rows, rows, *others
        ((frames, _),) = draw_all(draw, job.model, job.params, *asked)
        if distributed.primary():
            branch = reverse_branch(job.config, job.model, job.params, frames)
            grid.save_png(written.film_path(job.out, '.png'), films.figure([branch]), made)
            films.animation(written.film_path(job.out, '.gif'), [branch], made)
    return written.outputs(job.out, job.film)


def check_seed(seed: int) -> None:
    """Raises a ValueError where it is none of JAX's."""
    if not 0 <= seed < 2**32:
        raise ValueError(f'--seed must lie between 0 and 2**32 - 1, got {seed}')


def sampler(config: ConfigDict, model: build.Model, film: bool = False, **guides: build.Model):
    """The compiled sampling run: (params, cond, keys, away, given) -> images, finite; see `build.sampling`."""
    return jax.jit(build.sampling(config, model, film, **guides, checked=True))


def spread(params: Any, batch: int) -> tuple[Any, int, Callable[[Any], Any]]:
    """Parameters on all devices, a batch rounded up to a multiple of them, and what lays its arrays there.

    A batch of fewer than the devices of one process takes as many of them. Parameters that are sharded
    stay so.
    """
    grid = jax.tree.leaves(params)[0].sharding.mesh
    if grid.axis_names == parallel.EACH_PROCESS:
        devices = jax.devices() if jax.process_count() > 1 else jax.devices()[:batch]
        params = parallel.everywhere(params, devices)
        grid = jax.tree.leaves(params)[0].sharding.mesh
    rows = NamedSharding(grid, PartitionSpec(grid.axis_names))

    def put(tree):
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, rows, lambda rows: x[rows]), tree
        )

    return params, -(-batch // grid.size) * grid.size, put


def draw_all(
    draw,
    model: build.Model,
    params: Any,
    cond: dict[str, np.ndarray],
    seed: int,
    num: int,
    batch: int,
    away: dict[str, np.ndarray] | None = None,
    given: dict[str, np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields samples 0 … num − 1 in batches: images uint8 [b <= batch, h, w, c], and whether each is finite, [b].

    Sample i is made from (seed, i) and row i of its conditions alone. The last batch is filled up, so that there
    is one shape and one compilation, and up to a multiple of the devices that share it: all those
    of all processes. Parameters that are sharded over them stay so.
    """
    batch = min(batch, num)
    params, batch, put = spread(build.with_codec(model, params), batch)
    key = jax.random.key(seed)
    for start in range(0, num, batch):
        index = np.minimum(np.arange(start, start + batch), num - 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(index))
        now, *others = put(jax.tree.map(lambda x: x[index], (cond, away, given)))
        while others and others[-1] is None:
            others.pop()
        asked = (params, now, put(keys), *others)
        if not start:
            drawn_by = distributed.compile_together(draw, *asked)
        drawn = multihost_utils.process_allgather(drawn_by(*asked), tiled=True)
        images, finite = map(np.asarray, drawn)
        example_axis = images.ndim - len(model.shape) - 1  # a film's first axis is the step
        here = range(min(batch, num - start))
        yield images.take(here, axis=example_axis), finite[here]


def not_finite(finite: np.ndarray) -> dict[str, str]:
    """{'not_finite': how many samples aren't, and which}, with a warning; {} where all are.

    Args:
      finite: whether each is, [num], of `draw_all`.
    """
    if finite.all():
        return {}
    lost = np.flatnonzero(~finite)
    words = ', '.join(map(str, lost[:8])) + ', …' * (len(lost) > 8)
    words = f'{len(lost)} of {len(finite)}: {words}'
    if distributed.primary():
        warn_of(words)
    return {'not_finite': words}


def warn_of(lost: str) -> None:
    """Of samples that are not finite, in the words of `not_finite`."""
    print(f'warning: samples are not finite, but black or white, {lost}', file=sys.stderr)


def _short(words):
    """What stands for words in a file's name."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:8]


def reverse_branch(
    config: ConfigDict, model: build.Model, params: Any, frames: np.ndarray
) -> films.Branch:
    """The frames of a sampling run as the reverse branch of a film."""
    times = build.visited(config, model, params)
    return films.Branch('reverse: from noise to a sample', frames, times)
