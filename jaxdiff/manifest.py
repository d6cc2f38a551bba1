"""How an artefact was made: config, versions, devices, data, code."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import urllib.parse

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
    """The git commit that the code is of, with '+' where it differs from it; None where there is none.

    That of the checkout that it runs from; installed, that which it was installed from, of a folder's
    checkout where this stands now.
    """
    place = pathlib.Path(__file__).resolve().parents[1]
    checkout = place
    if _git(place, 'ls-files', '--error-unmatch', 'jaxdiff/manifest.py') is None:
        origin = _installed_from()
        if 'vcs_info' in origin:
            return origin['vcs_info']['commit_id']
        url = urllib.parse.urlparse(origin.get('url', ''))
        checkout = urllib.parse.unquote(url.path)
        if url.scheme != 'file' or not _git(checkout, 'ls-files', 'jaxdiff/manifest.py'):
            return None
    head = _git(checkout, 'rev-parse', 'HEAD')
    same = _git(checkout, f'--work-tree={place}', 'diff', '--quiet', 'HEAD', '--', 'jaxdiff/*.py')
    return head and head + '+' * (same is None)


def _git(folder, *asked):
    """What git says of a folder; None where it fails or isn't there."""
    environment = os.environ | {'GIT_OPTIONAL_LOCKS': '0'}  # it only looks
    try:
        done = subprocess.run(
            ['git', '-C', str(folder), *asked], capture_output=True, text=True, env=environment
        )
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def _installed_from():
    """The origin that pip notes (PEP 610), {} where it notes none."""
    try:
        noted = importlib.metadata.distribution('jaxdiff').read_text('direct_url.json')
    except importlib.metadata.PackageNotFoundError:
        return {}
    return json.loads(noted or '{}')
