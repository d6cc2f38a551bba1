"""Packages of extras that something needs, and files inside of others."""

import importlib.util
from pathlib import Path


def need(package: str, purpose: str, extra: str = 'text') -> None:
    """Raises: ImportError of one line where a package of an extra isn't installed."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{purpose} needs {package}: pip install 'jaxdiff[{extra}]'")


def file_of(package: str, name: str) -> Path | None:
    """A file's place in an installed package, which isn't imported; None where there is none."""
    spec = importlib.util.find_spec(package)
    places = [Path(folder) / name for folder in (spec and spec.submodule_search_locations or ())]
    return next((place for place in places if place.exists()), None)
