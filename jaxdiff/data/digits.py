"""The digits of scikit-learn as a TFDS data set: 1,797 grey images of 8x8, in the wheel itself."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Handwritten digits (Alpaydin and Kaynak 1998, UCI machine learning repository).

    The 17 values 0 … 16 become round(v * 255 / 16). Of each class, every fifth image in the order
    of scikit-learn is in 'test' (355 images), the others in 'train' (1,442).
    """

    VERSION = tfds.core.Version('1.0.0')
    LEVELS = 17
    PACKAGES = ()  # it comes with a dependency
    ATTRIBUTION = (
        'Digits: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI machine '
        'learning repository, CC-BY-4.0; by way of scikit-learn, BSD-3-Clause'
    )

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=(8, 8, 1)),
            'label': tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            license=self.ATTRIBUTION,
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)
        images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
        test = fifths(labels)
        return {
            'train': self._generate_examples(images[~test], labels[~test]),
            'test': self._generate_examples(images[test], labels[test]),
        }

    def _generate_examples(self, images, labels):
        for i, (pixels, label) in enumerate(zip(images, labels)):
            yield i, {'image': png(pixels), 'label': int(label)}


def fifths(labels: np.ndarray) -> np.ndarray:
    """Whether each example is a fifth one of its class, in their order: bool [n] of labels [n]."""
    rank = np.zeros(len(labels), int)  # of each example within its class
    for label in np.unique(labels):
        rank[labels == label] = range(np.sum(labels == label))
    return rank % 5 == 4


def png(pixels: np.ndarray) -> io.BytesIO:
    """An image, uint8 [h, w] or [h, w, c], as a PNG file, which is what TFDS takes without TensorFlow.

    It is stored, not compressed: the same bytes with every zlib, and so the same fingerprint.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG', compress_level=0)
    file.seek(0)
    return file
