"""Tables for a terminal."""

from collections.abc import Collection, Sequence


def aligned(rows: list[dict[str, str]], right: Collection[str] = ()) -> str:
    """Rows {column: text} as lines under their columns' names, which the first row has all of.

    Args:
      right: columns whose texts end below each other.
    """
    names = list(rows[0])
    lines = [names, *([row[name] for name in names] for row in rows)]
    return '\n'.join(columns(lines, {names.index(name) for name in right}))


def size(count: float) -> str:
    """Bytes, in the largest unit that there is one of."""
    return _in_units(count, {2**30: 'GiB', 2**20: 'MiB', 2**10: 'KiB'})


def operations(count: float) -> str:
    """Operations on floating-point numbers, in the largest unit that there is one of."""
    units = {1e18: 'EFLOP', 1e15: 'PFLOP', 1e12: 'TFLOP', 1e9: 'GFLOP', 1e6: 'MFLOP'}
    return _in_units(count, units)


def _in_units(count, units):
    """In the largest unit that there is at least one of, and else in the least."""
    unit = next((unit for unit in units if count >= unit), min(units))
    return f'{count / unit:,.2f} {units[unit]}'


def columns(rows: Sequence[Sequence], right: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines, the cells of a column below each other; a row may end early."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    just = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    return ['  '.join(f(*cell) for f, *cell in zip(just, row, widths)).rstrip() for row in rows]
