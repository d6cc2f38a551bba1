"""The command line: calls what `arguments` reads, and prints."""

import json
import os
import signal
import sys

from jaxdiff import arguments, devices


def console() -> None:
    """The command `jaxdiff`."""
    devices.keep_memory()
    main()


def main(given: list[str] | None = None) -> None:
    """Runs one command.

    Exits with 2 and one line where what the user gave can't work, with 3 and one line where the work
    stopped: a disk that is full, training whose numbers aren't finite; quietly with 141 where nobody
    reads on, as after `| head -1`.
    """
    args = arguments.parse(sys.argv[1:] if given is None else given)
    devices.keep_programs()
    try:
        work = _COMMANDS[args.command](args)  # an ImportError: an extra that isn't installed
    except (ValueError, OSError, ImportError) as error:
        _refuse(args.command, error, 2)
    try:
        for path in work():
            if _speaks():
                _tell(path)
    except (OSError, FloatingPointError, MemoryError) as error:
        _refuse(args.command, error, 3)
    except KeyboardInterrupt:
        rest = (
            '; the same command goes on from the last checkpoint' if args.command == 'train' else ''
        )
        print(f'\nstopped{rest}', file=sys.stderr)
        _leave(130)


def _tell(line):
    try:
        print(line, flush=True)
    except BrokenPipeError:
        for gone in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), gone)
        _leave(128 + signal.SIGPIPE)


def _refuse(command, error, code):
    if os.environ.get('JAXDIFF_TRACEBACK'):
        raise error
    who = command if _speaks() else f'{command} in a process other than the first'
    print(f'jaxdiff {who}: {" ".join(str(error).split())}', file=sys.stderr)
    _leave(code)


def _leave(code):
    if 'jax' in sys.modules:
        from jaxdiff import distributed

        distributed.leave(code)
    sys.exit(code)


def _train(args):
    from jaxdiff import config as configs

    config = configs.load(args.config, args.overrides)
    share = config.train.batch_size // (args.num_processes or 1)
    devices.use_cores(share, config.train.accumulate, args.devices)
    _quiet()
    _join(args)
    from jaxdiff.commands import train

    workdir = args.workdir or _default_workdir(args.config)
    job = train.prepare(config, workdir, args.profile)
    return lambda: filter(None, [train.run(job)])


def _sample(args):
    method = args.method or (None if args.strength is None else 'sdedit')
    flags = {'weaker': args.weaker, 'weaker_step': args.weaker_step}
    flags |= {'classifier': args.classifier, 'classifier_step': args.classifier_step}
    flags |= {'classifier_scale': args.classifier_scale}
    flags |= {'weights': args.weights and tuple(args.weights)}
    flags |= {'method': method, 'task': args.task, 'strength': args.strength}
    overrides = _of_sampling(args, flags)
    devices.use_cores(count=args.devices)
    _quiet()
    _join(args)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of many processes JAX makes a notice of it
    from jaxdiff.commands import images, sample

    job = sample.prepare(
        args.workdir,
        overrides,
        step=args.step,
        ema=args.ema,
        ema_width=args.ema_width,
        seed=args.seed,
        labels=args.label,
        prompts=args.prompt,
        negative=args.negative,
        images=images.Request(
            tuple(args.image or ()), args.examples, tuple(args.mask or ()), args.degrade
        ),
        source_label=args.source_label,
        source_prompt=args.source_prompt,
        words=not args.no_words,
        out=args.out,
        film=args.film,
        overwrite=args.overwrite,
    )
    return lambda: sample.run(job)


def _of_sampling(args, more=None):
    """The keys of the config's section `sample` that flags give, and what overrides them."""
    flags = {'num': args.num, 'sampler': args.sampler, 'steps': args.steps, 'eta': args.eta}
    flags |= {'guidance': args.guidance, 'batch_size': args.batch_size} | (more or {})
    given = [(f'sample.{k}', str(v)) for k, v in flags.items() if v is not None]
    return given + args.overrides


