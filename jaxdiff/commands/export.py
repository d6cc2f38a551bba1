"""`jaxdiff export`: a run's parameters, or its sampler, for programs that don't know jaxdiff."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxdiff import build
from jaxdiff.commands import run as runs
from jaxdiff.commands.folder import check_writable
from jaxdiff.interop import safetensors, stablehlo


class Job(NamedTuple):
    """A checked request for an export."""

    config: ConfigDict
    model: build.Model
    params: Any
    out: epath.Path
    platforms: tuple[str, ...]
    made: dict


def prepare(
    workdir: str,
    out: str,
    overrides: Iterable[tuple[str, str]] = (),
    step: int | None = None,
    ema: bool = True,
    ema_width: float | None = None,
    platforms: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Job:
    """Reads a run and checks a request against it; writes nothing.

    Args:
      workdir: a training run's folder.
      out: 'P.safetensors' for the parameters, or 'P.stablehlo' for the sampler, which gets a
        'P.json' beside it.
      overrides: of the config's `sample.` keys; for a sampler.
      step: which checkpoint; None is the newest.
      ema: the averaged parameters rather than the last ones.
      ema_width: of an average made of the run's profiles instead, see `posthoc`.
      platforms: that the sampler will run on; None is cpu, cuda and tpu at once.

    Raises: ValueError for no run or checkpoint, an impossible request, or files that are there.
    """
    path, overrides = epath.Path(out), tuple(overrides)
    sampler = path.suffix == '.stablehlo'
    if not sampler and path.suffix != '.safetensors':
        raise ValueError(
            f'--out must end in .safetensors (parameters) or .stablehlo (a sampler), got {out}'
        )
    if not sampler and (overrides or platforms is not None):
        raise ValueError(
            '--platforms and --config.sample.* are for a sampler, --out ….stablehlo: parameters '
            'are the same for all'
        )
    platforms = tuple(stablehlo.PLATFORMS[:3] if platforms is None else platforms)
    known = set(platforms) <= set(stablehlo.PLATFORMS)
    if not (platforms and known) or len(set(platforms)) < len(platforms):
        raise ValueError(
            f'--platforms must be some of {", ".join(stablehlo.PLATFORMS)}, each once, '
            f'got {" ".join(platforms)}'
        )
    run = runs.find(workdir, overrides, step, ema, ema_width)
    if sampler and run.model.text:
        raise ValueError(
            '--out ….stablehlo is for models of classes or none: a text goes through a tokenizer, '
            'which such a program cannot hold; export the parameters as .safetensors'
        )
    c = run.config.sample
    if sampler and (c.weaker or c.classifier):
        raise ValueError(
            '--out ….stablehlo holds one model: leave sample.weaker and sample.classifier away'
        )
    if sampler and (run.config.task or c.method):
        raise ValueError(
            '--out ….stablehlo is for samplers that start from noise alone, not from images; export '
            'the parameters as .safetensors'
        )
    check_writable(path.parent)
    for each in _outputs(path):
        if each.exists() and not overwrite:
            raise ValueError(f'{each} exists: give another --out, or --overwrite')
    params = runs.parameters(run)
    if sampler:
        params = build.with_codec(run.model, params)
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    if sampler and size > stablehlo.LARGEST:
        raise ValueError(
            f'a sampler holds at most {stablehlo.LARGEST:,} bytes of parameters, and these are '
            f'{size:,}: export them as .safetensors'
        )
    made = {'made_by': 'jaxdiff export', **runs.origin(run), 'out': str(path)}
    return Job(run.config, run.model, params, path, platforms, made)


def run(job: Job) -> list[epath.Path]:
    """Writes the parameters, or the sampler and what it is; returns the files."""
    job.out.parent.mkdir(parents=True, exist_ok=True)
    paths = _outputs(job.out)
    new = [path.parent / f'{path.name}.new' for path in paths]
    if len(paths) == 1:
        safetensors.save(new[0], job.params, {'made': json.dumps(job.made)})
    else:
        draw = build.sampling(job.config, job.model)
        labels = bool(job.model.num_classes)
        new[0].write_bytes(stablehlo.serialize(draw, job.params, labels, job.platforms))
        new[1].write_text(json.dumps(_describe(job), indent=2) + '\n')
    for source, path in zip(new, paths, strict=True):
        source.replace(path)  # whole or not at all
    return paths


def _outputs(out):
    return [out, out.with_suffix('.json')] if out.suffix == '.stablehlo' else [out]


def _describe(job):
    """What the sampler takes and gives, how to run it, and how it was made."""
    names = job.made['run']['data']['class_names']
    keys = 'jax.random.key_data(keys); sample i of `jaxdiff sample` is of fold_in(key(seed), i)'
    inputs = [{'name': 'key_data', 'dtype': 'uint32', 'shape': ['b', 2], 'of': keys}]
    if job.model.num_classes:
        inputs += [{'name': 'label', 'dtype': 'int32', 'shape': ['b'], 'of': names}]
    shape = ['b', *job.model.data_shape]
    return {
        'inputs': inputs,
        'outputs': [{'name': 'images', 'dtype': 'uint8', 'shape': shape}],
        'platforms': list(job.platforms),
        'needs': ['jax', 'numpy', 'flatbuffers'],
        'example': stablehlo.example(job.out.name, job.model.num_classes),
        'made': job.made,
    }
