"""Where a command will write."""

import os

from etils import epath

from jaxdiff.paths import in_bucket


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
