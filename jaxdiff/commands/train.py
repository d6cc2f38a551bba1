"""`jaxdiff train`: from a config to a trained model, or on from where a run stands."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import jax
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxdiff import build, config as configs, data, distributed, manifest
from jaxdiff.commands import asked_for, features, latents, memory, pictures, rollback, tables
from jaxdiff.commands.folder import alone, check_shared, check_writable
from jaxdiff.training import (
    checkpoint,
    health,
    loop,
    metrics,
    parallel,
    preemption,
    profile,
    program,
    state as states,
)
from jaxdiff.training.throughput import Meter
from jaxdiff.viz import curves


class Job(NamedTuple):
    """A checked training run."""

    config: ConfigDict
    workdir: epath.Path
    dataset: data.Dataset
    model: build.Model
    frozen: latents.Frozen | None  # the autoencoder of a model in latents
    kept: features.Kept | None  # what an autoencoder's perceptual loss sees by
    changed: dict  # keys of a run that goes on, {key: (old, new)}
    traced: bool  # whether some of its first steps are, see `profile`


class Training(NamedTuple):
    """What a job trains with, made once for all its steps."""

    driver: parallel.Driver
    init: Callable[[], states.TrainState]  # the state before the first step
    key: jax.Array
    like: states.TrainState  # its shapes, and where they stand
    batches: Callable[..., grain.MapDataset]  # of an order, and a process's share; see `data`
    made: dict  # how all that it saves was made
    sample: Callable[[int, Any], epath.Path]  # (step, parameters) -> the grid that it writes


def prepare(config: ConfigDict, workdir: str, traced: bool = False) -> Job:
    """Checks config, data, devices and folder against each other; leaves nothing in the folder.

    Raises: ValueError or FileNotFoundError where the run can't work as asked.
    """
    build.check(config)
    build.check_devices(config, jax.device_count())
    c = config.sample
    for key in ('method', 'weaker', 'classifier', 'weights'):
        if c[key]:
            raise ValueError(f'sample.{key} is for jaxdiff sample, not for the grids of training')
    folder = epath.Path(workdir)
    check_writable(folder)
    if jax.process_count() > 1:
        check_shared(folder)
    before = _before(folder)
    changed = {} if before is None else _changes(config, before, folder)
    dataset = build.dataset(config)
    if before is not None and before['data']['fingerprint'] != dataset.fingerprint:
        raise ValueError(
            f'{workdir} was trained on other data (fingerprint {before["data"]["fingerprint"]}, now '
            f'{dataset.fingerprint}): give another --workdir'
        )
    frozen = latents.of_config(config, dataset.shape, folder)
    kept = features.of_config(config, dataset.shape, folder)
    model = build.model(
        config,
        dataset.shape,
        dataset.levels,
        len(dataset.class_names),
        frozen and frozen.codec(),
        kept and kept.features,
    )
    if before is not None:
        build.check_text(model, before)
        latents.check_kept(config, folder)
    if model.text and not dataset.captioned:
        raise ValueError(
            f'net.condition={config.net.condition!r}, but {dataset.name} has no captions: give data '
            'that has, or a condition without text'
        )
    if any(config.sample.prompts):  # those that can't be: now
        prompts = asked_for.choose_prompts(list(config.sample.prompts), model, config.sample.num)
        asked_for.conditions(model, None, prompts)
    done = max(checkpoint.steps_in(checkpoint.folder(folder)), default=0)
    if traced and jax.process_count() > 1:
        raise ValueError('--profile is of a run in one process')
    if traced and config.train.steps - done < profile.STEPS:
        raise ValueError(
            f'--profile needs {profile.STEPS} steps: the run stands at {done} of {config.train.steps}'
        )
    return Job(config, folder, dataset, model, frozen, kept, changed, traced)


def run(job: Job) -> epath.Path | None:
    """Trains to the config's last step; returns the picture of the last samples.

    None where a notice of preemption came first: then the state is saved, and the same command goes
    on. In a job of many processes the first one writes all but the checkpoints.

    Raises:
      OSError: what can't be written.
      FloatingPointError: numbers that aren't finite, which no rollback helped.
      MemoryError: more than the devices have.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(memory.advised())
        stack.enter_context(alone(job.workdir))
        stop = stack.enter_context(preemption.listen())
        step = checkpoint.settle(job.workdir)
        made = manifest.manifest(job.config, job.dataset) | build.text_of(job.model)
        if job.frozen:
            parts = ('workdir', 'step', 'parameters', 'run')
            made['autoencoder'] = {key: job.frozen.made[key] for key in parts}
        if distributed.primary():
            _record(job, made, step or 0)
            if job.kept:
                features.keep(job.kept, job.workdir)
        if job.frozen:
            job = _in_latents(job)
        training = _training(job, made, _ready(job, stack))
        state = _state(job, training, step)
        _announce(job, state)
        state = _train(job, training, state, stop)
        if (stands := int(state.step)) < job.config.train.steps:
            where = f'saved step {stands}; the same command goes on from it'
            if not stands:
                where = 'before the first step; the same command starts anew'
            if distributed.primary():
                print(f'preempted: {where}', file=sys.stderr)
            return None
        picture = training.sample(job.config.train.steps, state.ema)
        if distributed.primary():
            title = f'{job.workdir.name}, step {job.config.train.steps}'
            told = {'made_by': 'jaxdiff train', 'content': 'curves of a training run', 'run': made}
            curves.draw(job.workdir / 'loss.png', metrics.read(job.workdir), title, told)
    return picture


