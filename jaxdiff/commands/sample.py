"""`jaxdiff sample`: from a run's checkpoint to pictures."""

import hashlib
import json
import sys
from collections.abc import Iterator
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
from jaxdiff.commands import guides, images as image_inputs, run as runs
from jaxdiff.commands.folder import check_writable
from jaxdiff.evaluation.images import WINDOW, psnr, ssim
from jaxdiff.training import parallel
from jaxdiff.viz import film as films, grid

# What the name of a file of samples holds in any case, and what doesn't change them.
_NAMED = ('sampler', 'steps', 'eta', 'guidance', 'num', 'batch_size')
_FOLDERS = ('weaker', 'classifier')
_ROWS = 64  # of a picture whose samples stand beside what they are made from


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
      source_label, source_prompt: what these are of, where the method walks back to their noise.
      words: whether prompts are kept in what is written.
      out: write `out`.png and `out`.npz; None is a name in the run's folder made of the settings.

    Raises:
      ValueError: no run, no such checkpoint or label, impossible settings, or files that are there.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f'--seed must lie between 0 and 2**32 - 1, got {seed}')
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
    chosen = choose_labels(labels, names, classes, c.num)
    if given and not (labels or leads.classifier):
        chosen = _no_labels(trained.model, trained.config, c.num)
    if c.weights:
        texts, cond = _together(trained, prompts or list(c.prompts), chosen)
    else:
        texts = choose_prompts(prompts or list(c.prompts), trained.model, c.num)
        cond = conditions(trained.model, chosen if trained.model.num_classes else None, texts)
    away = _away(trained, cond, negative)
    start = None
    if given:
        start = image_inputs.start(given, trained.config, trained.model, c.num, seed)
        shown = start.cond
        if c.weights:
            shown = {name: np.stack([x] * len(c.weights), 1) for name, x in shown.items()}
        cond |= shown
        away = away and away | start.cond
    start = _with_source(start, trained, source_label, source_prompt)
    others = dict(start.given or {}) if start else {}
    others |= {'class': chosen} if leads.classifier else {}
    made = runs.origin(trained) | {'made_by': 'jaxdiff sample', 'seed': seed, 'labels': labels}
    made |= {'generated': True, 'film': film, 'prompts': prompts, 'negative': negative}
    made |= {'guides': guides.made(leads)}
    if given:
        made |= {'images': given.made, 'source': [source_label, source_prompt]}
    if not words:
        made, texts = _without_words(made), []
    name = f'samples_step{trained.step}_{c.sampler}{c.steps}_eta{c.eta:g}_guidance{c.guidance:g}'
    name += f'_{trained.which}_seed{seed}_num{c.num}'
    for key, (_, value) in trained.changed.items():
        short = key.removeprefix('sample.')
        if key.startswith('sample.') and short not in _NAMED:
            texts_in = isinstance(value, tuple) and any(isinstance(x, str) for x in value)
            name += f'_{short}{_short(value) if texts_in or short in _FOLDERS else value}'
    if labels:
        name += '_label' + '-'.join(map(str, chosen[: len(labels)]))
    if given:
        name += f'_images{_short((given.made, source_label, source_prompt))}'
    if prompts or negative:
        name += f'_prompt{_short((prompts, negative)) if words else ""}'
    out = epath.Path(out) if out else trained.folder / name
    check_writable(out.parent)
    for path in _outputs(out, film):
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
    samples = []
    with bar:
        for images in batches:
            samples.append(images)
            bar.update(len(images))
    samples = np.concatenate(samples)
    if distributed.primary():
        near = _nearness(job.start, samples)
        write(job.out, samples, job.labels, job.prompts, job.made | near, job.start)
        if near:
            print(_told(near), file=sys.stderr)
    if job.film:
        rows = min(c.num, 16)
        draw = sampler(job.config, job.model, film=True, **job.guides.models())
        asked = job.cond, job.seed, rows, rows, *others
        (frames,) = draw_all(draw, job.model, job.params, *asked)
        if distributed.primary():
            branch = reverse_branch(job.config, job.model, job.params, frames)
            grid.save_png(_film(job.out, '.png'), films.figure([branch]), job.made)
            films.animation(_film(job.out, '.gif'), [branch], job.made)
    return _outputs(job.out, job.film)


