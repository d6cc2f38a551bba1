"""The networks that samples are judged by, as they are named on the command line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff import build
from jaxdiff.commands import run as runs
from jaxdiff.data.fingerprint import digest
from jaxdiff.evaluation.features import Features
from jaxdiff.training import parallel


def find(name: str) -> Features:
    """The features of a classifier's run, named by its folder.

    They are the means over positions of what its last level ends with, of the image without noise.

    Raises: ValueError where there is no such run, or it is not of images.
    """
    run = runs.find(name, kinds=('classifier',))
    model = run.model
    if model.codec.shape:
        raise ValueError(f'{name} is a classifier of latents: give one of images')
    maps, logp = build.features_of(model), build.log_probabilities
    params = parallel.local(runs.parameters(run))
    leaves = [np.asarray(x).tobytes() for x in jax.tree.leaves(params)]

    def see(params: Any, images: Array) -> tuple[Array, Array]:
        x = model.codec.encode(None, images)
        return maps(params, x)[-1].mean((1, 2)), logp(model, params)(x, jnp.zeros(()))

    width = run.config.classifier.channels * run.config.classifier.multipliers[-1]
    where = run.folder.name or str(run.folder)
    seen = digest(*leaves, repr(sorted(run.made['config'].items())))
    return Features(where, seen, params, see, width, tuple(model.data_shape))
