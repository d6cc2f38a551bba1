"""Tables for a terminal."""

from collections.abc import Collection


def aligned(rows: list[dict[str, str]], right: Collection[str] = ()) -> str:
    """Rows {column: text} as lines under their columns' names, which the first row has all of.

    Args:
      right: columns whose texts end below each other.
    """
    lines = [{name: name for name in rows[0]}, *rows]
    widths = {name: max(len(line[name]) for line in lines) for name in rows[0]}
    just = {name: str.rjust if name in right else str.ljust for name in rows[0]}
    return '\n'.join(
        '  '.join(just[name](line[name], widths[name]) for name in line).rstrip() for line in lines
    )