def sampler(config: ConfigDict, model: build.Model, film: bool = False, **guides: build.Model):
    """The compiled sampling run: (params, cond, keys, away, given) -> images; see `build.sampling`."""
    return jax.jit(build.sampling(config, model, film, **guides))


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
) -> Iterator[np.ndarray]:
    """Yields samples 0 … num − 1 in batches, images uint8 [<= batch, h, w, c].

    Sample i is made from (seed, i) and row i of its conditions alone. The last batch is filled up, so that there
    is one shape and one compilation, and up to a multiple of the devices that share it: all those
    of all processes. Parameters that are sharded over them stay so.
    """
    batch = min(batch, num)
    params = build.with_codec(model, params)
    grid = jax.tree.leaves(params)[0].sharding.mesh
    if grid.axis_names == parallel.EACH_PROCESS:
        devices = jax.devices() if jax.process_count() > 1 else jax.devices()[:batch]
        params = parallel.everywhere(params, devices)
        grid = jax.tree.leaves(params)[0].sharding.mesh
    batch = -(-batch // grid.size) * grid.size
    rows = NamedSharding(grid, PartitionSpec(grid.axis_names))
    key = jax.random.key(seed)

    def put(x):
        return jax.make_array_from_callback(x.shape, rows, lambda rows: x[rows])

    for start in range(0, num, batch):
        index = np.minimum(np.arange(start, start + batch), num - 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(index))
        now, *others = jax.tree.map(lambda x: put(x[index]), (cond, away, given))
        asked = (params, now, put(keys), *others)
        if not start:
            distributed.compile_together(draw, *asked)
        drawn = draw(*asked)
        images = np.asarray(multihost_utils.process_allgather(drawn, tiled=True))
        example_axis = images.ndim - len(model.shape) - 1  # a film's first axis is the step
        yield images.take(range(min(batch, num - start)), axis=example_axis)


def choose_labels(
    labels: list[str] | None, names: list[str], num_classes: int, num: int
) -> np.ndarray | None:
    """The label of each of `num` samples, [num]: the given ones in turn, or all; None without classes.

    Raises: ValueError where a label is neither a class's number nor its name.
    """
    if not num_classes:
        if labels:
            raise ValueError('--label: this model is unconditional')
        return None
    chosen = range(num_classes)
    if labels:
        chosen = [names.index(x) if x in names else _number(x, names, num_classes) for x in labels]
    return np.resize(np.asarray(chosen, np.int32), num)


def choose_prompts(prompts: list[str], model: build.Model, num: int) -> list[str]:
    """The prompt of each of `num` samples, the given ones in turn; '' for all where none is given.

    Raises: ValueError where the model knows no text.
    """
    if not model.text:
        if any(prompts):
            raise ValueError('--prompt: this model knows no text')
        return []
    return [(prompts or [''])[i % max(1, len(prompts))] for i in range(num)]


def conditions(
    model: build.Model, labels: np.ndarray | None, prompts: list[str], captions: bool = False
) -> dict[str, np.ndarray]:
    """The conditions of labels and prompts, one of each a sample.

    Args:
      captions: whether the prompts are captions of data, which may be too long or empty.

    Raises: ValueError where a prompt is too long, or some are empty.
    """
    cond = {} if labels is None else {'label': labels}
    if prompts:
        unique = list(dict.fromkeys(prompts))
        rows = [unique.index(prompt) for prompt in prompts]
        found = build.of_texts(model, unique, captions or unique == [''], captions)
        cond |= {name: np.asarray(x)[rows] for name, x in found.items()}
    return cond


def _short(words):
    """What stands for words in a file's name."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:8]


def _together(trained, prompts, labels):
    """The prompts that are drawn at once as one of each sample, and their conditions [num, k, ...]."""
    c, model = trained.config.sample, trained.model
    if len(prompts) != len(c.weights) or not all(prompts):
        raise ValueError(
            f'sample.weights={c.weights} are one for each of as many prompts, got {len(prompts)}'
        )
    each = [conditions(model, labels, [prompt] * c.num) for prompt in prompts]
    cond = jax.tree.map(lambda *x: np.stack(x, 1), *each)
    named = ' + '.join(f'{w:g} {prompt}' for w, prompt in zip(c.weights, prompts))
    return [named] * c.num, cond


def _away(trained, cond, negative):
    """The conditions that a negative prompt stands for; labels stay hidden."""
    if negative is None:
        return None
    if not trained.model.text:
        raise ValueError('--negative: this model knows no text')
    if trained.config.sample.weaker:
        raise ValueError('--negative and sample.weaker are both what guidance leads away from')
    if trained.config.sample.guidance == 1:
        raise ValueError('--negative works by guidance: give --guidance other than 1')
    num = trained.config.sample.num
    away = {
        name: np.repeat(x, num, 0) for name, x in build.of_texts(trained.model, [negative]).items()
    }
    if 'label' in cond:
        away['label'] = np.full(num, trained.model.num_classes, np.int32)
    return away


def _no_labels(model, config, num):
    """The null label for each of `num` samples; None without classes."""
    if not model.num_classes:
        return None
    if not build.guided(config):
        raise ValueError('this model was trained without the null label: give --label')
    return np.full(num, model.num_classes, np.int32)


def _with_source(start, trained, label, prompt):
    """`start` with the condition that its images are of."""
    if label is None and prompt is None:
        return start
    config, model = trained.config, trained.model
    if start is None or config.sample.method not in ('invert', 'interpolate'):
        raise ValueError(
            '--source-label and --source-prompt go with --method invert or interpolate'
        )
    num = config.sample.num
    labels = _no_labels(model, config, num)
    if label is not None:
        labels = choose_labels([label], trained.made['data']['class_names'], model.num_classes, num)
    source = conditions(model, labels, choose_prompts([prompt or ''], model, num))
    return start._replace(given=start.given | {'source': source})


def _without_words(made):
    """What is written without any prompt, but for which there were."""
    source = made.get('source') or [None, None]
    words = (
        ('prompt', made['prompts']),
        ('negative', made['negative']),
        ('source-prompt', source[1]),
    )
    left_out = [name for name, there in words if there]
    made = _without_prompts(made)
    made |= {'prompts': None, 'negative': None, 'words_left_out': left_out or ['prompt']}
    return made | ({'source': [source[0], None]} if 'source' in made else {})


def _without_prompts(made):
    """Without those in the sections `sample` of the run, and of its guides' runs."""
    if not isinstance(made, dict):
        return made
    found = {key: _without_prompts(value) for key, value in made.items()}
    if isinstance(found.get('sample'), dict):
        found['sample']['prompts'] = ['']
    return found


def _nearness(start, samples):
    """How near the samples, and what they are made from, come to the whole images; {} unknown."""
    if start is None or start.whole is None:
        return {}
    found = {}
    for name, images in (('samples', samples), ('given', start.shown[-1])):
        found[name] = {'psnr': float(np.mean(psnr(start.whole, images)))}
        if min(images.shape[1:3]) >= WINDOW:
            found[name]['ssim'] = float(np.mean(ssim(start.whole, images)))
    return {'nearness': found}


def _told(near):
    def of(name):
        return ', '.join(f'{k.upper()} {v:.4g}' for k, v in near['nearness'][name].items())

    return f'to the whole images: samples {of("samples")}; what was given {of("given")}'


def _number(text, names, num_classes):
    if text.isdecimal() and int(text) < num_classes:
        return int(text)
    shown = ', '.join(f'{i} {name}' for i, name in enumerate(names))
    raise ValueError(f'the data has no label {text!r}; it has {shown}')


def write(
    out: epath.Path,
    samples: np.ndarray,
    labels: np.ndarray | None,
    prompts: list[str],
    made: dict,
    start: image_inputs.Start | None = None,
) -> None:
    """Writes `out`.npz (samples, and labels and prompts if any) and `out`.png, their grid.

    With `start` the last of the images that they are made from, whole or degraded, are `given` in
    the npz, and the picture has each sample to the right of them.
    """
    arrays = {'samples': samples} if labels is None else {'samples': samples, 'labels': labels}
    arrays['made'] = np.array(json.dumps(made))
    if prompts:
        arrays['prompts'] = np.array(prompts)
    shown = start.shown if start else ()
    if shown:
        arrays['given'] = shown[-1]
    with _with(out, '.npz').open('wb') as file:
        np.savez_compressed(file, **arrays)
    drawn = beside(shown, samples) if shown else picture(samples, labels, prompts)
    grid.save_png(_with(out, '.png'), drawn, made)


def picture(samples: np.ndarray, labels: np.ndarray | None, prompts: list[str] = ()) -> np.ndarray:
    """The grid of (at most 1,024) samples; labels, or prompts, that come in turn stand in columns."""
    kinds = len(set(prompts)) if prompts else 0 if labels is None else len(set(labels.tolist()))
    columns = kinds if 4 <= kinds <= 20 and len(samples) >= kinds else None
    return grid.tile(samples[:1024], columns)


def beside(shown: tuple[np.ndarray, ...], samples: np.ndarray) -> np.ndarray:
    """The grid of (at most 64) samples, each to the right of what it is made from."""
    together = np.stack([*shown, samples], 1)[:_ROWS]
    across = max(1, round(len(together) ** 0.5 / together.shape[1] ** 0.5))
    return grid.tile(together.reshape(-1, *samples.shape[1:]), across * together.shape[1])


def reverse_branch(
    config: ConfigDict, model: build.Model, params: Any, frames: np.ndarray
) -> films.Branch:
    """The frames of a sampling run as the reverse branch of a film."""
    times = build.visited(config, model, params)
    return films.Branch('reverse: from noise to a sample', frames, times)


def _with(out, ending):
    return out.parent / (out.name + ending)


def _film(out, ending):
    return _with(out, f'_film{ending}')


def _outputs(out, film):
    films = [_film(out, '.png'), _film(out, '.gif')] if film else []
    return [_with(out, '.png'), _with(out, '.npz'), *films]
