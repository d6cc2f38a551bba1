"""Where files lie."""

from etils import epath


def in_bucket(path: epath.Path) -> bool:
    """Whether a path is one of an object store ('gs://…', 's3://…') and not of this machine."""
    return '://' in str(path)