def _evaluate(args):
    devices.use_cores(count=args.devices)
    _quiet()
    from jaxdiff.commands import evaluate

    job = evaluate.prepare(
        args.workdir,
        _of_sampling(args),
        args.metrics,
        args.features,
        args.split,
        args.held_out,
        args.most,
        args.real,
        step=args.step,
        ema=args.ema,
        ema_width=args.ema_width,
        seed=args.seed,
        overwrite=args.overwrite,
        reuse=args.reuse,
    )
    return lambda: evaluate.run(job)


def _reproduce(args):
    from jaxdiff.commands import reproduce

    if args.smoke:
        devices.compile_in_haste()
    job = reproduce.prepare(args.folder, args.runs, args.smoke, args.sweep, args.anew)
    return lambda: reproduce.run(job)


def _noise(args):
    from jaxdiff import config as configs

    config = configs.load(args.config, args.overrides)
    devices.use_cores()
    _quiet()
    from jaxdiff.commands import noise

    asked = args.workdir, args.out, args.num, args.seed, args.overwrite, args.step
    job = noise.prepare(config, *asked)
    return lambda: noise.run(job)


def _checkpoints(args):
    _without_accelerators()
    _quiet()
    from jaxdiff.commands import checkpoints

    table = checkpoints.table(args.workdir)
    return lambda: [table]


def _show(args):
    _without_accelerators()
    from jaxdiff.commands import show

    made = show.read(args.file)
    shown = json.dumps(made, indent=2) if args.json else show.text(args.file, made)
    return lambda: [shown]


def _diff(args):
    _without_accelerators()
    from jaxdiff.commands import diff

    job = diff.prepare(args.a, args.b, args.out, args.overwrite)
    return lambda: diff.run(job, args.json)


def _export(args):
    _without_accelerators()
    _quiet()
    from jaxdiff.commands import export

    job = export.prepare(
        args.workdir,
        args.out,
        args.overrides,
        step=args.step,
        ema=args.ema,
        ema_width=args.ema_width,
        platforms=args.platforms,
        overwrite=args.overwrite,
    )
    return lambda: export.run(job)


def _plan(args):
    from jaxdiff import config as configs

    config = configs.load(args.config, args.overrides)
    if args.topology:
        devices.use_host()
    else:
        devices.use_cores(config.train.batch_size, config.train.accumulate, args.devices)
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # of a GPU it needs nothing
    _quiet()
    from jaxdiff.commands import plan

    job = plan.prepare(config, args.topology)
    return lambda: plan.run(job)


def _prepare(args):
    from jaxdiff.commands import prepare

    job = prepare.prepare(args.name, args.dir, args.files)
    return lambda: prepare.run(job)


def _without_accelerators():
    """Leaves them to a run that may be using them."""
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')


def _launch(args):
    from jaxdiff.commands import launch

    command = args.arguments[1:] if args.arguments[:1] == ['--'] else args.arguments
    if command[:1] not in (['train'], ['sample']):
        raise ValueError(
            f'what many processes can do is train and sample: launch -n {args.processes} -- train …'
        )
    return lambda: sys.exit(launch.run(command, args.processes, args.restarts))


_COMMANDS = {
    'train': _train,
    'sample': _sample,
    'noise': _noise,
    'checkpoints': _checkpoints,
    'diff': _diff,
    'evaluate': _evaluate,
    'export': _export,
    'launch': _launch,
    'plan': _plan,
    'prepare': _prepare,
    'reproduce': _reproduce,
    'show': _show,
}


def _default_workdir(config):
    return os.path.join('runs', os.path.basename(config).removesuffix('.py'))


def _join(args):
    """Joins the other processes of the job, if there are any."""
    from jaxdiff import distributed

    distributed.initialize(args.coordinator, args.num_processes, args.process_id)


def _speaks():
    """Whether this process is the one that prints for its job."""
    if 'jax' not in sys.modules:
        return True
    from jaxdiff import distributed

    return distributed.primary()


def _quiet():
    """Keeps Orbax's messages off the terminal: of a save that fails there would be hundreds of lines.

    What it says as an error it raises too, and that becomes one line.
    """
    if os.environ.get('JAXDIFF_TRACEBACK'):
        return
    import logging

    import absl.logging

    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(error):
    if 'Event loop is closed' not in str(error.exc_value):  # an array that a failed save gave up
        sys.__unraisablehook__(error)
