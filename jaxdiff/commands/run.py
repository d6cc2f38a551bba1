"""A trained run read back: its config, its model and the parameters of one of its checkpoints."""

import functools
import json
import math
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, config as configs, manifest
from jaxdiff.training import checkpoint, parallel, posthoc

# The relative distance from the profile asked for above which an average is not the one asked for.
_FAR = 0.04


class Run(NamedTuple):
    """A run at one of its checkpoints, whose parameters are not read yet."""

    folder: epath.Path
    step: int
    which: str  # parameters: 'ema' the averaged ones, 'params' the last, 'ema0.1' of that width
    width: float | None
    config: ConfigDict  # as it was trained, to be sampled from as asked
    changed: dict  # the keys asked to be otherwise than in the run, {key: (old, new)}
    model: build.Model
    made: dict  # how the checkpoint was made


def find(
    workdir: str,
    overrides: Iterable[tuple[str, str]] = (),
    step: int | None = None,
    ema: bool = True,
    ema_width: float | None = None,
    kinds: tuple[str, ...] = ('diffusion',),
) -> Run:
    """The run in a folder, checked against how it is to be sampled from.

    Args:
      workdir: a training run's folder.
      overrides: of the config's `sample.` keys, such as ('sample.steps', '20').
      step: which checkpoint; None is the newest.
      ema: the averaged parameters rather than the last ones.
      ema_width: of an average made of the run's profiles instead, see `posthoc`.
      kinds: what it may be, of config.model's values.

    Raises: ValueError where there is no run, no such checkpoint, or settings are impossible.
    """
    folder = epath.Path(workdir)
    place = checkpoint.folder(folder)
    if not place.exists():
        raise ValueError(f'no training run in {workdir}: it has no checkpoints')
    which = 'ema' if ema else 'params'
    step = checkpoint.choose(place, step, (which, 'made'))
    made = checkpoint.made(place, step)
    trained = configs.loads(json.dumps(made['config']))
    if trained.model not in kinds:
        own = ', which has no samples of its own' if trained.model != 'diffusion' else ''
        raise ValueError(
            f'{workdir} holds a run of model={trained.model!r}{own}: it must be {" or ".join(kinds)}'
        )
    if ema_width is not None:
        which = f'ema{ema_width:g}'
        posthoc.gamma(ema_width)  # refuses what can't be
        if not trained.ema.profiles:
            raise ValueError('--ema-width needs a run that was trained with ema.profiles')
    if (folder / 'config.json').exists():  # how to sample may have changed since
        trained.sample = configs.loads((folder / 'config.json').read_text()).sample
    config = configs.complete(configs.flat(trained), overrides)
    build.check(config)
    data = made['data']
    codec = None
    if trained.codec.name == 'latent':
        from jaxdiff.commands import latents  # which reads the autoencoder's run by this file

        codec = latents.load(folder).codec()
    names = data['class_names']
    model = build.model(config, data['shape'], data['levels'], len(names), codec)
    build.check_text(model, made)
    changed = configs.differences(trained, config)
    for key, (old, new) in changed.items():
        if build.decides(key, config):
            raise ValueError(
                f'{key} is what the run was trained with, {old!r}: it cannot be {new!r}'
            )
    return Run(folder, step, which, ema_width, config, changed, model, made)


def parameters(run: Run) -> Any:
    """Reads the run's parameters, shaped as `build.init` makes them.

    They stand on the first device of each process, or sharded over all devices where the run was.
    """
    shapes = jax.eval_shape(functools.partial(build.init, run.model), jax.random.key(0))
    c, devices = run.config.train, jax.devices()
    if c.parallel == 'mesh' and c.fsdp != 1:
        fsdp = math.gcd(c.fsdp or len(devices), len(devices))
        grid = parallel.mesh_of(devices, fsdp)
        like = parallel.placed(shapes, lambda x: parallel.sharding(x.shape, grid))
    else:
        like = parallel.placed(shapes, lambda _: parallel.copy_in_each_process())
    if run.width is None:
        place = checkpoint.folder(run.folder)
        return checkpoint.restore(place, run.step, {run.which: like})[run.which]
    return _average(run, like)


def _average(run, like):
    """The average of the run's width at its step, from the snapshots of its profiles."""
    place, target = checkpoint.folder(run.folder, checkpoint.SNAPSHOTS), posthoc.gamma(run.width)
    profiles = dict(enumerate(build.gammas(run.config)))
    items = tuple(f'profile_{i}' for i in profiles)
    found = [s for s in checkpoint.steps_in(place) if s <= run.step]
    pairs = [(s, i) for s in found if not checkpoint.problems(place, s, items) for i in profiles]
    if not pairs:
        raise ValueError(f'no whole snapshot of the profiles up to step {run.step} in {place}')
    steps, gammas = zip(*((s, profiles[i]) for s, i in pairs))
    weights = posthoc.weights(steps, gammas, run.step, target)
    far = posthoc.residual(weights, steps, gammas, run.step, target)
    if far > _FAR:
        print(
            f'warning: the average of width {run.width:g} at step {run.step} is missed by {far:.0%} '
            f'from snapshots of the steps {", ".join(map(str, sorted(set(steps))))}: take a step '
            'with a snapshot, or train with a smaller ema.snapshot_every',
            file=sys.stderr,
        )

    def read(step, i):
        """This process's parts of each array."""
        tree = checkpoint.restore(place, step, {items[i]: like})[items[i]]
        return jax.tree.map(lambda x: [shard.data for shard in x.addressable_shards], tree)

    def put(x, parts):
        devices = x.sharding.addressable_devices_indices_map(x.shape)
        parts = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]
        return jax.make_array_from_single_device_arrays(x.shape, x.sharding, parts)

    return jax.tree.map(put, like, posthoc.combine((read(*pair) for pair in pairs), weights))


def origin(run: Run) -> dict:
    """Where something made from the run comes from, as JSON, for its record."""
    return {
        'workdir': str(run.folder),
        'step': run.step,
        'parameters': run.which,
        'changed': {k: new for k, (_, new) in run.changed.items() if not k.startswith('sample.')},
        'sample': run.config.sample.to_dict(),
        'run': run.made,
        **manifest.here(),
    }
