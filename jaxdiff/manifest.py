"""How an artefact was made: config, versions, devices, data, code."""

import datetime
import functools
import hashlib
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


@functools.cache  # of the code as it was loaded: a checkout may go on while it runs
def commit() -> str | None:
    """The git commit that the code is of, with '+' where it differs from it; None where there is none.

    That of the checkout that it runs from; installed from a folder, that of its checkout; installed
    from a repository, that which pip fetched, which isn't compared.
    """
    place = pathlib.Path(__file__).resolve().parents[1]
    origin = _origin(place)
    url = urllib.parse.urlparse(origin.get('url', ''))
    folders = [place] + [urllib.parse.unquote(url.path)] * (url.scheme == 'file')
    for folder in folders:
        head = _git(folder, 'rev-parse', 'HEAD')
        listed = _git(folder, 'ls-tree', '-r', 'HEAD', 'jaxdiff')
        rows = (line.split(maxsplit=3) for line in (listed or '').splitlines())
        blobs = {name: blob for _, _, blob, name in rows if name.endswith('.py')}
        if blobs:
            return head if blobs == _blobs(place, len(head)) else f'{head}+'
    return origin.get('vcs_info', {}).get('commit_id')


def _git(folder, *asked):
    """What git says of a folder; None where it fails or isn't there."""
    elsewhere = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE')  # as within a hook
    environment = {key: value for key, value in os.environ.items() if key not in elsewhere}
    try:
        done = subprocess.run(
            ['git', '-C', str(folder), *asked], capture_output=True, text=True, env=environment
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def _blobs(place, digits):
    """The code's files, by git's names of what is in them."""
    kind = hashlib.sha1 if digits == 40 else hashlib.sha256
    files = {str(path.relative_to(place)): path for path in (place / 'jaxdiff').rglob('*.py')}
    contents = {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith('jaxdiff/configs/')  # which are elsewhere in a checkout
    }
    return {name: kind(b'blob %d\0' % len(x) + x).hexdigest() for name, x in contents.items()}


def _origin(place):
    """Where the code was installed from, as pip notes it (PEP 610); {} where it doesn't."""
    try:
        installed = importlib.metadata.distribution('jaxdiff')
    except importlib.metadata.PackageNotFoundError:
        return {}
    if pathlib.Path(installed.locate_file('')).resolve() != place:
        return {}
    return json.loads(installed.read_text('direct_url.json') or '{}')
