"""`jaxdiff train`: from a config to a trained model, or on from where a run stands."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, config as configs, data, distributed, manifest
from jaxdiff.commands import sample as sampling
from jaxdiff.commands.folder import alone, check_shared, check_writable
from jaxdiff.data import order
from jaxdiff.training import (
    checkpoint,
    health,
    loop,
    metrics,
    parallel,
    preemption,
    state as states,
)
from jaxdiff.training.step import step_key
from jaxdiff.training.throughput import Meter
from jaxdiff.viz import curves, grid


class Job(NamedTuple):
    """A checked training run."""

    config: ConfigDict
    workdir: epath.Path
    dataset: data.Dataset
    model: build.Model
    changed: dict  # keys of a run that goes on, {key: (old, new)}


class Training(NamedTuple):
    """What a job trains with, made once for all its steps."""

    driver: parallel.Driver
    init: Callable[[], states.TrainState]  # the state before the first step
    key: jax.Array
    like: states.TrainState  # its shapes, and where they stand
    made: dict  # how all that it saves was made


def prepare(config: ConfigDict, workdir: str) -> Job:
    """Checks config, data, devices and folder against each other; writes nothing into the folder.

    Raises: ValueError or FileNotFoundError where the run can't work as asked.
    """
    build.check(config)
    build.check_devices(config, jax.device_count())
    folder = epath.Path(workdir)
    check_writable(folder)
    before = _before(folder)
    changed = {} if before is None else _changes(config, before, folder)
    dataset = build.dataset(config)
    if before is not None and before['data']['fingerprint'] != dataset.fingerprint:
        raise ValueError(
            f'{workdir} was trained on other data (fingerprint {before["data"]["fingerprint"]}, now '
            f'{dataset.fingerprint}): give another --workdir'
        )
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    return Job(config, folder, dataset, model, changed)


def run(job: Job) -> epath.Path | None:
    """Trains to the config's last step; returns the picture of the last samples.

    None where a notice of preemption came first: then the state is saved, and the same command goes
    on. In a job of many processes the first one writes all but the checkpoints.

    Raises:
      OSError: what can't be written.
      FloatingPointError: numbers that aren't finite, which no rollback helped.
    """
    check_shared(job.workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(job.workdir))
        stop = stack.enter_context(preemption.listen())
        step = checkpoint.settle(job.workdir)
        made = manifest.manifest(job.config, job.dataset)
        if distributed.primary():
            _record(job, made)
        saved = checkpoint.Writer(checkpoint.folder(job.workdir), job.config.train.keep)
        stack.enter_context(contextlib.closing(saved))  # a save under way ends, whatever happens
        kept = None
        if job.config.ema.profiles:
            kept = checkpoint.Writer(checkpoint.folder(job.workdir, 'ema'), 0)
            stack.enter_context(contextlib.closing(kept))
        training = _training(job, made)
        state = _state(job, training, step)
        _announce(job, state)
        state = _train(job, training, state, saved, kept, stop)
        for writer in filter(None, (saved, kept)):
            writer.check(wait=True)
        if int(state.step) < job.config.train.steps:
            if distributed.primary():
                print(
                    f'preempted: saved step {int(state.step)}; the same command goes on from it',
                    file=sys.stderr,
                )
            return None
        picture = _sampler(job, made)(job.config.train.steps, state.ema)
        if distributed.primary():
            title = f'{job.workdir.name}, step {job.config.train.steps}'
            curves.draw(job.workdir / 'loss.png', metrics.read(job.workdir), title)
    return picture


def _training(job, made):
    root, key = jax.random.split(jax.random.key(job.config.seed))
    init = functools.partial(build.train_state, job.config, job.model)
    step = build.train_step(job.config, job.model, key)
    driver = build.driver(job.config, step, jax.devices())
    like = driver.layout(jax.eval_shape(init, root))
    return Training(driver, functools.partial(init, root), key, like, made)


def _train(job, training, state, saved, kept, stop):
    """From the given state to the last one, with the rollbacks that it takes."""
    config, rollbacks = job.config, int(state.health.rollbacks)
    while True:
        try:
            return _stretch(job, training, state, saved, kept, stop)
        except health.Unhealthy as bad:
            if rollbacks == config.train.rollbacks:
                why = _explain(job, training, bad, rollbacks)
                raise FloatingPointError(why) from bad
            rollbacks += 1
            state = _roll_back(job, training, saved, bad, rollbacks)


def _stretch(job, training, state, saved, kept, stop):
    config, made, start = job.config, training.made, int(state.step)
    rollbacks = int(state.health.rollbacks)
    batches = data.batches(
        job.dataset,
        config.train.batch_size,
        config.seed,
        flip=config.data.flip,
        process=jax.process_index(),
        processes=jax.process_count(),
        order=rollbacks,
    )
    for step in checkpoint.steps_in(checkpoint.folder(job.workdir, 'ema')) if kept else ():
        if step > start:
            kept.delete(step)  # of a future that comes anew
    primary = distributed.primary()
    log = metrics.MetricsLog(job.workdir, start) if primary else None

    def write(step, **numbers):
        for writer in filter(None, (saved, kept)):
            writer.check()
        if log:
            log.write(step, **numbers, rollbacks=rollbacks)

    def keep_profiles(state):
        items = {f'profile_{i}': profile for i, profile in enumerate(state.profiles)}
        kept.save(int(state.step), items, 0.0, made)

    try:
        return loop.run(
            state,
            data.stream(batches, start),
            training.driver,
            Meter(config.train.batch_size, lambda: build.flops(config, job.model)),
            steps=config.train.steps,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            sample_every=config.train.sample_every,
            snapshot_every=config.ema.snapshot_every if config.ema.profiles else 0,
            bad_steps=config.train.bad_steps,
            log=write,
            save=lambda state, loss: checkpoint.save_state(saved, state, loss, made),
            sample=_sampler(job, made),
            snapshot=keep_profiles,
            stop=stop,
        )
    finally:
        if log:
            log.close()


def _roll_back(job, training, saved, bad, rollbacks):
    """The state of the last checkpoint from before the bad steps, to go on in another order."""
    saved.check(wait=True)
    steps = checkpoint.steps_in(saved.place)
    # One saved among the bad steps, by a preemption, has the same parameters as before them.
    step = max((s for s in steps if s < bad.first), default=min(steps, default=None))
    for later in (s for s in steps if s > step):
        saved.delete(later)
    state = _state(job, training, step)
    if distributed.primary():
        print(
            f'warning: {bad}; back to step {int(state.step)}, with another order of the data '
            f'(rollback {rollbacks} of {job.config.train.rollbacks})',
            file=sys.stderr,
        )
    where = training.like.health.rollbacks.sharding
    now = {'in_row': 0, 'rollbacks': rollbacks}
    now = {name: parallel.scalar(value, where) for name, value in now.items()}
    return state._replace(health=state.health._replace(**now))


def _explain(job, training, bad, rollbacks):
    config, step = job.config, bad.first - 1
    orders = {'order': int(bad.state.health.rollbacks)}
    batch = data.batches(
        job.dataset, config.train.batch_size, config.seed, config.data.flip, **orders
    )[step]
    positions = step * config.train.batch_size + batch['index']
    key = step_key(
        training.key,
        bad.state._replace(step=np.int32(step), health=jax.device_get(bad.state.health)),
    )
    examples = order.examples(config.seed, positions, len(job.dataset.source), **orders)
    loss = build.training_loss(config, job.model)
    found = health.explain(loss, bad.state.params, batch, key, examples)
    return (
        f'{bad}, after {rollbacks} rollbacks to other orders of the data. At step {bad.first}: '
        f'{found}. Look at these examples, or lower optimizer.learning_rate; the checkpoints from '
        'before stand'
    )


def _state(job, training, step):
    """The state of the checkpoint at `step`, or for None the one before the first step."""
    if step is not None:
        return checkpoint.restore_state(checkpoint.folder(job.workdir), step, training.like)
    # XLA:CPU takes longer to optimise the draws of so many arrays than to draw them.
    quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
    options = quick if jax.default_backend() == 'cpu' else None
    where = parallel.shardings(training.like)
    return jax.jit(training.init, out_shardings=where, compiler_options=options)()


def _before(workdir):
    """What the run in the folder was made of, {'config', 'data'}; None where there is none."""
    place = checkpoint.folder(workdir)
    if checkpoint.steps_in(place):
        return checkpoint.made(place, checkpoint.choose(place, None, ('made',)))
    path = workdir / 'manifest.json'
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise ValueError(
            f'{path} is broken ({error}), and there is no checkpoint: remove it'
        ) from error


def _changes(config, before, workdir):
    """{key: (old, new)} against the run in the folder; ValueError where they can't differ."""
    old = configs.loads(json.dumps(before['config']))
    changed = configs.differences(old, config)
    deciding = {k: v for k, v in changed.items() if build.decides(k, config)}
    if deciding:
        listed = ', '.join(f'{k}: {old!r} -> {new!r}' for k, (old, new) in deciding.items())
        raise ValueError(
            f'{workdir} holds a run of another config ({listed}): give another --workdir, '
            'or the config of that run'
        )
    done = max(checkpoint.steps_in(checkpoint.folder(workdir)), default=0)
    if config.train.steps < done:
        raise ValueError(
            f'{workdir} stands at step {done} already: train.steps must be at least that, '
            f'got {config.train.steps}'
        )
    return changed


