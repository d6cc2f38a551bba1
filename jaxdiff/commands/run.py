"""A trained run read back: its config, its model and the parameters of one of its checkpoints."""

import functools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, config as configs, manifest
from jaxdiff.training import checkpoint


class Run(NamedTuple):
    """A run at one of its checkpoints, whose parameters are not read yet."""

    folder: epath.Path
    step: int
    which: str  # parameters: 'ema' for the averaged ones, 'params' for the last ones
    config: ConfigDict  # as it was trained, to be sampled from as asked
    changed: dict  # the keys asked to be otherwise than in the run, {key: (old, new)}
    model: build.Model
    made: dict  # how the checkpoint was made
    place: epath.Path  # of its checkpoints


def find(
    workdir: str,
    overrides: Iterable[tuple[str, str]] = (),
    step: int | None = None,
    ema: bool = True,
) -> Run:
    """The run in a folder, checked against how it is to be sampled from.

    Args:
      workdir: a training run's folder.
      overrides: of the config's `sample.` keys, such as ('sample.steps', '20').
      step: which checkpoint; None is the newest.
      ema: the averaged parameters rather than the last ones.

    Raises: ValueError where there is no run, no such checkpoint, or settings are impossible.
    """
    folder = epath.Path(workdir)
    if not (folder / 'checkpoints').exists():
        raise ValueError(f'no training run in {workdir}: it has no checkpoints')
    which = 'ema' if ema else 'params'
    place = checkpoint.folder(folder)
    step = checkpoint.choose(place, step, (which, 'made'))
    made = checkpoint.made(place, step)
    trained = configs.loads(json.dumps(made['config']))
    trained.sample = configs.loads((folder / 'config.json').read_text()).sample  # may have changed
    config = configs.complete(configs.flat(trained), overrides)
    build.check(config)
    data = made['data']
    model = build.model(config, data['shape'], data['levels'], len(data['class_names']))
    changed = configs.differences(trained, config)
    return Run(folder, step, which, config, changed, model, made, place)


def parameters(run: Run) -> Any:
    """Reads the run's parameters, shaped as `build.init` makes them."""
    like = jax.eval_shape(functools.partial(build.init, run.model), jax.random.key(0))
    return checkpoint.restore(run.place, run.step, {run.which: like})[run.which]


def origin(run: Run) -> dict:
    """Where something made from the run comes from, as JSON, for its record."""
    return {
        'workdir': str(run.folder),
        'step': run.step,
        'parameters': run.which,
        'sample': run.config.sample.to_dict(),
        'run': run.made,
        'versions': manifest.versions(),
    }
