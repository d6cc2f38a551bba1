"""One of the two that `jaxdiff diff` compares: a run's folder, or a file that says how it was made."""

import hashlib
import json
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from jaxdiff import config as configs
from jaxdiff.commands import show
from jaxdiff.configs import default
from jaxdiff.evaluation.figure import Figure
from jaxdiff.training import metrics

_NEEDED = ('config', 'data', 'versions', 'devices')
_KEPT = {'autoencoder': 'codec.safetensors', 'features': 'features.safetensors'}
_LEFT_OUT = (
    'made_by',
    'run',
    'config',
    'data',
    'versions',
    'devices',
    'commit',
    'time',
    'sample',
    'changed',
)


class Measured(NamedTuple):
    """A figure that was measured of a run."""

    name: str
    step: int
    file: str
    figure: Figure
    real: str | None  # the split whose images were measured in the place of samples
    drawn: dict[str, Any]  # how samples were drawn, and by which parameters
    method: int  # by which it was measured, see `evaluate.METHOD`


class Side(NamedTuple):
    """One of the two that are compared."""

    name: str  # as it was given
    config: dict[str, Any]  # flat, with plain lists
    made: dict[str, Any]  # how it came to be besides, by what to call it
    history: list[dict]  # the starts of a run
    records: list[dict]
    figures: list[Measured]
    origin: dict  # the manifest of a run, or what a file says of itself


def read(given: str) -> Side:
    """The run in a folder, or what a file that `show` reads says of itself and of its run.

    Raises: ValueError where there is no run or something is damaged; FileNotFoundError for nothing.
    """
    place = epath.Path(given)
    if place.is_dir():
        return _of_run(given, place)
    if not place.exists():
        raise FileNotFoundError(f'there is no run and no file at {given}')
    origin = show.read(given)
    trained = show.trained(origin)
    _check(trained, given)
    nested = json.loads(json.dumps(origin.get('config') or trained['config']))
    nested |= {'sample': origin['sample']} if 'sample' in origin else {}
    own = {key: value for key, value in origin.items() if key not in _LEFT_OUT}
    model = origin.get('run') or {}
    if 'workdir' in model:  # of noise with a run
        own = {key: model[key] for key in ('workdir', 'step', 'parameters')} | own
    own['made by'] = show.made_by(origin)
    config = _flat(nested) | {k: _plain(v) for k, v in origin.get('changed', {}).items()}
    figures = _measured(place) if place.suffix == '.json' and 'evaluated' in origin else []
    return Side(given, config, _made(trained) | own, [], [], figures, origin)


def _of_run(given, folder):
    path, place = folder / 'manifest.json', folder / 'checkpoints'
    names = [p.name for p in place.iterdir()] if place.exists() else []
    steps = sorted(int(name) for name in names if name.isdecimal())
    if not path.exists():
        if not steps:
            raise ValueError(
                f'no training run in {given}: it has neither manifest.json nor a checkpoint'
            )
        path = place / str(steps[-1]) / 'made' / 'metadata'
    manifest = _json(path)
    _check(manifest, str(path))
    records = metrics.read(folder)
    reached = max([0, *steps, *(r['step'] for r in records[-1:])])
    made = _made(manifest) | {'step': reached}
    made |= {
        name: _digest(folder / file) for name, file in _KEPT.items() if (folder / file).exists()
    }
    figures = [m for p in sorted((folder / 'evaluations').glob('*.json')) for m in _measured(p)]
    origin = {key: value for key, value in manifest.items() if key != 'history'}
    history = manifest.get('history', [])
    return Side(given, _flat(manifest['config']), made, history, records, figures, origin)


def _json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error


def _check(manifest, where):
    missing = [k for k in _NEEDED if not isinstance(manifest, dict) or k not in manifest]
    if missing:
        raise ValueError(f'{where} is of no single run, or damaged: it has no {", ".join(missing)}')


def _made(manifest):
    data = manifest['data']
    found = {'seed': manifest['config'].get('seed')}
    found['data'] = {key: data.get(key) for key in ('name', 'size', 'fingerprint')}
    found |= {key: manifest.get(key) for key in ('versions', 'devices', 'commit')}
    return found | ({'text encoder': manifest['text']} if manifest.get('text') else {})


def _flat(nested):
    """A config's values by key; those that it is too old for have their defaults."""
    found = configs.flat(default.get_config()) | configs.flat(ConfigDict(nested))
    return {key: _plain(value) for key, value in found.items()}


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _digest(path):
    """Of what a safetensors file holds behind its header, which says where it comes from."""
    held = path.read_bytes()
    return hashlib.sha256(held[8 + int.from_bytes(held[:8], 'little') :]).hexdigest()[:12]


def _measured(path):
    told = _json(path)
    try:
        made = told['made']
        real, drawn = made.get('evaluated', {}).get('real'), {}
        if not real:
            drawn = {key: made.get(key) for key in ('seed', 'parameters')} | made.get('sample', {})
            drawn = {key: _plain(x) for key, x in drawn.items() if key != 'batch_size'}
        return [
            Measured(
                name,
                int(told['step']),
                path.name,
                _figure(fields),
                real,
                drawn,
                made.get('method', 1),
            )
            for name, fields in told['figures'].items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f'{path} cannot be read: {type(error).__name__}, {error}') from error


def _figure(fields):
    return Figure(**fields | {key: float(fields[key]) for key in ('value', 'low', 'high')})
