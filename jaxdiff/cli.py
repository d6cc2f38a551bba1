"""The command line: parses, calls, prints."""

import argparse
import functools
import os
import signal
import sys

from jaxdiff import devices


def main(arguments: list[str] | None = None) -> None:
    """Runs one command.

    Exits with 2 and one line where what the user gave can't work, with 3 and one line where the work
    stopped: a disk that is full, training whose numbers aren't finite.
    """
    args = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        work = _COMMANDS[args.command](args)  # an ImportError: an extra that isn't installed
    except (ValueError, OSError, ImportError) as error:
        _refuse(args.command, error, 2)
    try:
        for path in work():
            if _speaks():
                print(path, flush=True)
    except (OSError, FloatingPointError, MemoryError) as error:
        _refuse(args.command, error, 3)
    except KeyboardInterrupt:
        rest = (
            '; the same command goes on from the last checkpoint' if args.command == 'train' else ''
        )
        print(f'\nstopped{rest}', file=sys.stderr)
        _leave(130)


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
    job = train.prepare(config, workdir)
    return lambda: filter(None, [train.run(job)])


def _sample(args):
    flags = {'num': args.num, 'sampler': args.sampler, 'steps': args.steps, 'eta': args.eta}
    flags |= {'guidance': args.guidance, 'batch_size': args.batch_size}
    overrides = [(f'sample.{k}', str(v)) for k, v in flags.items() if v is not None]
    overrides += args.overrides
    devices.use_cores(count=args.devices)
    _quiet()
    _join(args)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of many processes JAX makes a notice of it
    from jaxdiff.commands import sample

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
        out=args.out,
        film=args.film,
        overwrite=args.overwrite,
    )
    return lambda: sample.run(job)


def _noise(args):
    from jaxdiff import config as configs

    config = configs.load(args.config, args.overrides)
    devices.use_cores()
    _quiet()
    from jaxdiff.commands import noise

    job = noise.prepare(config, args.workdir, args.out, args.num, args.seed, args.overwrite)
    return lambda: noise.run(job)


def _checkpoints(args):
    _without_accelerators()
    _quiet()
    from jaxdiff.commands import checkpoints

    table = checkpoints.table(args.workdir)
    return lambda: [table]


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
    'export': _export,
    'launch': _launch,
    'plan': _plan,
    'prepare': _prepare,
}


