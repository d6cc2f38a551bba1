"""The pictures that training draws: samples, an autoencoder's reconstructions, a classifier's choice."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, data, distributed
from jaxdiff.commands import asked_for, images, sample as sampling, written
from jaxdiff.data.source import read, stack
from jaxdiff.diffusion.gaussian import marginal
from jaxdiff.diffusion.samplers.base import normal
from jaxdiff.evaluation.images import WINDOW, psnr, ssim
from jaxdiff.training import parallel
from jaxdiff.viz import grid

SHOWN = 16  # images beside their reconstructions
DECIDED = 8  # images of each class that a classifier decides for


def of(
    config: ConfigDict, model: Any, dataset: data.Dataset, workdir: epath.Path, made: dict
) -> Callable[[int, Any], epath.Path]:
    """(step, parameters) -> the path of the picture drawn and written."""
    kinds = {'autoencoder': _reconstructions, 'classifier': _decisions}
    draw = kinds.get(config.model, _samples)(config, model, dataset)

    def picture(step, params):
        path = workdir / 'samples' / f'step_{step:08d}.png'
        drawn, told = draw(params)
        if distributed.primary():
            path.parent.mkdir(exist_ok=True)
            generated = config.model == 'diffusion'
            made_by = {'made_by': 'jaxdiff train', 'step': step, 'run': made} | told
            made_by |= {'generated': generated, 'workdir': str(workdir), 'parameters': 'ema'}
            if generated:
                made_by |= {'seed': config.seed, 'sample': config.sample.to_dict(), 'changed': {}}
            grid.save_png(path, drawn, made_by)
        return path

    return picture


def _samples(config, model, dataset):
    c = config.sample
    draw = sampling.sampler(config, model)
    labels = asked_for.choose_labels(None, dataset.class_names, model.num_classes, c.num)
    prompts = list(c.prompts)
    captions = bool(model.text) and not any(prompts)
    if captions:
        prompts = data.titles(dataset, c.num)
    prompts = asked_for.choose_prompts(prompts, model, c.num)
    cond = asked_for.conditions(model, labels, prompts, captions)
    shown = ()
    if model.task:
        given = images.Given(_some(_held_out(config, dataset), c.num), None, model.task, True, {})
        start = images.start(given, config, model, c.num, config.seed)
        cond, shown = cond | start.cond, start.shown

    def samples(params):
        batches = sampling.draw_all(draw, model, params, cond, config.seed, c.num, c.batch_size)
        found, finite = map(np.concatenate, zip(*batches))
        lost = sampling.not_finite(finite)
        if shown:
            return written.beside(shown, found), lost
        return written.picture(found, labels, prompts), {'prompts': prompts} | lost

    return samples


def _reconstructions(config, model, dataset):
    """Held-out images above their reconstructions, and how near they are."""
    held_out = _held_out(config, dataset)
    back = jax.jit(build.reconstruct(model))
    n, b = len(held_out.source), min(config.sample.batch_size, len(held_out.source))

    def reconstructions(params):
        params = parallel.local(params)
        numbers, shown = [], None
        for start in range(0, n, b):
            rows = np.minimum(np.arange(start, start + b), n - 1).tolist()
            images = stack(read(held_out.source, rows))['image']
            found = np.asarray(back(params, images))
            shown = shown or [images[:SHOWN], found[:SHOWN]]
            near = [psnr(images, found)]
            if min(images.shape[1:3]) >= WINDOW:
                near.append(ssim(images, found))
            numbers.append(np.stack(near, 1)[: n - start])
        means = np.concatenate(numbers).mean(0)
        told = dict(zip(('psnr', 'ssim'), map(float, means)))
        if distributed.primary():
            words = ', '.join(f'{name.upper()} {value:.4g}' for name, value in told.items())
            print(f'{n} images of {held_out.name}: mean {words}', file=sys.stderr)
        return grid.tile(np.concatenate(shown), columns=len(shown[0])), told

    return reconstructions


def _decisions(config, model, dataset):
    """Held-out images in columns of the classes that they are taken for, and how many are right."""
    held_out, classes = _held_out(config, dataset), model.net.num_classes
    n, b = len(held_out.source), min(config.sample.batch_size, len(held_out.source))
    times = jnp.array([config.loss.t_min, 0.25, 0.5, 0.75])
    weights = model.codec.weights

    @jax.jit
    def decide(params, weights, images, start):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), start + jnp.arange(b))
        encode, noise = jax.vmap(jax.random.split, out_axes=1)(keys)
        x0 = model.codec.encode(encode, model.codec.prepare(weights, images))
        eps = normal(noise, x0)
        logp = build.log_probabilities(model, params)
        return jnp.stack(
            [jnp.argmax(logp(marginal(model.schedule, x0, eps, t), t), -1) for t in times]
        )

    def decisions(params):
        params, right, columns = parallel.local(params), [], [[] for _ in range(classes)]
        for start in range(0, n, b):
            rows = np.minimum(np.arange(start, start + b), n - 1).tolist()
            batch = stack(read(held_out.source, rows))
            images = batch['image']
            found = np.asarray(decide(params, weights, images, start))
            right.append((found == batch['label'])[:, : n - start])
            for image, choice in zip(images[: n - start], found[0]):
                columns[choice].append(image)
        shares = np.concatenate(right, 1).mean(1)
        names = ['clean', *(f't={t:g}' for t in times[1:])]
        told = {'accuracy': {name: float(share) for name, share in zip(names, shares)}}
        if distributed.primary():
            words = ', '.join(f'{name} {share:.4g}' for name, share in told['accuracy'].items())
            print(f'{n} images of {held_out.name}: right on {words}', file=sys.stderr)
        blank = np.full_like(images[0], 255)
        shown = [(column + [blank] * DECIDED)[:DECIDED] for column in columns]
        return grid.tile(np.stack([image for row in zip(*shown) for image in row]), classes), told

    return decisions


def _some(dataset, num):
    """At most so many images of a data set, spread evenly over it."""
    n = len(dataset.source)
    rows = np.linspace(0, n, min(n, num), endpoint=False).astype(int)
    batch = stack(read(dataset.source, rows.tolist()))
    return batch['image']


def _held_out(config, dataset):
    """The split 'test' of a named set that has one and isn't trained on it, else the set itself."""
    c = config.data
    if c.name and 'test' not in c.split:
        try:
            found = data.load(c.name, c.path, c.dir, 'test', c.image_size)
            return found._replace(name=f'{found.name}, test')
        except ValueError as error:
            if 'cannot give the split' not in str(error):
                raise
    images = getattr(dataset.source, 'images', dataset.source)  # of a run in latents
    return dataset._replace(source=images, name=f'{dataset.name}, trained on')
