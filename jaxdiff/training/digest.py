"""Digests of a checkpoint's files, written with it and checked before it is used.

Orbax restores a flipped bit of an array as if nothing were wrong. So each process, when its arrays
are on the disk, digests the files that it wrote itself, and process 0 all others, into
`digests/process_<i>.json` in the checkpoint's folder, before the checkpoint gets its name: no
checkpoint is ever listed without them, and no lock is needed.
"""

import hashlib
import json
import re
import time

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import multihost

from jaxdiff import distributed
from jaxdiff.paths import in_bucket

_FOLDER = 'digests'
_PART = 2**24  # bytes read at once
_METADATA = '_CHECKPOINT_METADATA'
# What Orbax adds to it in a thread of its own, maybe after the digest; the latter is not what restores.
_LATER = ('commit_timestamp_nsecs', 'item_handlers')
_MARK = 'commit_success.txt'  # written last, and its content never read
_UNFINISHED = '.orbax-checkpoint-tmp'  # ends the names of what is not committed, on disk
_MAY_BE_EMPTY = ('profiles', 'optimizer')  # trees of which Orbax then saves nothing


def while_saving(folder: epath.Path) -> ocp.AsyncOptions:
    """Orbax's options that write digests with each checkpoint below `folder`."""
    index, count = jax.process_index(), jax.process_count()

    def barrier(*, key: str, timeout_ms: int) -> None:
        if index and 'async_write_complete' in key:  # this process's arrays are written
            for unfinished in _unfinished(folder):
                _write(unfinished, index, count)
        multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)

    def before_commit() -> None:  # on process 0, when all are written
        for unfinished in _unfinished(folder):
            _write(unfinished, 0, count)

    return ocp.AsyncOptions(barrier_sync_fn=barrier, post_finalization_callback=before_commit)


def problems(checkpoint: epath.Path, items: tuple[str, ...]) -> list[str]:
    """What isn't as it was written in a checkpoint's own files and those of its `items`.

    Each process reads its share of the files, and all return the same, in full on process 0.
    """
    try:
        lists = _read(checkpoint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        lists, found = {}, [f'its digests cannot be read: {" ".join(str(error).split())}']
    else:
        found = []
    listed = {name: digest for one in lists.values() for name, digest in one.items()}
    wanted = [n for n in sorted(listed) if '/' not in n or n.split('/')[0] in items]
    for name in wanted[jax.process_index() :: jax.process_count()]:
        try:
            digests = [_digest(checkpoint / name)]
            if name == _METADATA:  # of which only the time was left out before
                digests.append(_digest(checkpoint / name, _LATER[:1]))
            if listed[name] not in digests:
                found.append(f'{name} is not as it was written')
        except (OSError, ValueError):
            found.append(f'{name} is missing or cannot be read')
    if lists and distributed.primary():
        there = {name.split('/')[0] for name in listed}
        found += [f'{i} is missing' for i in items if i not in there and i not in _MAY_BE_EMPTY]
        extra = sorted(set(_files(checkpoint)) - set(listed))
        found += [f'{name} has no digest' for name in extra if name.split('/')[0] in items]
    whole = distributed.all_true(not found)
    return found or ([] if whole else ['another process found it broken'])


def committed(checkpoint: epath.Path) -> bool:
    """Whether a folder with a checkpoint's name is one.

    In a bucket nothing can be renamed: there it has its name from the start, and a mark at the end.
    """
    return not in_bucket(checkpoint) or (checkpoint / _MARK).exists()


def _unfinished(folder):
    if in_bucket(folder):
        return [p for p in folder.iterdir() if p.name.isdecimal() and not committed(p)]
    return [p for p in folder.iterdir() if re.fullmatch(rf'\d+{re.escape(_UNFINISHED)}', p.name)]


def _write(checkpoint, process, processes):
    own = [
        name
        for name in _files(checkpoint)
        if (int(found[1]) if (found := re.search(r'/ocdbt\.process_(\d+)/', name)) else 0)
        == process
    ]
    files = {n.replace(_UNFINISHED, ''): _once_written(checkpoint / n) for n in own}
    record = {'processes': processes, 'files': files}
    (checkpoint / _FOLDER).mkdir(exist_ok=True)
    (checkpoint / _FOLDER / f'process_{process}.json').write_text(json.dumps(record, indent=1))


def _read(checkpoint):
    def read(process):
        path = checkpoint / _FOLDER / f'process_{process}.json'
        if not path.exists():
            raise ValueError(f'{path.name} is missing')
        return json.loads(path.read_text())

    first = read(0)
    others = {i: read(i)['files'] for i in range(1, first['processes'])}
    return {0: first['files'], **others}


def _files(checkpoint):
    """The names of the files that have a digest."""
    names = [str(p.relative_to(checkpoint)) for p in _below(checkpoint)]
    return sorted(n for n in names if n != _MARK and not n.startswith(f'{_FOLDER}/'))


def _below(folder):
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _once_written(path):
    """The digest of a file that Orbax may still be writing, as it does its metadata."""
    for wait in (0.01, 0.1, 1.0):
        try:
            return _digest(path)
        except ValueError:  # half of it is there
            time.sleep(wait)
    return _digest(path)


def _digest(path, later=_LATER):
    found = hashlib.sha256()
    if path.name == _METADATA:
        metadata = json.loads(path.read_bytes()) | dict.fromkeys(later)
        found.update(json.dumps(metadata, sort_keys=True).encode())
        return found.hexdigest()
    with path.open('rb') as file:
        while part := file.read(_PART):
            found.update(part)
    return found.hexdigest()
