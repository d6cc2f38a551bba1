"""Numbers over steps: one JSON line a record, the same to TensorBoard."""

import json
import sys

from etils import epath
from tensorboardX import SummaryWriter

from jaxdiff.paths import in_bucket


class MetricsLog:
    """Writes records to `metrics.jsonl` and TensorBoard files in a run's folder.

    A run that goes on from step `start` first forgets the records after it, so that each step
    stands once however often the run was killed.
    """

    def __init__(self, workdir: epath.Path, start: int):
        self._path = workdir / 'metrics.jsonl'
        kept = [r for r in read(workdir) if r['step'] <= start]
        self._text = ''.join(json.dumps(r) + '\n' for r in kept)
        new = workdir / 'metrics.jsonl.new'
        new.write_text(self._text)
        new.replace(self._path)
        # A bucket's objects can't be appended to: there the whole is written again each time.
        self._file = None if in_bucket(workdir) else self._path.open('a')
        self._board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=start + 1)

    def write(self, step: int, **values: float) -> None:
        """Adds one record and flushes it."""
        line = json.dumps({'step': step, **values}) + '\n'
        if self._file is None:
            self._text += line
            self._path.write_text(self._text)
        else:
            self._file.write(line)
            self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        self._board.close()


def read(workdir: epath.Path) -> list[dict]:
    """The records of a run, oldest first; a last line that a kill cut short is left out.

    So are broken ones, with a warning on stderr.
    """
    path = workdir / 'metrics.jsonl'
    if not path.exists():
        return []
    lines = path.read_bytes().split(b'\n')[:-1]  # what follows the last newline is not whole
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record['step']
        except (ValueError, KeyError, TypeError):
            print(f'warning: line {number} of {path} is broken and left out', file=sys.stderr)
        else:
            records.append(record)
    return records
