"""The images that samples are made from: read, checked against a run, and measured.

They are whole ones, or what a degradation has left of them; of inpainting a mask says what is
missing, or the images' transparency.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from jaxdiff import build, data
from jaxdiff.build import editing, names, tasks
from jaxdiff.commands import run as runs
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.image import check_depth, decode
from jaxdiff.data.source import read, stack
from jaxdiff.diffusion import degradation
from jaxdiff.diffusion.degradation import Measurement

# What images of so many channels may be: Pillow's modes.
_MODES = {1: ('L', '1', 'LA'), 3: ('RGB', 'P', 'RGBA'), 4: ('RGBA',)}
_BLANK = 128  # what stands where nothing is known


class Request(NamedTuple):
    """What was asked for."""

    files: tuple[str, ...] = ()
    split: str | None = None  # of the run's data, instead of files
    mask: tuple[str, ...] = ()  # files, white where pixels are to be drawn
    degrade: bool = False  # whether the images are whole, and are to be measured first
    whole: np.ndarray | None = None  # of the split, where they are read already


class Given(NamedTuple):
    """Images that were given, checked against the run that samples."""

    images: np.ndarray  # uint8 [n, h, w, c]
    known: np.ndarray | None  # float32 [n, h, w, 1], 1.0 where a pixel is known; None: not asked
    task: tasks.Task | None  # that measured them, or will
    degrade: bool
    made: dict  # where they come from


class Start(NamedTuple):
    """What samples are made from, an entry for each."""

    cond: dict[str, np.ndarray]  # 'image' for a network that is told one
    given: dict[str, np.ndarray] | None  # for `build.sampling`
    shown: tuple[np.ndarray, ...]  # uint8 [num, h, w, c]: the whole images, the degraded ones
    whole: np.ndarray | None  # of these the first, where it may be compared with the sample


def given(request: Request, trained: runs.Run) -> Given | None:
    """The images of a request; None where it has none.

    Raises: ValueError where request, run and images don't fit each other.
    """
    method, trained_for = trained.config.sample.method, trained.config.task
    what = f'sample.method={method!r}' if method else f'a model of task={trained_for!r}'
    if request.files and request.split:
        raise ValueError('give either --image or --examples')
    if not (request.files or request.split):
        if method or trained_for:
            raise ValueError(f'{what} starts from images: give --image or --examples')
        if request.mask or request.degrade:
            raise ValueError('--mask and --degrade are of images: give --image')
        return None
    if not (method or trained_for):
        raise ValueError(
            '--image needs what is to be made of it: --strength, or --method, and with ddnm, dps and '
            'pigdm --task'
        )
    task, name = _task(trained)
    if request.degrade and not task:
        raise ValueError(f'--degrade is for what undoes a degradation, not for {what}')
    if request.mask and name != 'inpaint':
        raise ValueError(f'--mask is for inpainting, not for {what}')
    if request.split and task and not request.degrade:
        raise ValueError('--examples are whole images: give --degrade to measure them first')
    shape = tuple(trained.model.data_shape)
    if task and name != 'inpaint' and not request.degrade:
        shape = tasks.measured_shape(task, shape)
    if request.split:
        images, opaque = request.whole, None
        if images is None:
            images = _examples(trained.config, request.split)
        made = {'examples': request.split}
    else:
        found = [_open(file, shape, 'an image') for file in request.files]
        images, opaque = (np.stack(parts) for parts in zip(*found))
        made = {'files': list(request.files), 'digests': [digest(x.tobytes()) for x in images]}
    if method == 'interpolate' and len(images) != 2:
        raise ValueError(f"sample.method='interpolate' is between two images, got {len(images)}")
    known = None
    if name == 'inpaint':
        known = _known(request, len(images), shape, opaque)
        made |= {'mask': list(request.mask)}
    return Given(images, known, task, request.degrade, made | {'degraded_here': request.degrade})


def start(given: Given, config: ConfigDict, model: build.Model, num: int, seed: int) -> Start:
    """What `num` samples are made from, the images being taken in turn.

    What is drawn to measure image i of them, noise or a box, is decided by (seed, i).
    """
    method = config.sample.method
    rows = np.arange(num) % len(given.images)
    images = given.images[rows]
    if method == 'interpolate':
        ends = (np.repeat(given.images[i : i + 1], num, 0) for i in range(2))
        share = np.linspace(0, 1, num, dtype=np.float32)
        return Start({}, dict(zip(('image', 'other', 'share'), (*ends, share))), (), None)
    if not given.task:
        return Start({}, {'image': images}, (images,), None)
    measured = _measure(given, rows, seed)
    whole = (images,) if given.degrade else ()
    if method in names.PARTS:
        blank = np.where(measured.known > 0, images, _BLANK).astype(np.uint8)
        arrays = {'image': blank, 'known': measured.known}
        return Start({}, arrays, (*whole, blank), *whole or [None])
    shown = (*whole, _picture(given.task, measured, model.data_shape[-1]))
    if method in names.LINEAR:
        arrays = {'y': measured.y} | ({} if measured.known is None else {'known': measured.known})
        return Start({}, arrays, shown, *whole or [None])
    told = np.asarray(tasks.picture(given.task, measured))
    return Start({'image': told}, None, shown, *whole or [None])


def _task(trained):
    """The task of the run, or of its method, and its name."""
    config, model = trained.config, trained.model
    if config.task:
        return model.task, config.task
    if config.sample.method in names.LINEAR:
        return editing.task(config, model, config.sample.task), config.sample.task
    if config.sample.method in names.PARTS:
        return editing.task(config, model, 'inpaint'), 'inpaint'
    return None, ''


def _measure(given, rows, seed):
    x, noise = given.task.scale(given.images[rows]), given.task.degradation.noise
    own = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)  # a key that is no sample's
    keys = jax.vmap(jax.random.fold_in, (None, 0))(own, jnp.arange(len(rows)))
    if given.known is not None:
        noise = noise if given.degrade else 0.0
        measured = degradation.masked(keys, x, given.known[rows], noise)
    elif given.degrade:
        measured = given.task.degradation.measure(keys, x)
    else:
        measured = Measurement(x)
    return jax.tree.map(np.asarray, measured)


def _picture(task, measured, channels):
    """A measurement as images, uint8 [n, h, w, channels]."""
    seen = np.asarray(task.degradation.picture(measured))[..., :channels]
    seen = np.round((np.clip(seen, -1, 1) + 1) / 2 * 255).astype(np.uint8)
    return np.broadcast_to(seen, (*seen.shape[:-1], channels))


def _examples(config, split):
    c = config.data
    dataset = data.load(c.name, c.path, c.dir, split, c.image_size)
    if not len(dataset.source):
        raise ValueError(f'--examples {split} holds no images')
    return stack(read(dataset.source, list(range(len(dataset.source)))))['image']


def _known(request, n, shape, opaque):
    """Where images are known; None where boxes are to be drawn when they are degraded."""
    if request.mask:
        if len(request.mask) not in (1, n):
            raise ValueError(
                f'--mask takes one file or one for each of {n} images, got {len(request.mask)}'
            )
        masks = [_open(file, (*shape[:2], 1), 'a mask')[0] >= 128 for file in request.mask]
        known = np.resize(1 - np.stack(masks).astype(np.float32), (n, *shape[:2], 1))
    elif opaque is not None and shape[-1] < 4 and not opaque.all():
        known = opaque
    elif request.degrade:
        return None
    else:
        raise ValueError(
            'which pixels are to be drawn? Give --mask, white there, or images that are transparent '
            'there; with --degrade boxes are drawn'
        )
    for i, one in enumerate(known):
        if one.all() or not one.any():
            told = 'leaves nothing to draw' if one.all() else 'leaves nothing to go by'
            raise ValueError(
                f'the mask of image {i + 1} {told}: white is what is to be drawn, black what is known'
            )
    return known


def _open(file, shape, what):
    """(pixels uint8 [h, w, c], what is transparent laid on white; 1.0 where opaque [h, w, 1])."""
    path, allowed = epath.Path(file), _MODES[shape[-1]]
    if not path.exists():
        raise FileNotFoundError(f'there is no image {file}')
    try:
        with path.open('rb') as opened, Image.open(opened) as image:
            check_depth(image)
            size, mode = (image.height, image.width), image.mode
            alpha = np.asarray(image.convert('RGBA'))[..., 3:]
    except (OSError, ValueError) as error:
        raise ValueError(f'{file} cannot be read as an image: {error}') from error
    if size != tuple(shape[:2]) or mode not in allowed:
        advice = 'resize it' if size != tuple(shape[:2]) else 'convert it'
        raise ValueError(
            f'{file} has {size[1]} x {size[0]} pixels and the mode {mode}, and {what} must have '
            f'{shape[1]} x {shape[0]} and {" or ".join(allowed)} here: {advice}'
        )
    with path.open('rb') as opened:
        return decode(opened, shape[-1]), (alpha >= 128).astype(np.float32)