def _record(job, made):
    """Writes what the run is beside its checkpoints, and what changed where it goes on."""
    path = job.workdir / 'manifest.json'
    try:
        history = json.loads(path.read_text())['history'] if path.exists() else []
    except (ValueError, KeyError):  # a disk's fault: the checkpoints hold all that matters
        history = []
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


def _announce(job, state):
    if not distributed.primary():
        return
    count = sum(x.size for x in jax.tree.leaves(state.params))
    dataset, devices = job.dataset, jax.devices()
    processes = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
    print(
        f'{job.workdir}: {count:,} parameters; {dataset.name}: {len(dataset.source):,} examples of '
        f'{"x".join(map(str, dataset.shape))}; {len(devices)} {devices[0].device_kind} device(s)'
        f'{processes}; step {int(state.step)} of {job.config.train.steps}',
        file=sys.stderr,
    )


def _sampler(job, made) -> Callable[[int, Any], epath.Path]:
    """(step, parameters) -> the path of a grid of samples drawn and written."""
    c = job.config.sample
    draw = sampling.sampler(job.config, job.model)
    labels = sampling.choose_labels(None, job.dataset.class_names, job.model.num_classes, c.num)

    def sample(step, params):
        batches = sampling.draw_all(
            draw, job.model, params, labels, job.config.seed, c.num, c.batch_size
        )
        samples = np.concatenate(list(batches))
        path = job.workdir / 'samples' / f'step_{step:08d}.png'
        if distributed.primary():
            path.parent.mkdir(exist_ok=True)
            picture = sampling.picture(samples, labels)
            grid.save_png(path, picture, {'made_by': 'jaxdiff train', 'step': step, 'run': made})
        return path

    return sample
