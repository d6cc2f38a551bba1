"""`jaxdiff checkpoints`: what a run has left, how it was made, and whether it is whole."""

import datetime
import hashlib
import json
import math

from etils import epath

from jaxdiff.commands import show
from jaxdiff.commands.tables import aligned
from jaxdiff.training import checkpoint, digest


def table(workdir: str) -> str:
    """The checkpoints of a run, a line each: step, metrics, size, how it was made, newest and best.

    Every file is read and compared with its digest; what is wrong stands below the table, and '?'
    for what can't be read. `config` is a digest too: where two are alike, so are the configs.
    'newest' is what a command takes that isn't told a step, 'best' has the lowest loss; both are
    whole.

    Raises: ValueError where the folder holds no run or no checkpoint.
    """
    folder = epath.Path(workdir) / 'checkpoints'
    if not folder.exists():
        raise ValueError(f'no training run in {workdir}: it has no checkpoints')
    places = {step: folder / str(step) for step in checkpoint.steps_in(folder)}
    if not places:
        raise ValueError(f'no checkpoint in {folder}: train first')
    problems = {step: digest.problems(place, checkpoint.ITEMS) for step, place in places.items()}
    metrics = {step: _readable(_metrics, place) for step, place in places.items()}
    whole = [step for step in places if not problems[step]]
    marks = _marks({step: metrics[step] for step in whole})
    names = sorted({n for step in places for n in metrics[step]}, key=_loss_first)
    rows = [
        {
            'step': str(step),
            **{name: _number(metrics[step].get(name)) for name in names},
            'MiB': f'{_bytes(place) / 2**20:.2f}',
            'whole': 'no' if problems[step] else 'yes',
            'saved (UTC)': '?',
            'devices': '?',
            'versions': '?',
            'commit': '?',
            'config': '?',
            **_readable(_saved, place),
            **_readable(_made, place),
            '': ', '.join(marks.get(step, ())),
        }
        for step, place in places.items()
    ]
    wrong = [f'step {step} is not whole: {each}' for step in places for each in problems[step]]
    return '\n'.join([aligned(rows, right={'step', 'MiB', *names}), *wrong])


def _marks(metrics):
    """{step: what to call it} of the newest and the best of some checkpoints, {step: metrics}."""
    marks = {max(metrics): ['newest']} if metrics else {}
    losses = {step: m.get('loss', math.nan) for step, m in metrics.items()}
    losses = {step: loss for step, loss in losses.items() if math.isfinite(loss)}
    if losses:
        marks.setdefault(min(losses, key=losses.get), []).append('best')
    return marks


# By JSON, not by Orbax, which reads nothing of a checkpoint that lacks a part.
def _readable(read, place):
    """What `read` finds in a checkpoint; {} where that part of it is missing or broken."""
    try:
        return read(place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _metrics(place):
    read = json.loads((place / 'metrics' / 'metrics').read_text())
    return {name: float(value) for name, value in read.items()}


def _saved(place):
    seconds = (
        json.loads((place / '_CHECKPOINT_METADATA').read_text())['commit_timestamp_nsecs'] / 1e9
    )
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return {'saved (UTC)': f'{time:%Y-%m-%d %H:%M}'}


def _made(place):
    made = json.loads((place / 'made' / 'metadata').read_text())
    versions = made['versions']
    config = json.dumps(made['config'], sort_keys=True).encode()
    return {
        'devices': show.devices(made),
        'versions': ', '.join(f'{n} {versions[n]}' for n in ('jaxdiff', 'jax') if n in versions),
        'commit': show.commit(made),
        'config': hashlib.sha256(config).hexdigest()[:8],
    }


def _bytes(place):
    return sum(_bytes(path) if path.is_dir() else path.stat().length for path in place.iterdir())


def _number(value):
    return '?' if value is None else f'{value:.4g}'


def _loss_first(name):
    return name != 'loss', name
