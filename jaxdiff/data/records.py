"""TFDS data sets that are prepared as array_record, read without TensorFlow."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants
from tensorflow_datasets.proto import tf_example_pb2

from jaxdiff.data import image
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.find import OWN, find
from jaxdiff.data.fingerprint import CONTENT_BYTES, digest


def read(name: str, data_dir: str, split: str) -> Dataset:
    """A prepared TFDS set; our own are prepared where they aren't yet. Never asks the network.

    A label that is not a ClassLabel is left out.

    Raises:
      FileNotFoundError: the set is not prepared.
      ValueError: no set of this name or no such split, or a set that can't be read.
    """
    root = Path(data_dir or constants.get_default_data_dir()).expanduser()
    builder = find(name, root)
    channels, class_names = check_features(name, dict(builder.info.features.items()))
    try:
        records = _records(name, builder, split)
        fingerprint = _digest(builder.info, split, records)
    except RuntimeError as error:  # array_record's, of broken files
        raise ValueError(
            f'{name} is broken, delete {builder.data_dir} and prepare it again: {error}'
        ) from error
    height, width, _ = builder.info.features['image'].shape
    own = OWN.get(builder.name)
    return Dataset(
        name,
        Records(records, channels, bool(class_names)),
        (height, width, channels),
        own.LEVELS if own and builder.version == own.VERSION else 256,
        class_names,
        fingerprint,
    )


class Records:
    """The serialised examples of a TFDS data source, their images decoded, as a source."""

    def __init__(self, records: Any, channels: int, labelled: bool):
        self._records, self._channels, self._labelled = records, channels, labelled

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, examples: list[int]) -> list[dict]:
        elements = []
        for record in self._records.__getitems__(examples):
            file, label = _parse(record)
            pixels = image.decode(io.BytesIO(file), self._channels)
            elements.append({'image': pixels} | ({'label': label} if self._labelled else {}))
        return elements


def _parse(record):
    feature = tf_example_pb2.Example.FromString(record).features.feature
    label = feature['label'].int64_list.value  # empty where there is none
    return feature['image'].bytes_list.value[0], label[0] if label else None


def check_features(name: str, features: dict) -> tuple[int, tuple[str, ...]]:
    """The channels and class names of a TFDS set's features; ValueError where they can't be used."""
    found = features.get('image')
    if not isinstance(found, tfds.features.Image):
        raise ValueError(f"{name} must have an 'image', it has {', '.join(features)}")
    channels, dtype = found.shape[2], np.dtype(found.np_dtype)
    if dtype != np.uint8 or channels not in (1, 3):
        raise ValueError(
            f'the images of {name} must be uint8 of 1 or 3 channels, they are {dtype} of {channels}'
        )
    label = features.get('label')
    labelled = isinstance(label, tfds.features.ClassLabel)
    return channels, tuple(label.names) if labelled else ()


def _records(name, builder, split):
    # Decoding is ours: TFDS would decode every feature, slowly, and ask for OpenCV.
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        records = builder.as_data_source(split, deserialize_method=raw)
        if not len(records):
            raise ValueError('it is empty')
        return records
    except ValueError as error:
        splits = ', '.join(f'{s.name} ({s.num_examples})' for s in builder.info.splits.values())
        why = str(error).splitlines()[-1].rstrip('.')
        raise ValueError(
            f'{name} cannot give the split {split!r} ({why}): it has '
            f"{splits}, and slices and sums of them such as 'train[:50%]' and 'train+test'"
        ) from None


def _digest(info, split, records) -> str:
    shards = [(s.name, int(s.num_bytes), s.shard_lengths) for s in info.splits.values()]
    parts = ('tfds', info.full_name, split, len(records), *shards)
    files = {item.filename for item in info.splits[split].file_instructions}
    if sum(map(os.path.getsize, files)) > CONTENT_BYTES:
        return digest(*parts)
    # Not the records themselves: the order of a record's features differs between preparations.
    contents = map(_parse, records.__getitems__(list(range(len(records)))))
    return digest(*parts, *(part for content in contents for part in content))
