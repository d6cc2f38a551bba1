"""Preparing our own TFDS sets."""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds


def prepare(builder: type[tfds.core.GeneratorBasedBuilder], folder: Path) -> None:
    """Prepares a set as array_record in `folder`, which is there whole or not at all.

    Processes that prepare one set at once each do so in a folder of their own, and the first one
    to be done has its own kept. (TFDS names its temporary folders by `random`, so that processes
    with one seed would share them.)
    """
    print(f'preparing {builder.name} in {folder}', file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix='incomplete.', dir=folder.parent) as private:
        made = builder(data_dir=private, file_format='array_record')
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it is doing
            made.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
        try:
            os.rename(made.data_dir, folder)
        except OSError:
            if not folder.exists():
                raise
