"""The latents of an autoencoder's run: what a latent diffusion model is trained on and decodes by.

A run in latents keeps the autoencoder in `codec.safetensors` in its folder, with the shift and scale
that were measured, so that it needs the autoencoder's own run no more once it has begun.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxdiff import build, codecs, config as configs, data, distributed
from jaxdiff.commands import kept, run as runs
from jaxdiff.data.fingerprint import digest
from jaxdiff.data.source import PIXELS, read, stack
from jaxdiff.interop import safetensors
from jaxdiff.paths import in_bucket
from jaxdiff.training import checkpoint, parallel

FILE = 'codec.safetensors'
_TOGETHER = 64  # images encoded at once


class Frozen(NamedTuple):
    """An autoencoder that isn't trained any more."""

    model: build.Autoencoder
    params: Any  # NumPy's
    shift: np.ndarray  # of the latent's channels, float32 [d]
    scale: np.ndarray
    measured: bool  # whether those two are
    made: dict  # where it comes from, see `run.origin`

    def codec(self) -> codecs.Codec:
        """Its latents as a space for diffusion."""
        prepared = jax.eval_shape(
            lambda: self.model.net.apply(
                self.params, np.zeros((1, *self.model.shape), np.float32), method='encode'
            )
        )
        shape = (*prepared.shape[1:-1], self.model.net.latent_channels)
        return codecs.latent.latent(
            self.model.net, self.params, self.model.codec, shape, self.shift, self.scale
        )


def of_config(
    config: ConfigDict, shape: tuple[int, ...], workdir: epath.Path | None = None
) -> Frozen | None:
    """The autoencoder of a run that trains, or will, in its latents; None for a run in pixels.

    Args:
      shape: of the data's images.
      workdir: the run's folder; where it holds no autoencoder yet, that of `codec.path` is read.

    Raises: ValueError where there is none, or it is of images of another shape.
    """
    if config.codec.name == 'pixels':
        return None
    if workdir and in_bucket(workdir):
        raise ValueError(f'a run in latents must have its folder on a disk, got {workdir}')
    begun = workdir and (workdir / FILE).exists()
    found = load(workdir) if begun else _of_run(config.codec.path)
    if found.model.shape != tuple(shape):
        size, own = ('x'.join(map(str, s)) for s in (shape, found.model.shape))
        raise ValueError(f'the autoencoder is of images of {own}, the data has {size}')
    return found


def check_kept(config: ConfigDict, workdir: epath.Path) -> None:
    """Raises a ValueError where a run in latents that has begun has lost its autoencoder.

    Another one's latents, or another scale, would be another space.
    """
    begun = checkpoint.steps_in(checkpoint.folder(workdir))
    if config.codec.name == 'latent' and begun and not (workdir / FILE).exists():
        raise ValueError(
            f'{workdir / FILE} is missing, the autoencoder that this run began with: restore it '
            'from a copy, or give another --workdir'
        )


def _of_run(path):
    run = runs.find(path, kinds=('autoencoder',))
    params = build.of_codec(parallel.local(runs.parameters(run)))
    params = jax.tree.map(np.asarray, params)
    d = run.model.net.latent_channels
    shift, scale = np.zeros(d, np.float32), np.ones(d, np.float32)
    return Frozen(run.model, params, shift, scale, False, runs.origin(run))


def load(workdir: epath.Path) -> Frozen:
    """The autoencoder that a run in latents keeps.

    Raises: ValueError where its file is broken.
    """
    try:
        tree, told = safetensors.load(workdir / FILE)
        made = json.loads(told['made'])
        config = configs.loads(json.dumps(made['run']['config']))
        shape, levels = made['run']['data']['shape'], made['run']['data']['levels']
        shift, scale = tree.pop('shift'), tree.pop('scale')
    except Exception as error:  # of safetensors, JSON, a missing part
        raise ValueError(f'{workdir / FILE} cannot be read: {error}') from error
    model = build.model(config, shape, levels, 0)
    return Frozen(model, tree, shift, scale, True, made)


