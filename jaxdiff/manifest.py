"""How an artefact was made: config, versions, devices, data, code."""

import datetime
import importlib.metadata
import pathlib
import platform
import subprocess

import jax
from ml_collections import ConfigDict

from jaxdiff import data

_PACKAGES = (
    'jaxdiff jax jaxlib flax optax orbax-checkpoint ml_collections numpy grain tensorflow-datasets'
).split()


def manifest(config: ConfigDict, dataset: data.Dataset) -> dict:
    """All that decides a run's result, as JSON; `describe` gives the data's part."""
    return {
        'config': config.to_dict(),
        'data': describe(dataset),
        **here(),
        'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    }


def here() -> dict:
    """What makes something now: versions, devices, the code's commit. No time: files stay alike."""
    return {
        'versions': versions(),
        'devices': {
            'kind': jax.devices()[0].device_kind,
            'count': jax.device_count(),
            'processes': jax.process_count(),
        },
        'commit': commit(),
    }


def describe(dataset: data.Dataset) -> dict:
    """The data set without its examples: what a model of it must know, and its fingerprint."""
    return {
        'name': dataset.name,
        'size': len(dataset.source),
        'shape': list(dataset.shape),
        'levels': dataset.levels,
        'class_names': list(dataset.class_names),
        'captioned': dataset.captioned,
        'fingerprint': dataset.fingerprint,
    }


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    found = {'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
            continue
    return found


def commit() -> str | None:
    """The git commit of the checkout that the code runs from, '+' where it was changed since."""
    here = pathlib.Path(__file__).resolve().parent
    try:
        git = ['git', '-C', str(here)]
        tracked = subprocess.run(
            [*git, 'ls-files', '--error-unmatch', __file__], capture_output=True
        )
        if tracked.returncode:
            return None
        head = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, 'status', '--porcelain', '.'], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return head.stdout.strip() + ('+' if changed.stdout else '')
