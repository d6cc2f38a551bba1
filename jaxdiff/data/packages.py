"""Data that comes in packages, brought by the clients of their registries and checked by digest."""

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """A published archive, one version of it, bit for bit."""

    client: str  # that brings it: 'npm' or 'pip'
    name: str
    version: str
    file: str  # as which it comes
    sha512: str  # of the file, in base64, as npm's dist.integrity has it
    licences: tuple[str, ...]  # members that must stay with what is taken from it


class Client(NamedTuple):
    """What brings packages of one kind."""

    found: Callable[[], bool]
    command: Callable[[Package, Path], list[str]]  # that writes the package's file into a folder
    install: str  # how to get the client


CLIENTS = {
    'npm': Client(
        lambda: bool(shutil.which('npm')),
        lambda package, folder: [
            shutil.which('npm'),
            'pack',
            f'{package.name}@{package.version}',
            '--ignore-scripts',
            '--loglevel=error',
            f'--pack-destination={folder}',
        ],
        'apt-get install npm, or nodejs.org',
    ),
    'pip': Client(
        lambda: bool(importlib.util.find_spec('pip')),
        lambda package, folder: [
            *(sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check'),
            *('--no-deps', '--only-binary=:all:', '--dest', str(folder)),
            f'{package.name}=={package.version}',
        ],
        'python -m ensurepip',
    ),
}


def check_clients(packages: Sequence[Package]) -> None:
    """Raises a ValueError where a client that the packages need is missing."""
    for package in packages:
        client = CLIENTS[package.client]
        if not client.found():
            raise ValueError(
                f'{package.client} is needed to bring {package.name} {package.version}, and is not '
                f'installed: get it ({client.install}), or give a folder that holds '
                f'{", ".join(p.file for p in packages)} by --from'
            )


def bring(packages: Sequence[Package], folder: Path) -> None:
    """Downloads each package's file into a folder, saying so on the standard error stream.

    Raises: OSError where a client fails, for example without a network.
    """
    for i, package in enumerate(packages):
        print(
            f'bringing {package.name} {package.version} by {package.client} '
            f'({i + 1} of {len(packages)})',
            file=sys.stderr,
        )
        command = CLIENTS[package.client].command(package, folder)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            why = ' '.join(done.stderr.split()[:60])
            raise OSError(f'{package.client} could not bring {package.name}: {why}')


def check(package: Package, folder: Path) -> Path:
    """The package's file in a folder.

    Raises: FileNotFoundError where it is missing; ValueError where it is not the published one.
    """
    file = folder / package.file
    if not file.is_file():
        raise FileNotFoundError(
            f'{folder} must hold {package.file}, it does not: bring {package.name} '
            f'{package.version} by {package.client}'
        )
    with file.open('rb') as opened:
        found = base64.b64encode(hashlib.file_digest(opened, 'sha512').digest()).decode()
    if found != package.sha512:
        raise ValueError(
            f'{file} is not {package.name} {package.version} as it was published: its SHA-512 must '
            f'begin with {package.sha512[:16]}, it begins with {found[:16]}; delete it and bring it '
            'anew'
        )
    return file


def members(file: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The members of a .tgz or a .whl whose names are wanted, read in one pass, by name."""
    if file.suffix == '.tgz':
        with tarfile.open(file, 'r:gz') as archive:
            found = (m for m in archive if m.isfile() and wanted(m.name))
            return {m.name: archive.extractfile(m).read() for m in found}
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if wanted(name)}


def keep_licences(packages: Sequence[Package], folder: Path, to: Path) -> None:
    """Writes the licences of packages in `folder` to the folder `to`, as PACKAGE.NAME."""
    to.mkdir(exist_ok=True)
    for package in packages:
        texts = members(folder / package.file, package.licences.__contains__)
        for name, text in texts.items():
            (to / f'{package.name}.{Path(name).name}').write_bytes(text)