def save(frozen: Frozen, workdir: epath.Path) -> None:
    """Keeps it with a run in latents, whole or not at all."""
    new = workdir / f'{FILE}.new'
    tree = frozen.params | {'shift': frozen.shift, 'scale': frozen.scale}
    made = {'made_by': 'jaxdiff train', 'content': 'an autoencoder, kept'} | frozen.made
    safetensors.save(new, tree, {'made': json.dumps(made)})
    new.replace(workdir / FILE)


class Prepared:
    """A source whose images are what `Codec.prepare` made of them, which `pixels` keeps beside it."""

    def __init__(self, source: Any, prepared: np.ndarray, pixels: bool = False):
        self.images, self._prepared, self._pixels = source, prepared, pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, examples: list[int]) -> list[dict]:
        found = read(self.images, examples)
        kept = [{PIXELS: e['image']} if self._pixels else {} for e in found]
        return [e | {'image': self._prepared[i]} | k for e, i, k in zip(found, examples, kept)]


def settle(
    frozen: Frozen, dataset: data.Dataset, workdir: epath.Path, pixels: bool = False
) -> tuple[Frozen, data.Dataset]:
    """The autoencoder with its shift and scale measured and kept, and the data in its latents.

    What the encoder says of each image is computed once, and kept where the data set lies. With
    `pixels` the images stand beside it.
    """
    prepared = _kept(frozen, dataset)
    if not frozen.measured:
        shift, scale = measure(frozen, prepared)
        frozen = frozen._replace(shift=shift, scale=scale, measured=True)
        if distributed.primary():
            save(frozen, workdir)
    return frozen, dataset._replace(source=Prepared(dataset.source, prepared, pixels))


def measure(frozen: Frozen, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of the latents, over all of them."""
    codec = frozen._replace(
        shift=np.zeros_like(frozen.shift), scale=np.ones_like(frozen.scale)
    ).codec()
    encode, sums = jax.jit(codec.encode), 0.0
    for start in range(0, len(prepared), _TOGETHER):
        part = prepared[start : start + _TOGETHER]
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), start), len(part))
        z = np.asarray(encode(keys, part), np.float64).reshape(-1, len(frozen.shift))
        sums = sums + np.array([np.full(len(frozen.shift), len(z)), z.sum(0), (z**2).sum(0)])
    n, first, second = sums
    mean = first / n
    variance = second / n - mean**2
    if not (np.isfinite(variance).all() and variance.min() > 1e-10 * np.square(mean).max()):
        raise OSError(
            'the autoencoder has latents without a finite mean and deviation above 0 (deviations '
            f'{np.sqrt(np.maximum(variance, 0)).tolist()}): train it longer, or with fewer '
            'latent_channels'
        )
    return np.float32(mean), np.float32(np.sqrt(variance))


def _kept(frozen, dataset):
    """What the encoder says of all images, float16 [n, …]."""
    if not dataset.place:
        return _prepare(frozen, dataset)
    weights = [np.asarray(x).tobytes() for x in jax.tree.leaves(frozen.params)]
    file = Path(dataset.place) / f'latents_{digest(dataset.fingerprint, *weights)}.npy'
    if distributed.primary() and not file.exists():
        kept.write(file, _prepare(frozen, dataset), 'the latents')
    distributed.barrier('latents kept')
    if not file.exists():  # on a machine of its own
        kept.write(file, _prepare(frozen, dataset), 'the latents')
    try:
        prepared = np.load(file, mmap_mode='r')
        whole = len(prepared) == len(dataset.source)
    except (ValueError, EOFError):
        whole = False
    if not whole:
        raise OSError(f'{file} does not hold the latents of this data set: delete it')
    return prepared


def _prepare(frozen, dataset):
    codec, n, found = frozen.codec(), len(dataset.source), []
    prepare = jax.jit(codec.prepare)
    for start in tqdm(
        range(0, n, _TOGETHER),
        desc='latents',
        unit='batch',
        dynamic_ncols=True,
        disable=not distributed.primary(),
    ):
        rows = np.minimum(np.arange(start, start + _TOGETHER), n - 1).tolist()  # one shape
        images = stack(read(dataset.source, rows))['image']
        found.append(np.asarray(prepare(codec.weights, images))[: n - start])
    return np.concatenate(found)
