"""What `jaxdiff diff` found, in words."""

from collections.abc import Iterator

from jaxdiff.commands import show
from jaxdiff.commands.tables import columns


def text(found: dict) -> str:
    """The lines that say in what two differ; '=' stands where B is as A."""
    differs = ', '.join(found['differs'])
    rows = [('A', found['a']), ('B', found['b'])]
    rows += [('differ in', differs)] if differs else [('', 'no difference, speed and time aside')]
    tables = [_config(found), _made(found), _resumed(found), _curves(found), _figures(found)]
    return '\n'.join([*columns(rows), *(line for table in tables for line in table)])


def _config(found):
    rows = [(key, _value(a), _value(b)) for key, (a, b) in found['config'].items()]
    told = f'{len(rows)} of {found["keys"]} keys differ' if rows else 'no difference'
    yield from _table(f'config: {told}', rows)


def _made(found):
    rows = []
    for key, (a, b) in found['made'].items():
        if key == 'versions' and a != b and a and b:
            rows += [(k, a.get(k), b.get(k)) for k in {**a, **b} if a.get(k) != b.get(k)]
        else:
            rows.append((key, _part(key, a), _part(key, b)))
    rows = [(k, _value(a), _same(a, b)) for k, a, b in rows if (a, b) != (None, None)]
    yield from _table('how they were made', rows)


def _part(key, value):
    if value is None:
        return None
    if key == 'versions':
        names = ('jaxdiff', 'jax', 'python')
        return ', '.join(f'{name} {value[name]}' for name in names if name in value)
    if key == 'devices':
        return show.devices({'devices': value})
    if key == 'commit':
        return show.commit({'commit': value})
    if key == 'data':
        return f'{value["name"]}, {value["size"]:,} examples, fingerprint {value["fingerprint"]}'
    return value


def _resumed(found):
    rows = []
    for side, starts in found['resumed'].items():
        for start in starts:
            told = [
                f'{key} {_value(_part(key, old))} -> {_value(_part(key, new))}'
                for key, (old, new) in start['changed'].items()
            ]
            at = '?' if start['step'] is None else start['step']
            rows.append((side.upper(), f'step {at}', '; '.join(told) or 'nothing changed'))
    if rows:
        yield from _table('where they went on', rows, head=())


def _curves(found):
    curves = found['curves']
    if not curves:
        return
    a, b = curves['a'], curves['b']
    rows = [
        (f'loss at step {row["step"]}', *_numbers(row['a'], row['b'], row['difference']))
        for row in curves['common']
    ]
    rows += [
        (f'  log SNR {name.replace("_", " ")}', *_numbers(r['a'], r['b'], r['difference']))
        for name, r in curves['by_noise'].items()
    ]
    for key, label in (('loss', 'last loss'), ('lowest', 'lowest loss')):
        rows.append((label, *(_at(side, key) for side in (a, b))))
    for key, label, tell in (
        ('steps_per_second', 'steps a second', '{:.4g}'.format),
        ('seconds', 'time in steps', _time),
        ('data_wait_share', 'waiting for data', '{:.1%}'.format),
        ('skipped_steps', 'skipped steps', str),
        ('rollbacks', 'rollbacks', str),
    ):
        rows.append((label, *(tell(side[key]) if key in side else '-' for side in (a, b))))
    title = 'curves, each a running mean over a twentieth of it'
    yield from _table(title, rows, head=('', 'A', 'B', 'B - A'))
    yield from (f'  {note}' for note in curves['notes'])


def _at(side, key):
    return f'{side[key]:.4g} at step {side[f"{key}_step"]}' if key in side else '-'


def _numbers(*values):
    *values, difference = values
    return (*(f'{value:.4g}' for value in values), f'{difference:+.4g}')


def _time(seconds):
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s'


def _figures(found):
    rows = []
    for row in found['figures']:
        told = row['why_not']
        if told is None:
            meet = 'intervals overlap' if row['intervals_overlap'] else 'intervals apart'
            told = f'{row["difference"]:+.4g}, {meet}'
            told += ''.join(
                f'; {k} {_value(a)} -> {_value(b)}' for k, (a, b) in row['drawn'].items()
            )
        files = ', '.join(dict.fromkeys(m['file'] for m in (row['a'], row['b']) if m))
        several = sum(other['name'] == row['name'] for other in found['figures']) > 1
        rows.append((row['name'], *(_figure(row[side]) for side in 'ab'), told))
        rows += [(f'  {files}', '', '', '')] if several else []
    if rows:
        yield from _table('figures, with 95 % intervals', rows, head=('', 'A', 'B', 'B - A'))


def _figure(m):
    if m is None:
        return '-'
    of = f'real images, {m["real"]}' if m['real'] else f'step {m["step"]}'
    return f'{m["value"]:.4g} [{m["low"]:.4g}, {m["high"]:.4g}] of {m["count"]:,}, {of}'


def _same(a, b):
    return '=' if a == b else _value(b)


def _value(value):
    if value is None:
        return '-'
    return repr(value) if value == '' else str(value)


def _table(title: str, rows: list[tuple], head: tuple = ('', 'A', 'B')) -> Iterator[str]:
    """An empty line, a title, and rows in columns below it."""
    yield from ('', title)
    if rows:
        yield from (f'  {line}' for line in columns([head, *rows] if head else rows))
