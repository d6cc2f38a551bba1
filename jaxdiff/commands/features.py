"""The features that an autoencoder is trained with: another run's network, kept with its own run.

A run keeps them in `features.safetensors` in its folder, so that it goes on with the same ones
whatever became of the other run.
"""

import json
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, config as configs
from jaxdiff.commands import run as runs
from jaxdiff.interop import safetensors
from jaxdiff.paths import in_bucket
from jaxdiff.training import checkpoint, parallel

FILE = 'features.safetensors'


class Kept(NamedTuple):
    """Features, and where they come from, see `run.origin`."""

    features: build.Features
    made: dict


def of_config(
    config: ConfigDict, shape: tuple[int, ...], workdir: epath.Path | None = None
) -> Kept | None:
    """The features of an autoencoder's perceptual loss; None where it has none.

    Args:
      shape: of the data's images.
      workdir: the run's folder; where it holds no features yet, `autoencoder.features` is read.

    Raises: ValueError where there are none, they are of images of another shape, or were lost.
    """
    if not config.autoencoder.perceptual:
        return None
    if workdir and in_bucket(workdir):
        raise ValueError(
            f'a run with a perceptual loss must have its folder on a disk, got {workdir}'
        )
    if workdir and (workdir / FILE).exists():
        params, made = _load(workdir)
    elif workdir and checkpoint.steps_in(checkpoint.folder(workdir)):
        raise ValueError(
            f'{workdir / FILE} is missing, the features that this run began with: restore it from a '
            'copy, or give another --workdir'
        )
    else:
        run = runs.find(config.autoencoder.features, kinds=('diffusion', 'classifier'))
        params, made = parallel.local(runs.parameters(run)), runs.origin(run)
    theirs = configs.loads(json.dumps(made['run']['config']))
    told = made['run']['data']
    kinds = theirs.model, theirs.codec.name, theirs.net.name
    if kinds != ('diffusion', 'pixels', 'unet') and kinds[:2] != ('classifier', 'pixels'):
        raise ValueError(
            f'autoencoder.features={config.autoencoder.features!r} must hold a classifier or a U-Net of '
            f'diffusion in pixels, it has model, codec.name and net.name {", ".join(kinds)}'
        )
    if tuple(told['shape']) != tuple(shape):
        size, own = ('x'.join(map(str, s)) for s in (shape, told['shape']))
        raise ValueError(f'the features are of images of {own}, the data has {size}')
    model = build.model(theirs, told['shape'], told['levels'], len(told['class_names']))
    apply = build.features_of(model)
    return Kept(build.Features(apply, jax.tree.map(np.asarray, params)), made)


def keep(kept: Kept, workdir: epath.Path) -> None:
    """Writes them into the folder of a run that begins, whole or not at all."""
    if not (workdir / FILE).exists():
        new = workdir / f'{FILE}.new'
        made = {'made_by': 'jaxdiff train', 'content': 'features, kept'} | kept.made
        safetensors.save(new, kept.features.weights, {'made': json.dumps(made)})
        new.replace(workdir / FILE)


def _load(workdir) -> tuple[Any, dict]:
    try:
        params, told = safetensors.load(workdir / FILE)
        return params, json.loads(told['made'])
    except Exception as error:  # of safetensors, JSON, a missing part
        raise ValueError(f'{workdir / FILE} cannot be read: {error}') from error