def _parse(arguments):
    parser = argparse.ArgumentParser(
        'jaxdiff', description='Diffusion models in JAX.', allow_abbrev=False
    )
    commands = parser.add_subparsers(dest='command', required=True)
    add = functools.partial(commands.add_parser, allow_abbrev=False)

    prepare = add('prepare', help='make a data set ready: emoji, mnist5k, digits, fashion_mnist')
    prepare.add_argument('name', help='such as emoji or, with transparency, emoji/rgba')
    prepare.add_argument('--dir', default='', help='where TFDS keeps its sets, as config.data.dir')
    prepare.add_argument(
        '--from', dest='files', default='', help="a folder that holds the packages' files already"
    )

    train = add('train', help='train a model, or go on from its last checkpoint')
    _config(train)
    train.add_argument('--workdir', help="the run's folder or bucket; by default runs/<config>")
    train.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )

    _many(train)

    sample = add('sample', help="draw samples from a run's checkpoint")
    sample.add_argument('--workdir', required=True, help="a training run's folder")
    sample.add_argument('--num', type=_positive, help='how many samples')
    sample.add_argument('--seed', type=int, default=0, help='sample i is made from (seed, i)')
    sample.add_argument(
        '--sampler',
        help='ddim, ddpm, heun, dpmpp_2m, unipc …; --config.sample.KEY=VALUE changes a key',
    )
    sample.add_argument('--steps', type=_positive, help="the sampler's steps")
    sample.add_argument('--eta', type=float, help="DDIM's noise, 0 to 1")
    sample.add_argument('--label', nargs='+', help='classes to draw, by number or name, in turn')
    sample.add_argument('--prompt', nargs='+', help='texts to draw, in turn')
    sample.add_argument('--negative', help='a text that guidance leads away from')
    sample.add_argument('--guidance', type=float, help='classifier-free guidance scale')
    sample.add_argument('--batch-size', type=_positive, help='samples drawn at once')
    sample.add_argument('--out', help='write OUT.png and OUT.npz; by default in the workdir')
    sample.add_argument('--film', action='store_true', help='also the way from noise to sample')
    sample.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )
    _many(sample)

    noise = add('noise', help='show how the forward process destroys examples')
    _config(noise)
    noise.add_argument('--workdir', help='a run whose model also shows the way back')
    noise.add_argument('--num', type=_positive, default=4, help='how many examples')
    noise.add_argument('--seed', type=int, default=0)
    noise.add_argument('--out', default='noise', help='write OUT.png and OUT.gif')

    checkpoints = add('checkpoints', help="list a run's checkpoints")
    checkpoints.add_argument('--workdir', required=True, help="a training run's folder")

    export = add('export', help="a run's parameters or sampler for other programs")
    export.add_argument('--workdir', required=True, help="a training run's folder")
    export.add_argument(
        '--out', required=True, help='P.safetensors for the parameters, P.stablehlo for a sampler'
    )
    export.add_argument(
        '--platforms', nargs='+', help='that a sampler will run on; by default cpu cuda tpu'
    )

    launch = add('launch', help='a job of many processes on this machine: launch -n 2 -- train …')
    launch.add_argument('-n', '--processes', type=_positive, required=True, help='how many')
    launch.add_argument(
        '--restarts', type=_natural, default=3, help='times to start again when a process dies'
    )
    launch.add_argument('arguments', nargs=argparse.REMAINDER, help='-- and the command to launch')

    plan = add('plan', help='what a training run will ask of its devices')
    _config(plan)
    where = plan.add_mutually_exclusive_group()
    where.add_argument('--devices', type=_positive, help='CPU devices to plan for')
    where.add_argument(
        '--topology', default='', help="TPUs that aren't here, such as v5e:16x16; needs libtpu"
    )

    for command in (sample, export):
        command.add_argument(
            '--ema', action=argparse.BooleanOptionalAction, default=True, help='averaged parameters'
        )
        command.add_argument(
            '--ema-width', type=float, help='relative width of an average made of ema.profiles'
        )
        command.add_argument('--step', type=int, help='which checkpoint; by default the newest')
    for command in (sample, noise, export):
        command.add_argument('--overwrite', action='store_true', help='replace existing files')
    args, rest = parser.parse_known_args(arguments)
    args.overrides, unknown = _overrides(rest)
    if args.command in ('checkpoints', 'launch', 'prepare'):  # no config
        unknown = rest
    elif args.command in ('sample', 'export'):  # the rest of the config is the run's
        unknown = [*unknown, *(k for k, _ in args.overrides if not k.startswith('sample.'))]
    if unknown:
        commands.choices[args.command].error(f'unrecognized arguments: {" ".join(unknown)}')
    return args


def _config(parser):
    parser.add_argument(
        '--config',
        required=True,
        help="a packaged config's name or a config file's path; --config.KEY=VALUE changes a key",
    )


def _overrides(rest):
    """([(key, value)], what else there is) of arguments --config.KEY=VALUE or --config.KEY VALUE."""
    pairs, unknown, rest = [], [], list(rest)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.removeprefix('--config.').partition('=')
        if not argument.startswith('--config.') or not (equals or rest):
            unknown.append(argument)
        else:
            pairs.append((key, value if equals else rest.pop(0)))
    return pairs, unknown


def _many(parser):
    group = parser.add_argument_group('many processes', 'where no cluster says how they meet')
    group.add_argument('--coordinator', help='host:port at which process 0 listens')
    group.add_argument('--num_processes', type=_positive, help='how many processes there are')
    group.add_argument('--process_id', type=_natural, help='which one this is, from 0 on')


def _positive(text):
    return _at_least(1, text)


def _natural(text):
    return _at_least(0, text)


def _at_least(least, text):
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f'must be at least {least}, got {text}')
    return number


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
