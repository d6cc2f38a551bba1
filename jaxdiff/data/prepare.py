"""Preparing our own TFDS sets."""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds

from jaxdiff.data import packages


def prepare(
    builder: type[tfds.core.GeneratorBasedBuilder],
    folder: Path,
    config: str = '',
    files: Path | None = None,
    progress: bool = False,
) -> None:
    """Prepares a set as array_record in `folder`, which is there whole or not at all.

    Processes that prepare one set at once each do so in a folder of their own, and the first one
    to be done has its own kept. (TFDS names its temporary folders by `random`, so that processes
    with one seed would share them.)

    Args:
      config: the name of a TFDS builder config, where the set has such.
      files: where the files of the builder's PACKAGES are; their licences go to folder/licences.
      progress: show TFDS's progress bars.
    """
    print(f'preparing {builder.name} in {folder}', file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
    with tempfile.TemporaryDirectory(prefix='incomplete.', dir=folder.parent) as private:
        made = builder(data_dir=private, file_format='array_record', config=config or None)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it is doing
            made.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, manual_dir=files
                )
            )
        if files:
            packages.keep_licences(made.PACKAGES, files, Path(made.data_dir) / 'licences')
        try:
            os.rename(made.data_dir, folder)
        except OSError:
            if not folder.exists():
                raise
