"""`jaxdiff noise`: the forward branch of the textbook's picture, and with a run both."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build, manifest
from jaxdiff.codecs import Codec
from jaxdiff.commands import sample as sampling
from jaxdiff.commands.folder import check_writable
from jaxdiff.diffusion.gaussian import marginal
from jaxdiff.diffusion.schedule import Schedule
from jaxdiff.viz import film, grid


class Job(NamedTuple):
    """A checked request for a film of the forward process."""

    schedule: Schedule
    codec: Codec
    images: np.ndarray  # uint8 [n, h, w, c]
    seed: int
    reverse: sampling.Job | None
    out: epath.Path
    made: dict


def prepare(
    config: ConfigDict,
    workdir: str | None,
    out: str,
    num: int = 4,
    seed: int = 0,
    overwrite: bool = False,
    step: int | None = None,
) -> Job:
    """Reads examples of the config's data; with `workdir` also that run's model, for the way back.

    Args:
      step: which checkpoint of that run; None is the newest.

    Raises: ValueError or FileNotFoundError on a bad config, data set or run, or files in the way.
    """
    build.check(config)
    dataset = build.dataset(config)
    path = epath.Path(out)
    check_writable(path.parent)
    for ending in ('.png', '.gif'):
        if (path.parent / (path.name + ending)).exists() and not overwrite:
            raise ValueError(f'{path}{ending} exists: give another --out, or --overwrite')
    if not 1 <= num <= len(dataset.source):
        raise ValueError(f'--num must lie between 1 and {len(dataset.source)}, got {num}')
    if not 0 <= seed < 2**32:
        raise ValueError(f'--seed must lie between 0 and 2**32 - 1, got {seed}')
    reverse = None
    if workdir:
        overrides = [('sample.num', str(num)), ('sample.batch_size', str(num))]
        reverse = sampling.prepare(
            workdir, overrides, step=step, seed=seed, out=out, overwrite=True
        )
        for key in ('data', 'codec', 'diffusion'):
            if config[key] != reverse.config[key]:
                raise ValueError(
                    f"{workdir} was trained with other values of 'config.{key}': "
                    'give the config of that run'
                )
    chosen = np.random.default_rng(seed).choice(len(dataset.source), num, replace=False)
    images = np.stack([dataset.source[int(i)]['image'] for i in chosen])
    made = {
        'made_by': 'jaxdiff noise',
        'generated': bool(reverse),
        'examples': chosen.tolist(),
        'seed': seed,
        'config': config.to_dict(),
        'data': manifest.describe(dataset),
        'run': reverse and reverse.made,
        **manifest.here(),
    }
    schedule = build.noise_schedule(config)
    if schedule is None:
        if reverse is None:
            raise ValueError('a learned schedule is known from its run only: give --workdir')
        schedule = build.schedule_of(reverse.model, reverse.params)
    codec = reverse.model.codec if reverse else build.codec(config, dataset.levels)
    return Job(schedule, codec, images, seed, reverse, path, made)


def run(job: Job) -> list[epath.Path]:
    """Draws and writes the film strip and the animation; returns the two files."""
    branches, made = [forward_branch(job.schedule, job.codec, job.images, job.seed)], job.made
    if job.reverse:
        r = job.reverse
        draw = sampling.sampler(r.config, r.model, film=True)
        n = len(job.images)
        ((frames, finite),) = sampling.draw_all(draw, r.model, r.params, r.cond, r.seed, n, n)
        made = made | sampling.not_finite(finite)
        branches.append(sampling.reverse_branch(r.config, r.model, r.params, frames))
    job.out.parent.mkdir(parents=True, exist_ok=True)
    paths = [job.out.parent / (job.out.name + ending) for ending in ('.png', '.gif')]
    grid.save_png(paths[0], film.figure(branches, rows=len(job.images)), made)
    film.animation(paths[1], branches, made)
    return paths


def _decode(decode, weights, frames):
    return jax.lax.map(functools.partial(decode, weights), frames)


def forward_branch(
    schedule: Schedule, codec: Codec, images: np.ndarray, seed: int, steps: int = 50
) -> film.Branch:
    """Images uint8 [n, h, w, c] under the same noise at times 0 … 1: x_t of equation (6)."""
    key_encode, key_noise = jax.random.split(jax.random.key(seed))
    prepared = codec.prepare(codec.weights, jnp.asarray(images))
    x0 = codec.encode(jax.random.split(key_encode, len(images)), prepared)
    eps = jax.random.normal(key_noise, x0.shape)
    times = jnp.linspace(0, 1, steps + 1)
    x_t = jax.vmap(lambda t: marginal(schedule, x0, eps, t))(times)
    title = 'forward: from an example to noise'
    return film.Branch(
        title,
        np.asarray(jax.jit(_decode, static_argnums=0)(codec.decode, codec.weights, x_t)),
        np.asarray(times),
    )
