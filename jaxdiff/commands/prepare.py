"""Preparing a data set of ours: bringing its packages, building it, saying whose it is."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from jaxdiff.data import find, packages
from jaxdiff.data.prepare import prepare as build


class Job(NamedTuple):
    """A set that can be prepared."""

    builder: type[tfds.core.GeneratorBasedBuilder]
    config: str
    folder: Path  # where it will be, or is
    files: Path | None  # where its packages' files lie already


def prepare(name: str, data_dir: str = '', files: str = '') -> Job:
    """Looks whether a set can be prepared.

    Args:
      name: such as 'emoji' or 'emoji/rgba', see `find.OWN`.
      data_dir: where TFDS keeps prepared sets; '' is TFDS_DATA_DIR or ~/tensorflow_datasets.
      files: a folder of the packages' files, where a client shall not bring them.

    Raises: FileNotFoundError, ValueError where the name is unknown, a client is missing, or the
      files aren't there or aren't those that were published.
    """
    found = find.own(name)
    if not found:
        raise ValueError(
            f'{name!r} cannot be prepared: the sets that can be are {", ".join(sorted(find.OWN))}'
        )
    builder, config = found
    root = Path(data_dir or constants.get_default_data_dir()).expanduser()
    folder = find.own_folder(builder, config, root)
    if files and not builder.PACKAGES:
        raise ValueError(f'{name} comes in no package: leave --from away')
    if files:
        for package in builder.PACKAGES:
            packages.check(package, Path(files).expanduser())
    elif not folder.exists():
        packages.check_clients(builder.PACKAGES)
    return Job(builder, config, folder, Path(files).expanduser() if files else None)


def run(job: Job) -> Iterator[str]:
    """Prepares the set where it isn't yet; yields where it is, its sizes, and whose it is.

    Raises: OSError where a package can't be brought; ValueError where one isn't the published one.
    """
    if not job.folder.exists():
        with tempfile.TemporaryDirectory() as place:
            files = job.files
            if job.builder.PACKAGES and not files:
                files = Path(place)
                packages.bring(job.builder.PACKAGES, files)
            build(job.builder, job.folder, job.config, files, progress=True)
    made = tfds.builder_from_directory(job.folder)
    sizes = ', '.join(f'{split.num_examples} {name}' for name, split in made.info.splits.items())
    megabytes = sum(file.stat().st_size for file in job.folder.rglob('*') if file.is_file()) / 1e6
    yield f'{job.folder}: {sizes}; {megabytes:.1f} MB'
    yield from job.builder.ATTRIBUTION.splitlines()
