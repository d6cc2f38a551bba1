"""`jaxdiff train`: from a config to a trained model, or on from where a run stands."""

import contextlib
import functools
import json
import sys
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, config as configs, data, manifest
from jaxdiff.commands import sample as sampling
from jaxdiff.commands.folder import check_writable
from jaxdiff.training import checkpoint, loop, metrics, parallel, state as states
from jaxdiff.training.step import train_step
from jaxdiff.training.throughput import Meter
from jaxdiff.viz import curves, grid


class Job(NamedTuple):
    """A checked training run."""

    config: ConfigDict
    workdir: epath.Path
    dataset: data.Dataset
    model: build.Model
    changed: dict  # keys of a run that goes on, {key: (old, new)}


def prepare(config: ConfigDict, workdir: str) -> Job:
    """Checks config, data, devices and folder against each other; writes nothing into the folder.

    Raises: ValueError or FileNotFoundError where the run can't work as asked.
    """
    build.check(config)
    folder = epath.Path(workdir)
    check_writable(folder)
    if jax.process_count() > 1:
        raise ValueError(f'training runs in one process, got {jax.process_count()}')
    changed = _changes(config, folder)
    devices, parts = jax.device_count(), config.train.accumulate
    if config.train.batch_size % (devices * parts):
        raise ValueError(
            f'train.batch_size={config.train.batch_size} must be a multiple of {devices} devices '
            f'x train.accumulate={parts}; the nearest is '
            f'{max(1, round(config.train.batch_size / (devices * parts))) * devices * parts}'
        )
    dataset = build.dataset(config)
    if changed is not None:
        before = json.loads((folder / 'manifest.json').read_text())['data']['fingerprint']
        if before != dataset.fingerprint:
            raise ValueError(
                f'{workdir} was trained on other data (fingerprint {before}, now '
                f'{dataset.fingerprint}): give another --workdir'
            )
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    return Job(config, folder, dataset, model, changed or {})


def run(job: Job) -> epath.Path:
    """Trains to the config's last step; returns the picture of the last samples."""
    made = manifest.manifest(job.config, job.dataset)
    _record(job, made)
    checkpoints = checkpoint.manager(job.workdir, job.config.train.keep)
    with contextlib.closing(checkpoints):  # a save that is under way ends, whatever happens
        return _run(job, made, checkpoints)


def _run(job, made, checkpoints):
    config, workdir = job.config, job.workdir
    optimizer = build.optimizer(config)
    root, key = jax.random.split(jax.random.key(config.seed))
    state = states.init(_initial(job.model, root), optimizer)
    if checkpoints.latest_step() is not None:
        state = checkpoint.restore_state(checkpoints, state)
    start = int(state.step)
    step = functools.partial(
        train_step,
        loss=build.training_loss(config, job.model),
        optimizer=optimizer,
        key=key,
        ema_decay=config.ema.decay,
        ema_warmup=config.ema.warmup,
        accumulate=config.train.accumulate,
    )
    batches = data.batches(
        job.dataset,
        config.train.batch_size,
        config.seed,
        flip=config.data.flip,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    _announce(job, state)
    log = metrics.MetricsLog(workdir, start)
    draw = _sampler(job, made)
    state = loop.run(
        state,
        data.stream(batches, start),
        parallel.pmap(step, jax.local_devices()),
        Meter(config.train.batch_size, lambda: _flops(job, optimizer, state, batches[0])),
        steps=config.train.steps,
        log_every=config.train.log_every,
        checkpoint_every=config.train.checkpoint_every,
        sample_every=config.train.sample_every,
        log=log.write,
        save=lambda state, loss: checkpoint.save(checkpoints, state, loss, made),
        sample=draw,
    )
    log.close()
    picture = draw(config.train.steps, state.ema)
    title = f'{workdir.name}, step {config.train.steps}'
    curves.draw(workdir / 'loss.png', metrics.read(workdir), title)
    return picture


def _changes(config, workdir):
    """{key: (old, new)} against the run in the folder, None where there is none yet."""
    path = workdir / 'config.json'
    if not path.exists():
        return None
    changed = configs.differences(configs.loads(path.read_text()), config)
    deciding = {k: v for k, v in changed.items() if build.decides(k, config)}
    if deciding:
        listed = ', '.join(f'{k}: {old!r} -> {new!r}' for k, (old, new) in deciding.items())
        raise ValueError(
            f'{workdir} holds a run of another config ({listed}): give another --workdir, '
            'or the config of that run'
        )
    done = checkpoint.manager(workdir).latest_step() or 0
    if config.train.steps < done:
        raise ValueError(
            f'{workdir} stands at step {done} already: train.steps must be at least that, '
            f'got {config.train.steps}'
        )
    return changed


def _record(job, made):
    """Writes what the run is beside its checkpoints, and what changed where it goes on."""
    path = job.workdir / 'manifest.json'
    history = json.loads(path.read_text())['history'] if path.exists() else []
    part = {key: made[key] for key in ('time', 'devices', 'versions', 'commit')}
    history.append(part | {'changed': job.changed})
    job.workdir.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ('manifest.json', json.dumps(made | {'history': history}, indent=2) + '\n'),
        ('config.json', configs.dumps(job.config)),
    ):
        new = job.workdir / f'{name}.new'
        new.write_text(text)
        new.replace(job.workdir / name)  # whole or not at all, whenever the run is killed


def _initial(model, key):
    # XLA:CPU takes longer to optimise the draws of so many arrays than to draw them.
    quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
    options = quick if jax.default_backend() == 'cpu' else None
    return jax.jit(functools.partial(build.init, model), compiler_options=options)(key)


def _announce(job, state):
    count = sum(x.size for x in jax.tree.leaves(state.params))
    dataset, devices = job.dataset, jax.local_devices()
    print(
        f'{job.workdir}: {count:,} parameters; {dataset.name}: {len(dataset.source):,} examples of '
        f'{"x".join(map(str, dataset.shape))}; {len(devices)} {devices[0].device_kind} device(s); '
        f'step {int(state.step)} of {job.config.train.steps}',
        file=sys.stderr,
    )


def _flops(job, optimizer, state, batch):
    """The model's operations in one step, by XLA's count of its program for a CPU.

    Only there XLA counts without compiling; loops (accumulation) would count once, and recomputed
    activations (remat) are no operations of the model.
    """
    config = job.config.copy_and_resolve_references()
    config.net.remat = False
    dataset = job.dataset
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    loss = build.training_loss(config, model)
    step = functools.partial(train_step, loss=loss, optimizer=optimizer, key=jax.random.key(0))
    shapes = jax.eval_shape(lambda *x: x, state, batch)
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
        return jax.jit(step).lower(*shapes).cost_analysis()['flops']


def _sampler(job, made):
    """(step, parameters) -> the path of a grid of samples drawn and written."""
    c = job.config.sample
    draw = sampling.sampler(job.config, job.model)
    labels = sampling.choose_labels(None, job.dataset.class_names, job.model.num_classes, c.num)

    def sample(step, params):
        batches = sampling.draw_all(
            draw, job.model, params, labels, job.config.seed, c.num, c.batch_size
        )
        path = job.workdir / 'samples' / f'step_{step:08d}.png'
        path.parent.mkdir(exist_ok=True)
        picture = sampling.picture(np.concatenate(list(batches)), labels)
        grid.save_png(path, picture, {'made_by': 'jaxdiff train', 'step': step, 'run': made})
        return path

    return sample
