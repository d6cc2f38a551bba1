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

CAPTIONS = ('text', 'caption', 'texts', 'captions')


def read(name: str, data_dir: str, split: str) -> Dataset:
    """A prepared TFDS set, see `find`. Never asks the network.

    A label that is not a ClassLabel is left out; of captions see `check_features`.

    Raises:
      FileNotFoundError: the set is not prepared.
      ValueError: no set of this name or no such split, or a set that can't be read.
    """
    root = Path(data_dir or constants.get_default_data_dir()).expanduser()
    builder = find(name, root)
    channels, class_names, caption = check_features(name, dict(builder.info.features.items()))
    try:
        records = _records(name, builder, split)
        fingerprint = _digest(builder.info, split, records, caption)
    except RuntimeError as error:  # array_record's, of broken files
        raise ValueError(
            f'{name} is broken, delete {builder.data_dir} and prepare it again: {error}'
        ) from error
    height, width, _ = builder.info.features['image'].shape
    ours = OWN.get(builder.name)
    return Dataset(
        name,
        Records(records, channels, bool(class_names), caption),
        (height, width, channels),
        ours.LEVELS if ours and builder.version == ours.VERSION else 256,
        class_names,
        fingerprint,
        bool(caption),
        str(builder.data_dir),
        tuple(
            (f.filename, f.skip, f.skip + f.take)
            for f in builder.info.splits[split].file_instructions
        ),
    )


class Records:
    """The serialised examples of a TFDS data source, their images decoded, as a source.

    `caption` names the feature that holds the captions, '' where there are none.
    """

    def __init__(self, records: Any, channels: int, labelled: bool, caption: str = ''):
        self._records, self._channels = records, channels
        self._labelled, self._caption = labelled, caption

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, examples: list[int]) -> list[dict]:
        elements = []
        for record in self._records.__getitems__(examples):
            file, label, *texts = _parse(record, self._caption)
            element = {'image': image.decode(io.BytesIO(file), self._channels)}
            if self._labelled:
                element['label'] = label
            if self._caption:
                element['text'] = tuple(text.decode() for text in texts) or ''
            elements.append(element)
        return elements


def _parse(record, caption):
    """The image's file, the label or None, and the captions, as bytes."""
    feature = tf_example_pb2.Example.FromString(record).features.feature
    label = feature['label'].int64_list.value  # empty where there is none
    texts = feature[caption].bytes_list.value if caption else ()
    return feature['image'].bytes_list.value[0], label[0] if label else None, *texts


def check_features(name: str, features: dict) -> tuple[int, tuple[str, ...], str]:
    """The channels, the class names and where the captions are, of a TFDS set's features.

    Captions are a feature text, caption, texts or captions that is a Text, a sequence of Texts, or
    a sequence of features of which 'text' is one; '' where there is none. The first one is taken.

    Raises: ValueError where the features can't be used.
    """
    found = features.get('image')
    if not isinstance(found, tfds.features.Image):
        raise ValueError(f"{name} must have an 'image', it has {', '.join(features)}")
    channels, dtype = found.shape[2], np.dtype(found.np_dtype)
    if dtype != np.uint8 or channels not in (1, 3, 4):
        raise ValueError(
            f'the images of {name} must be uint8 of 1, 3 or 4 channels, they are {dtype} of {channels}'
        )
    label = features.get('label')
    labelled = isinstance(label, tfds.features.ClassLabel)
    captions = (_texts(key, features[key]) for key in CAPTIONS if key in features)
    return channels, tuple(label.names) if labelled else (), next(filter(None, captions), '')


def _texts(key, feature):
    """Under which name a record holds the texts of a feature; '' where it has none."""
    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
        if isinstance(feature, tfds.features.FeaturesDict) and 'text' in feature:
            key, feature = f'{key}/text', feature['text']
    return key if isinstance(feature, tfds.features.Text) else ''


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


def _digest(info, split, records, caption) -> str:
    shards = [(s.name, int(s.num_bytes), s.shard_lengths) for s in info.splits.values()]
    parts = ('tfds', info.full_name, split, len(records), *shards)
    files = {item.filename for item in info.splits[split].file_instructions}
    if sum(map(os.path.getsize, files)) > CONTENT_BYTES:
        return digest(*parts)
    # Not the records themselves: the order of a record's features differs between preparations.
    contents = (_parse(record, caption) for record in records.__getitems__(range(len(records))))
    return digest(*parts, *(part for content in contents for part in content))
