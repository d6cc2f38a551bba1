"""From a config to sampling from given images, `config.sample.method`, by any model.

What is given is a dict of arrays, an entry for each sample:

    sdedit, invert, interpolate   'image', uint8 [b, h, w, c]; of interpolate also 'other', and
                                  'share' [b], how far from the one to the other
    replacement, repaint          'image' and 'known' [b, h, w, 1], 1.0 where a pixel is known
    ddnm, dps, pigdm              'y', what was measured, and of inpainting 'known'

References: see `diffusion.editing` and `diffusion.inverse`.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from ml_collections import ConfigDict

from jaxdiff.build import names, tasks
from jaxdiff.build.model import Model
from jaxdiff.diffusion import editing, grid, inverse
from jaxdiff.diffusion.degradation import Measurement
from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.samplers.base import Sampler
from jaxdiff.diffusion.schedule import Schedule

_ENCODE = 1  # what keys are folded with to encode, that begin a walk besides


def task(config: ConfigDict, model: Model, name: str) -> tasks.Task:
    """A task that a method undoes with a model that was not trained for it.

    Raises: ValueError where the data can't be degraded so.
    """
    return tasks.task(config, name, model.data_shape, model.levels or 256, model.shape)


def times_of(config: ConfigDict, times: Array) -> Array:
    """The times that the method visits, of those that sampling would."""
    c = config.sample
    if c.method == 'sdedit':
        return editing.from_strength(times, c.strength)
    if c.method == 'repaint':
        return grid.repaint(times, c.jump, c.resamplings)
    return times


def informed(
    config: ConfigDict,
    model: Model,
    schedule: Schedule,
    denoise: Denoiser,
    clipped: Callable[[Denoiser], Denoiser],
    given: dict[str, Array] | None,
) -> Denoiser:
    """The denoiser, clipped, that knows what was measured where the method is one of beliefs."""
    c = config.sample
    if c.method not in ('ddnm', 'pigdm'):
        return clipped(denoise)
    operator, y, noise = _measured(config, model, given)
    if c.method == 'ddnm':
        return inverse.ddnm(clipped(denoise), operator, y)
    return clipped(inverse.pigdm(denoise, schedule, operator, y, noise, c.covariance))


def steered(
    config: ConfigDict,
    model: Model,
    schedule: Schedule,
    sampler: Sampler,
    weights: Any,
    keys: Array,
    given: dict[str, Array] | None,
) -> Sampler:
    """The sampler, led by what is given where the method is one of steps.

    Args:
      weights: of the codec.
      keys: one per sample, for codecs that draw.
    """
    c = config.sample
    if c.method == 'dps':
        operator, y, _ = _measured(config, model, given)
        return inverse.dps(sampler, operator, y, c.dps_scale)
    if c.method in names.PARTS:
        known = tasks.folded(given['known'], model.data_shape[0] // model.shape[0])
        lead = inverse.repaint if c.method == 'repaint' else inverse.replacement
        return lead(sampler, schedule, _encoded(model, weights, keys, given['image']), known)
    return sampler


def start(
    config: ConfigDict,
    model: Model,
    schedule: Schedule,
    sampler: Sampler,
    source: Denoiser,
    weights: Any,
    keys: Array,
    times: Array,
    given: dict[str, Array],
) -> Array:
    """Where a method of `names.WHOLE` starts, [b, ...].

    Args:
      source: a denoiser under the condition that the images are of.
    """
    c = config.sample
    x0 = _encoded(model, weights, keys, given['image'])
    if c.method == 'sdedit':
        return editing.sdedit(keys, x0, schedule, times[0])
    x_1 = editing.invert(source, sampler, schedule, x0, times)
    if c.method == 'invert':
        return x_1
    other = _encoded(model, weights, keys, given['other'])
    other = editing.invert(source, sampler, schedule, other, times)
    return editing.interpolate(x_1, other, given['share'])


def _measured(config, model, given):
    made = task(config, model, config.sample.task).degradation
    operator = made.operator(Measurement(given['y'], given.get('known')))
    return operator, given['y'], made.noise


def _encoded(model, weights, keys, images):
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, _ENCODE)
    return model.codec.encode(own, model.codec.prepare(weights, images))
