"""`jaxdiff diff`: in what two runs differ, and how their curves and figures compare."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from etils import epath

from jaxdiff.commands import compared
from jaxdiff.commands.side import Side, read
from jaxdiff.evaluation import curve
from jaxdiff.evaluation.figure import check_comparable

_OF_A_LOSS = ('model', 'task', 'degradation.', 'codec.', 'diffusion.', 'loss.', 'autoencoder.')
_SHOWN = 5  # common steps of two curves


class Job(NamedTuple):
    """Two that were read and compared."""

    sides: tuple[Side, Side]
    found: dict
    out: epath.Path | None  # of a picture


def prepare(a: str, b: str, out: str | None = None, overwrite: bool = False) -> Job:
    """Reads two runs' folders, or files that `show` reads, and compares them; writes nothing.

    Args:
      out: draw both losses in `out`.png.

    Raises: ValueError or FileNotFoundError where one can't be read, or nothing can be drawn.
    """
    sides = read(a), read(b)
    found = compare(*sides)
    path = None
    if out is not None:
        from jaxdiff.commands.folder import check_writable

        path = epath.Path(out)
        path = path.parent / f'{path.name}.png'
        check_writable(path.parent)
        if not all(len(curve.of(side.records, 'loss').steps) for side in sides):
            notes = found['curves'].get('notes') or ['a file has none']
            raise ValueError(f'--out draws the losses of two runs: {"; ".join(notes)}')
        if path.exists() and not overwrite:
            raise ValueError(f'{path} exists: give another --out, or --overwrite')
        found['picture'] = str(path)
    return Job(sides, found, path)


def run(job: Job, as_json: bool = False) -> Iterator[str]:
    """What was found, as text or JSON; with `out` also the path of the picture that it draws."""
    yield json.dumps(job.found, indent=2) if as_json else compared.text(job.found)
    if job.out:
        from jaxdiff import manifest
        from jaxdiff.viz import curves

        a, b = job.sides
        made = {
            'made_by': 'jaxdiff diff',
            'content': 'curves of two training runs',
        } | manifest.here()
        made |= {'runs': [{'workdir': side.name, 'run': side.origin} for side in job.sides]}
        job.out.parent.mkdir(parents=True, exist_ok=True)
        named = {f'A: {a.name}': a.records, f'B: {b.name}': b.records}
        curves.compare(job.out, named, f'{a.name} and {b.name}', made)
        if not as_json:
            yield str(job.out)


def compare(a: Side, b: Side) -> dict:
    """In what two differ, as JSON.

    `differs` names all of it but speed and time, which no two runs have in common.
    """
    config = {
        key: [a.config.get(key), b.config.get(key)]
        for key in dict.fromkeys([*a.config, *b.config])
        if a.config.get(key) != b.config.get(key) or (key in a.config) != (key in b.config)
    }
    made = {key: [a.made.get(key), b.made.get(key)] for key in dict.fromkeys([*a.made, *b.made])}
    resumed = {'a': _resumed(a.history), 'b': _resumed(b.history)}
    curves, figures = _curves(a, b, config), _figures(a.figures, b.figures)
    differs = ['config'] if config else []
    differs += [key for key, (one, other) in made.items() if one != other]
    changes = [[r['changed'] for r in starts if r['changed']] for starts in resumed.values()]
    differs += ['changes at resumes'] if changes[0] != changes[1] else []
    differs += ['losses'] if curves.get('differ') else []
    differs += ['figures'] if any(f['difference'] != 0 for f in figures) else []
    return {
        'a': a.name,
        'b': b.name,
        'differs': differs,
        'keys': len({**a.config, **b.config}),
        'config': config,
        'made': made,
        'resumed': resumed,
        'curves': curves,
        'figures': figures,
    }


def _resumed(history):
    """Each start after the first: when, at which step, and what wasn't as before."""
    found = []
    for before, now in zip(history, history[1:]):
        changed = dict(now.get('changed', {}))
        for key in ('devices', 'versions', 'commit'):
            if before.get(key) != now.get(key):
                changed[key] = [before.get(key), now.get(key)]
        found.append({'time': now.get('time'), 'step': now.get('step'), 'changed': changed})
    return found