def _in_latents(job):
    frozen, dataset = latents.settle(job.frozen, job.dataset, job.workdir, bool(job.config.task))
    model = job.model._replace(codec=frozen.codec())
    return job._replace(dataset=dataset, model=model, frozen=frozen)


def _ready(job, stack):
    """What `parallel.ahead` does with the compiled step: tells what it takes, and traces it if so asked."""
    tell = functools.partial(tqdm.write, file=sys.stderr)
    traced = None
    if job.traced:
        traced = stack.enter_context(profile.of_steps(job.workdir / 'profile', tell))

    def ready(compiled, seconds):
        if distributed.primary():
            needed = program.memory(compiled)
            tell(
                f'one step: {_operations(job)}on each device '
                f'{tables.size(needed.arguments)} of state and batch and '
                f'{tables.size(needed.temporaries)} besides; compiled in {seconds:.1f} s'
            )
        return traced(compiled) if traced else compiled

    return ready


def _operations(job):
    """What a step computes; nothing where that would keep others waiting, or isn't known."""
    counted = None if jax.process_count() > 1 else _flops(job)
    return f'{tables.operations(counted)}; ' if counted else ''


def _flops(job):
    """The operations of a step; None where JAX_PLATFORMS names accelerators alone, and no CPU counts them."""
    try:
        return build.flops(job.config, job.model)
    except RuntimeError:
        return None


def _training(job, made, ready):
    root, key = jax.random.split(jax.random.key(job.config.seed))
    init = functools.partial(build.train_state, job.config, job.model)
    step = build.train_step(job.config, job.model, key, jax.devices())
    weights = job.kept and job.kept.features.weights
    driver = parallel.ahead(build.driver(job.config, step, jax.devices(), weights), ready)
    like = driver.layout(jax.eval_shape(init, root))
    batches = functools.partial(
        data.batches,
        job.dataset,
        job.config.train.batch_size,
        job.config.seed,
        flip=job.config.data.flip,
        tokenize=build.of_captions(job.model, job.dataset),
    )
    sample = pictures.of(job.config, job.model, job.dataset, job.workdir, made)
    return Training(driver, functools.partial(init, root), key, like, batches, made, sample)


def _train(job, training, state, stop):
    """From the given state to the last one, with the rollbacks that it takes."""
    rollbacks = int(state.health.rollbacks)
    while True:
        try:
            return _stretch(job, training, state, stop)
        except health.Unhealthy as error:
            bad = error.with_traceback(None)  # which would keep the state in memory
        if rollbacks == job.config.train.rollbacks:
            whole = training.batches(order=rollbacks)
            why = rollback.explain(
                job.config, job.model, job.dataset, whole, training.key, bad, rollbacks
            )
            raise FloatingPointError(why) from bad
        rollbacks += 1
        state = _state(job, training, checkpoint.settle(job.workdir, before=bad.first))
        state = rollback.another_order(state, rollbacks)
        if distributed.primary():
            print(
                f'warning: {bad}; back to step {int(state.step)}, with another order of the data '
                f'(rollback {rollbacks} of {job.config.train.rollbacks})',
                file=sys.stderr,
            )


def _stretch(job, training, state, stop):
    """From the given state to the last one, or to a preemption; all is on the disk at its end."""
    config, made, start = job.config, training.made, int(state.step)
    rollbacks = int(state.health.rollbacks)
    share = {'process': jax.process_index(), 'processes': jax.process_count()}
    batches = training.batches(order=rollbacks, **share)
    kinds = (checkpoint.CHECKPOINTS,) + (checkpoint.SNAPSHOTS,) * bool(config.ema.profiles)
    with contextlib.ExitStack() as stack:
        log = None
        if distributed.primary():
            log = stack.enter_context(contextlib.closing(metrics.MetricsLog(job.workdir, start)))
        writer = checkpoint.Writer(job.workdir, config.train.keep, kinds)
        stack.enter_context(contextlib.closing(writer))  # a save under way ends, whatever happens

        def write(step, **numbers):
            writer.check()
            if log:
                log.write(step, **numbers, rollbacks=rollbacks)

        def snapshot(step, profiles):
            items = {f'profile_{i}': profile for i, profile in enumerate(profiles)}
            writer.save(step, items, made, kind=checkpoint.SNAPSHOTS)

        state = loop.run(
            state,
            data.stream(batches, start),
            training.driver,
            Meter(config.train.batch_size, lambda: _flops(job)),
            steps=config.train.steps,
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            sample_every=config.train.sample_every,
            snapshot_every=config.ema.snapshot_every if config.ema.profiles else 0,
            bad_steps=config.train.bad_steps,
            log=write,
            save=lambda state, loss: checkpoint.save_state(writer, state, loss, made),
            sample=training.sample,
            snapshot=snapshot,
            stop=stop,
        )
        writer.check(wait=True)
    return state


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


def _record(job, made, step):
    """Writes what the run is beside its checkpoints, and what changed where it goes on at `step`.

    Of a run that stands at its end already stays who trained it.
    """
    path = job.workdir / 'manifest.json'
    try:
        history = json.loads(path.read_text())['history'] if path.exists() else []
    except (ValueError, KeyError):  # a disk's fault: the checkpoints hold all that matters
        history = []
    files = {'config.json': configs.dumps(job.config)}
    if step < job.config.train.steps or job.changed or not history:
        part = {key: made[key] for key in ('time', 'devices', 'versions', 'commit')}
        history.append(part | {'step': step, 'changed': job.changed})
        files['manifest.json'] = json.dumps(made | {'history': history}, indent=2) + '\n'
    job.workdir.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
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
