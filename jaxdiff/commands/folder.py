"""Where a command will write."""

import contextlib
import errno
import os
import secrets
import socket
import sys
from collections.abc import Iterator

from etils import epath

from jaxdiff import distributed
from jaxdiff.paths import in_bucket

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def check_writable(folder: epath.Path) -> None:
    """Raises a ValueError where a folder on disk is not there and can't be made, or written to."""
    if in_bucket(folder):
        return  # a bucket's rights show when it is used
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f'{place} is a file: {folder} cannot be a folder')
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f'{place} is not writable: give another folder')


def check_shared(folder: epath.Path) -> None:
    """Makes a folder; raises an OSError where the processes of a job see different ones."""
    token = distributed.agree(secrets.randbelow(2**31))
    mark = folder / f'.job_{token}'
    if distributed.primary():
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    distributed.barrier('folder made')
    seen = distributed.all_true(mark.exists())
    if distributed.primary():
        mark.unlink()
    if not seen:
        raise OSError(f'the processes see different folders at {folder}: give a shared one')


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Makes a folder on disk, and keeps other runs out of it while this one writes there.

    The lock is the process's own: it ends with it, however it ends. A bucket knows no locks, nor do
    some file systems, which is said on stderr.

    Raises: OSError where another run holds it.
    """
    if in_bucket(folder) or not distributed.primary():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '.lock', 'a+') as file:
        _lock(file, folder)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield


def _lock(file, folder):
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise OSError(
            f'another run is at work in {folder} ({file.read().strip()}): let it end or stop it, '
            'or give another --workdir'
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f'warning: the file system of {folder} knows no locks: let no other run write there',
            file=sys.stderr,
        )