def _curves(a, b, config):
    if any('made_by' in side.origin for side in (a, b)):  # a file
        return {}
    one, other = (curve.of(side.records, 'loss') for side in (a, b))
    notes = [f'{side.name} has no losses' for side, c in ((a, one), (b, other)) if not len(c.steps)]
    ours, theirs = curve.together(one, other)
    if not notes and not len(ours.steps):
        notes.append('no step is recorded in both runs')
    keys = [key for key in config if key.startswith(_OF_A_LOSS)]
    keys += ['data'] if a.made['data']['fingerprint'] != b.made['data']['fingerprint'] else []
    if not notes and keys:
        notes.append(f'the losses may not be of one kind: {", ".join(keys)} differ')
    shown = np.unique(np.linspace(0, len(ours.steps) - 1, _SHOWN).round().astype(int))
    names = dict.fromkeys(
        k for r in a.records + b.records for k in r if k.startswith(curve.BY_NOISE)
    )
    levels = {name.removeprefix(curve.BY_NOISE): _last(a, b, name) for name in names}
    raw = np.intersect1d(one.steps, other.steps, return_indices=True)[1:]
    return {
        'a': curve.summary(a.records),
        'b': curve.summary(b.records),
        'common': [_row(ours, theirs, i) for i in shown if len(ours.steps)],
        'by_noise': {name: row for name, row in levels.items() if row},
        'notes': notes,
        'differ': len(one.steps) != len(other.steps)
        or not np.array_equal(one.values[raw[0]], other.values[raw[1]]),
    }


def _last(a, b, name):
    ours, theirs = curve.together(curve.of(a.records, name), curve.of(b.records, name))
    return _row(ours, theirs, -1) if len(ours.steps) else None


def _row(ours, theirs, i):
    one, other = float(ours.values[i]), float(theirs.values[i])
    return {'step': int(ours.steps[i]), 'a': one, 'b': other, 'difference': other - one}


def _figures(ours, theirs):
    """Rows of the figures of one name: of files of one name, and the newest that can be compared.

    Where none can, the newest, and why not.
    """
    rows, names = [], {_by_what(m): m.name for m in ours}
    known = {(m.name, m.figure.features) for m in ours}
    theirs = [
        m
        if (m.name, m.figure.features) in known
        else m._replace(name=names.get(_by_what(m), m.name))
        for m in theirs
    ]
    for name in dict.fromkeys(m.name for m in ours + theirs):
        a, b = ([m for m in side if m.name == name] for side in (ours, theirs))
        if not (a and b):
            newest = max(a or b, key=_newest)
            row = {'a': newest, 'b': None} if a else {'a': None, 'b': newest}
            rows.append(_told(name, **row, why=f'only {"A" if a else "B"} has it'))
            continue
        pairs = [(x, y) for x in a for y in b]
        alike = [pair for pair in pairs if not _why_not(*pair)] or pairs
        newest = max(alike, key=lambda pair: (_newest(pair[0]), _newest(pair[1])))
        chosen = [pair for pair in pairs if pair[0].file == pair[1].file]
        chosen += [newest] if newest not in chosen else []
        rows += [_told(name, x, y, _why_not(x, y)) for x, y in chosen]
    return rows


def _by_what(measured):
    """A metric and its features, whatever the folder that these are in, which its name ends with."""
    return measured.name.partition('[')[0], measured.figure.features


def _newest(measured):
    return measured.step, measured.file


def _why_not(x, y):
    if bool(x.real) != bool(y.real):
        return 'figures of real images and of samples cannot be compared'
    if x.method != y.method:
        return 'figures that were measured in other ways, by other versions, cannot be compared'
    try:
        check_comparable(x.figure, y.figure)
    except ValueError as error:
        return str(error)


def _told(name, a, b, why):
    row = {'name': name, 'why_not': why, 'difference': None, 'intervals_overlap': None}
    row['drawn'] = {}  # in what the samples of both were drawn otherwise
    for key, m in (('a', a), ('b', b)):
        row[key] = m and {'step': m.step, 'file': m.file, 'real': m.real} | m.figure._asdict()
    if a and b:
        both = [k for k in {**a.drawn, **b.drawn} if a.drawn.get(k) != b.drawn.get(k)]
        row['drawn'] = {k: [a.drawn.get(k), b.drawn.get(k)] for k in both if not why}
    if not why:
        x, y = a.figure, b.figure
        row['difference'] = y.value - x.value
        row['intervals_overlap'] = x.low <= y.high and y.low <= x.high
    return row
