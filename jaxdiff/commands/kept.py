"""What was computed of a data set, kept where that lies."""

import os
import uuid
from pathlib import Path

import numpy as np


def write(file: Path, array: np.ndarray, what: str) -> None:
    """Writes an array as .npy under a name of its own, which gets this one when it is whole.

    Raises: OSError where the folder can't be written to, or the disk is full; `what` is kept there.
    """
    new = file.with_name(f'{file.name}.{uuid.uuid4().hex[:8]}.new')
    try:
        with new.open('wb') as out:
            np.save(out, array)
            out.flush()
            os.fsync(out.fileno())
        new.rename(file)
    except OSError as error:
        raise OSError(
            f'{what} cannot be kept in {file.parent} ({error.strerror}): make room, or give '
            'data that lies where it can be written to'
        ) from error
    finally:
        new.unlink(missing_ok=True)
