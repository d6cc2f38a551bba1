"""The pictures that training draws: samples, or an autoencoder's reconstructions."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, data, distributed, provenance
from jaxdiff.commands import sample as sampling
from jaxdiff.data.source import read, stack
from jaxdiff.evaluation.images import WINDOW, psnr, ssim
from jaxdiff.training import parallel
from jaxdiff.viz import grid

SHOWN = 16  # images beside their reconstructions


def of(
    config: ConfigDict, model: Any, dataset: data.Dataset, workdir: epath.Path, made: dict
) -> Callable[[int, Any], epath.Path]:
    """(step, parameters) -> the path of the picture drawn and written."""
    if config.model == 'autoencoder':
        draw = _reconstructions(config, model, dataset)
        content = 'images above their reconstructions by a model'
    else:
        draw = _samples(config, model, dataset)
        content = 'samples of a model'
    always = {
        'made_by': 'jaxdiff train',
        'content': content,
        'generated': config.model != 'autoencoder',
        'workdir': str(workdir),
        'parameters': 'ema',
        'config_digest': provenance.digest(made['config']),
        'seed': config.seed,
        'sample': config.sample.to_dict(),
    }

    def picture(step, params):
        path = workdir / 'samples' / f'step_{step:08d}.png'
        drawn, told = draw(params)
        if distributed.primary():
            path.parent.mkdir(exist_ok=True)
            grid.save_png(path, drawn, always | {'step': step, 'run': made} | told)
        return path

    return picture


def _samples(config, model, dataset):
    c = config.sample
    draw = sampling.sampler(config, model)
    labels = sampling.choose_labels(None, dataset.class_names, model.num_classes, c.num)
    prompts = list(c.prompts)
    captions = bool(model.text) and not any(prompts)
    if captions:
        prompts = data.titles(dataset, c.num)
    prompts = sampling.choose_prompts(prompts, model, c.num)
    cond = sampling.conditions(model, labels, prompts, captions)

    def samples(params):
        batches = sampling.draw_all(draw, model, params, cond, config.seed, c.num, c.batch_size)
        return sampling.picture(np.concatenate(list(batches)), labels, prompts), {
            'prompts': prompts
        }

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
    return dataset._replace(name=f'{dataset.name}, trained on')
