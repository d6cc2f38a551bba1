"""What a model must know of a data set, also where its files are somewhere else."""

from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from jaxdiff.data.dataset import Dataset, load
from jaxdiff.data.find import own
from jaxdiff.data.records import check_features


def describe(
    name: str = '', path: str = '', data_dir: str = '', split: str = 'train', image_size: int = 0
) -> Dataset:
    """As `load`; of a TFDS set that isn't prepared, what its builder says, without any examples.

    Such a set has the `source` () and the `fingerprint` ''. Nothing is ever downloaded.

    Args: those of `load`.

    Raises: as `load`, but for sets that aren't prepared.
    """
    try:
        return load(name, path, data_dir, split, image_size)
    except FileNotFoundError:
        if not name:
            raise
    root = Path(data_dir or constants.get_default_data_dir()).expanduser()
    builder = _builder(name, root)
    channels, class_names, caption = check_features(name, dict(builder.info.features.items()))
    size = builder.info.features['image'].shape[:2]
    if image_size:
        size = (image_size, image_size)
    elif None in size:
        raise ValueError(f'{name} holds images of several sizes: set image_size, for example to 64')
    levels = 256 if image_size else getattr(builder, 'LEVELS', 256)
    return Dataset(name, (), (*size, channels), levels, class_names, '', bool(caption))


def _builder(name, root):
    found = own(name)
    if found:
        return found[0](data_dir=root, config=found[1] or None)
    try:
        return tfds.builder(name, data_dir=root)
    except AssertionError as error:  # TFDS's, of a version that doesn't exist
        raise ValueError(f'no data set is called {name!r}: {error}') from None
