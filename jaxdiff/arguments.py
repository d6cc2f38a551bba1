"""What may stand on the command line."""

import argparse
import functools

# Keys that may differ from the run's: how it is sampled from, and where what reads texts lies.
_OF_SAMPLING = ('sample.', 'degradation.', 'text.path', 'text.tokenizer', 'text.vocabulary')


def parse(given: list[str]) -> argparse.Namespace:
    """The command, its flags, and `overrides`, the pairs (key, value) of --config.KEY=VALUE.

    Exits with 2 where they can't be read.
    """
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
    train.add_argument(
        '--profile', action='store_true', help='trace some of the first steps, and sum them up'
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
    sample.add_argument(
        '--weights', nargs='+', type=float, help='draw all prompts at once, so strongly each'
    )
    sample.add_argument('--guidance', type=float, help='classifier-free guidance scale')
    sample.add_argument('--weaker', help='autoguidance: the folder of an older or smaller run')
    sample.add_argument(
        '--weaker-step', type=_positive, help='its checkpoint; by default the newest'
    )
    sample.add_argument(
        '--classifier', help="the folder of a classifier's run that leads to --label"
    )
    sample.add_argument(
        '--classifier-step', type=_positive, help='its checkpoint; by default the newest'
    )
    sample.add_argument('--classifier-scale', type=float, help='how strongly it leads')
    _from_images(sample)
    sample.add_argument('--batch-size', type=_positive, help='samples drawn at once')
    sample.add_argument('--out', help='write OUT.png and OUT.npz; by default in the workdir')
    sample.add_argument(
        '--no-words', action='store_true', help='leave prompts out of what is written'
    )
    sample.add_argument('--film', action='store_true', help='also the way from noise to sample')
    sample.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )
    _many(sample)

    evaluate = add('evaluate', help="measure how good a run's samples are")
    evaluate.add_argument('--workdir', required=True, help="a training run's folder")
    evaluate.add_argument(
        '--features', help="what they are seen by: a classifier's folder, mobilenet, inception:FILE"
    )
    evaluate.add_argument(
        '--metrics',
        nargs='+',
        help='frechet, kernel, precision, density, diversity, copies, score, agreement; without '
        'features bound, flow (bits per dimension), psnr, ssim; by default all that apply but bound '
        'and flow',
    )
    evaluate.add_argument('--num', type=_positive, default=5000, help='how many samples')
    evaluate.add_argument(
        '--split', help='of the data, to measure against; by default the training set'
    )
    evaluate.add_argument('--held-out', default='test', help='split that the model has not seen')
    evaluate.add_argument(
        '--most', type=_positive, default=50_000, help='images of a split that are looked at'
    )
    evaluate.add_argument(
        '--real', metavar='SPLIT', help='measure real images, those of a split, instead of samples'
    )
    evaluate.add_argument('--seed', type=int, default=0, help='sample i is made from (seed, i)')
    evaluate.add_argument('--sampler', help='as of sample')
    evaluate.add_argument('--steps', type=_positive, help="the sampler's steps")
    evaluate.add_argument('--eta', type=float, help="DDIM's noise, 0 to 1")
    evaluate.add_argument('--guidance', type=float, help='classifier-free guidance scale')
    evaluate.add_argument('--batch-size', type=_positive, help='samples drawn at once')
    evaluate.add_argument(
        '--reuse',
        action='store_true',
        help='take figures that were measured so before, by this commit and these versions',
    )
    evaluate.add_argument(
        '--devices', type=_positive, help='CPU devices to make; by default the cores'
    )

    reproduce = add('reproduce', help='run an experiment and compare with what is expected of it')
    reproduce.add_argument('folder', help='such as experiments/digits_ddpm')
    reproduce.add_argument('--runs', default='runs', help="folder of the experiments' runs")
    reproduce.add_argument(
        '--smoke',
        action='store_true',
        help='all of it in a minute or two, tiny, to see that it runs; the figures tell nothing',
    )
    reproduce.add_argument(
        '--anew', action='store_true', help='measure again what was measured before'
    )
    reproduce.add_argument(
        '--sweep',
        nargs='+',
        action='append',
        default=[],
        metavar=('KEY', 'VALUE'),
        help='at every point of a grid of settings: --sweep net.channels 16 32 --sweep seed 0 1',
    )

    noise = add('noise', help='show how the forward process destroys examples')
    _config(noise)
    noise.add_argument('--workdir', help='a run whose model also shows the way back')
    noise.add_argument('--step', type=int, help='which checkpoint of it; by default the newest')
    noise.add_argument('--num', type=_positive, default=4, help='how many examples')
    noise.add_argument('--seed', type=int, default=0)
    noise.add_argument('--out', default='noise', help='write OUT.png and OUT.gif')

    checkpoints = add('checkpoints', help="list a run's checkpoints")
    checkpoints.add_argument('--workdir', required=True, help="a training run's folder")

    show = add('show', help='what made a file, and the command that makes it again')
    show.add_argument('file', help='a .png, .gif, .npz, .safetensors or .stablehlo')
    show.add_argument('--json', action='store_true', help='all that it says, as JSON')

    diff = add(
        'diff',
        help='in what two runs differ, and how their curves and metrics compare',
        description='Exits with 0 whether they differ or not, with 2 where one cannot be read.',
    )
    diff.add_argument('a', metavar='A', help="a run's folder, or a file that `show` reads")
    diff.add_argument('b', metavar='B', help='the other')
    diff.add_argument('--json', action='store_true', help='all that was found, as JSON')
    diff.add_argument('--out', help='draw the losses of two runs over each other, in OUT.png')

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

    for command in (sample, evaluate, export):
        command.add_argument(
            '--ema', action=argparse.BooleanOptionalAction, default=True, help='averaged parameters'
        )
        command.add_argument(
            '--ema-width', type=float, help='relative width of an average made of ema.profiles'
        )
        command.add_argument('--step', type=int, help='which checkpoint; by default the newest')
    for command in (sample, evaluate, noise, export, diff):
        command.add_argument('--overwrite', action='store_true', help='replace existing files')
    args, rest = parser.parse_known_args(given)
    args.overrides, unknown = _overrides(rest)
    if args.command in (
        'checkpoints',
        'diff',
        'launch',
        'prepare',
        'reproduce',
        'show',
    ):  # no config
        unknown = rest
    elif args.command in ('sample', 'evaluate', 'export'):  # the rest of the config is the run's
        unknown = [
            *unknown,
            *(k for k, _ in args.overrides if not k.startswith(_OF_SAMPLING)),
        ]
    if unknown:
        commands.choices[args.command].error(f'unrecognized arguments: {" ".join(unknown)}')
    return args


def _from_images(parser):
    group = parser.add_argument_group('samples from images')
    group.add_argument('--image', nargs='+', help='images to start from, taken in turn')
    group.add_argument('--examples', help="or those of a split of the run's data: 'test[:16]'")
    group.add_argument('--mask', nargs='+', help='white where to draw; by default the transparency')
    group.add_argument(
        '--degrade',
        action='store_true',
        help='the images are whole: measure them first, then tell how near the samples come',
    )
    group.add_argument(
        '--method', help='sdedit, invert, interpolate, replacement, repaint, ddnm, dps or pigdm'
    )
    group.add_argument('--strength', type=float, help='sdedit: how far towards the noise, 0 to 1')
    group.add_argument(
        '--task', help='what ddnm, dps and pigdm undo: super_resolution, inpaint, colorize …'
    )
    group.add_argument('--source-label', help='invert, interpolate: the class of the images')
    group.add_argument('--source-prompt', help='invert, interpolate: what the images show')


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
