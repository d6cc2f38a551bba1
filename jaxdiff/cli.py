"""The command line: parses, calls, prints."""

import argparse
import functools
import os
import sys

from jaxdiff import devices


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; exits with 2 and one line where what the user gave can't work."""
    args = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        work = _COMMANDS[args.command](args)  # an ImportError: an extra that isn't installed
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get('JAXDIFF_TRACEBACK'):
            raise
        print(f'jaxdiff {args.command}: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(2)
    try:
        for path in work():
            print(path)
    except KeyboardInterrupt:
        rest = (
            '; the same command goes on from the last checkpoint' if args.command == 'train' else ''
        )
        print(f'\nstopped{rest}', file=sys.stderr)
        sys.exit(130)


def _train(args):
    from jaxdiff import config as configs

    config = configs.load(args.config, args.overrides)
    devices.use_cores(config.train.batch_size, config.train.accumulate, args.devices)
    _quiet()
    from jaxdiff.commands import train

    workdir = args.workdir or os.path.join(
        'runs', os.path.basename(args.config).removesuffix('.py')
    )
    job = train.prepare(config, workdir)
    return lambda: [train.run(job)]


def _sample(args):
    flags = {'num': args.num, 'sampler': args.sampler, 'steps': args.steps, 'eta': args.eta}
    flags |= {'guidance': args.guidance, 'batch_size': args.batch_size}
    overrides = [(f'sample.{k}', str(v)) for k, v in flags.items() if v is not None]
    overrides += args.overrides
    devices.use_cores(count=args.devices)
    _quiet()
    from jaxdiff.commands import sample

    job = sample.prepare(
        args.workdir,
        overrides,
        step=args.step,
        ema=args.ema,
        seed=args.seed,
        labels=args.label,
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


_COMMANDS = {'train': _train, 'sample': _sample, 'noise': _noise}


def _parse(arguments):
    parser = argparse.ArgumentParser(
        'jaxdiff', description='Diffusion models in JAX.', allow_abbrev=False
    )
    commands = parser.add_subparsers(dest='command', required=True)
    add = functools.partial(commands.add_parser, allow_abbrev=False)

    train = add('train', help='train a model, or go on from its last checkpoint')
    _config(train)
    train.add_argument('--workdir', help="the run's folder or bucket; by default runs/<config>")
    train.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )

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
    sample.add_argument('--guidance', type=float, help='classifier-free guidance scale')
    sample.add_argument(
        '--ema', action=argparse.BooleanOptionalAction, default=True, help='averaged parameters'
    )
    sample.add_argument('--step', type=int, help='which checkpoint; by default the newest')
    sample.add_argument('--batch-size', type=_positive, help='samples drawn at once')
    sample.add_argument('--out', help='write OUT.png and OUT.npz; by default in the workdir')
    sample.add_argument('--film', action='store_true', help='also the way from noise to sample')
    sample.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )

    noise = add('noise', help='show how the forward process destroys examples')
    _config(noise)
    noise.add_argument('--workdir', help='a run whose model also shows the way back')
    noise.add_argument('--num', type=_positive, default=4, help='how many examples')
    noise.add_argument('--seed', type=int, default=0)
    noise.add_argument('--out', default='noise', help='write OUT.png and OUT.gif')

    for command in (sample, noise):
        command.add_argument('--overwrite', action='store_true', help='replace existing files')
    args, rest = parser.parse_known_args(arguments)
    args.overrides, unknown = _overrides(rest)
    if args.command == 'sample':  # the rest of the config is the run's
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


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {text}')
    return number


def _quiet():
    """Keeps Orbax's routine messages off the terminal; its errors stay."""
    from absl import logging

    logging.set_verbosity(logging.ERROR)
