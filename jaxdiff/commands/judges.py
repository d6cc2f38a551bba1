"""The networks that samples are judged by, as they are named on the command line."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff import build
from jaxdiff.commands import run as runs
from jaxdiff.evaluation.features import Features, known
from jaxdiff.interop import inception, mobilenet
from jaxdiff.training import parallel


def find(name: str) -> Features:
    """The features of this name.

    'inception:FILE' are FID's, see `interop.inception`; 'mobilenet', or 'mobilenet:FILE', those of
    `interop.mobilenet`; any other name is the folder of a classifier's run.

    Raises: ValueError, FileNotFoundError, ImportError where there are none such.
    """
    kind, _, path = name.partition(':')
    if kind == 'inception':
        if not path:
            raise ValueError('--features inception needs its weights: inception:FILE')
        return inception.load(path)
    return mobilenet.load(path) if kind == 'mobilenet' else _of_run(name)


def _of_run(folder):
    """The means over positions of what a classifier's last level ends with, of the image without noise."""
    run = runs.find(folder, kinds=('classifier',))
    model = run.model
    if model.codec.shape:
        raise ValueError(f'{folder} is a classifier of latents: give one of images')
    maps, config = build.features_of(model), run.config.to_dict()
    params = jax.tree.map(np.asarray, parallel.local(runs.parameters(run)))

    @jax.default_matmul_precision('highest')
    def apply(params: Any, images: Array) -> Array:
        return maps(params, model.codec.encode(None, images))[-1].mean((1, 2))

    @jax.default_matmul_precision('highest')
    def log_probabilities(params: Any, images: Array, features: Array) -> Array:
        x = model.codec.encode(None, images)
        return build.log_probabilities(model, params)(x, jnp.zeros(()))

    width = run.config.classifier.channels * run.config.classifier.multipliers[-1]
    decides = {key: config[key] for key in ('classifier', 'codec', 'diffusion')}
    decides |= {
        'levels': run.made['data']['levels'],
        'seen': 'means of the last level, without noise',
    }
    shape = tuple(model.data_shape)
    prepared = json.dumps(decides, sort_keys=True)
    found = known('classifier', width, params, apply, prepared, log_probabilities, shape)
    names = tuple(run.made['data']['class_names'])
    return found._replace(name=run.folder.name or str(run.folder), class_names=names)
