"""Other runs that lead a model while it samples: a weaker one, a classifier; checked against it."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import build
from jaxdiff.commands import run as runs


class Guides(NamedTuple):
    """Runs that lead another one, where there are some."""

    weaker: runs.Run | None
    classifier: runs.Run | None

    def models(self) -> dict[str, build.Model | None]:
        """Their models by name, for `build.sampling`."""
        return {name: run and run.model for name, run in self._asdict().items()}


def find(trained: runs.Run) -> Guides:
    """The guides that a run's config, as it is to be sampled from, names.

    Raises: ValueError where there is no such run, or it does not fit.
    """
    c = trained.config.sample
    weaker = classifier = None
    if c.weaker:
        weaker = runs.find(c.weaker, (), c.weaker_step or None)
        if build.conditions_of(weaker.model) != build.conditions_of(trained.model):
            raise ValueError(f'sample.weaker={c.weaker!r} is conditioned on something else')
        if weaker.model.text and weaker.model.text.digest != trained.model.text.digest:
            raise ValueError(f'sample.weaker={c.weaker!r} reads texts by another encoder')
        for key in ('task', 'degradation') if trained.config.task else ():
            if weaker.config[key] != trained.config[key]:
                raise ValueError(f'sample.weaker={c.weaker!r} was trained for another task')
        _check(trained, weaker, f'sample.weaker={c.weaker!r}')
    if c.classifier:
        classifier = runs.find(c.classifier, kinds=('classifier',))
        _check(trained, classifier, f'sample.classifier={c.classifier!r}')
    return Guides(weaker, classifier)


def with_guides(params: Any, guides: Guides) -> Any:
    """The parameters of a run with those of its guides beside them."""
    found = {name: runs.parameters(run) for name, run in guides._asdict().items() if run}
    if not found:
        return params
    return (params if 'net' in params else {'net': params}) | found


def made(guides: Guides) -> dict:
    """Where they come from, as JSON."""
    return {name: runs.origin(run) for name, run in guides._asdict().items() if run}


def _check(trained, other, name):
    """Raises a ValueError where another run's x_t is not this one's."""
    if other.made['data']['fingerprint'] != trained.made['data']['fingerprint']:
        raise ValueError(f'{name} was trained on other data')
    if trained.model.schedule is None or other.model.schedule is None:
        raise ValueError(f"{name}: a learned schedule is a run's own, and goes without guides")
    for key, value in trained.config.diffusion.items():
        of_noise = key in ('schedule', 'sigma_min', 'sigma_max', 'shift', 'zero_terminal_snr')
        if of_noise and other.config.diffusion[key] != value:
            raise ValueError(
                f'{name} has another schedule: diffusion.{key}={other.config.diffusion[key]!r}, this '
                f'run has {value!r}'
            )
    one, two = (jax.tree.leaves(run.model.codec.weights) for run in (trained, other))
    same = len(one) == len(two) and all(map(np.array_equal, one, two))
    if other.model.shape != trained.model.shape or not same:
        raise ValueError(f'{name} has another codec, or images of another size')
    if other.config.codec.dequantize != trained.config.codec.dequantize:
        raise ValueError(f'{name} has another codec.dequantize')
