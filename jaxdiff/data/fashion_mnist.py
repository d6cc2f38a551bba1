"""Fashion-MNIST as a TFDS data set, from the four files that its authors publish."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxdiff.data.digits import png

DEBIAN = '/usr/share/datasets/fashion-mnist'  # of the package dataset-fashion-mnist
CLASSES = (
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
)


class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Clothes in grey, 28x28 (Xiao et al. 2017, arXiv:1708.07747): 60,000 to train, 10,000 to test.

    The files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and
    t10k-labels-idx1-ubyte.gz are read from the folder that the environment variable
    FASHION_MNIST_DIR names, by default that of Debian's package dataset-fashion-mnist.
    """

    VERSION = tfds.core.Version('3.1.0')  # TFDS itself has a 3.0.1 of this name, which downloads
    LEVELS = 256
    PACKAGES = ()  # its files are installed, or given
    ATTRIBUTION = 'Fashion-MNIST: H. Xiao, K. Rasul and R. Vollgraf, Zalando SE, 2017, MIT licence'

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=(28, 28, 1)),
            'label': tfds.features.ClassLabel(names=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            license=self.ATTRIBUTION,
        )

    def _split_generators(self, dl_manager):
        folder = Path(os.environ.get('FASHION_MNIST_DIR', DEBIAN)).expanduser()
        splits = {'train': 'train', 'test': 't10k'}
        return {split: self._generate_examples(*read(folder, k)) for split, k in splits.items()}

    def _generate_examples(self, images, labels):
        for i, (pixels, label) in enumerate(zip(images, labels)):
            yield i, {'image': png(pixels), 'label': int(label)}


def read(folder: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [n, 28, 28], and labels, uint8 [n], of the kind 'train' or 't10k'.

    Raises: FileNotFoundError where a file is missing; ValueError where one is broken.
    """
    files = folder / f'{kind}-images-idx3-ubyte.gz', folder / f'{kind}-labels-idx1-ubyte.gz'
    for file in files:
        if not file.exists():
            raise FileNotFoundError(
                f'fashion_mnist needs {file.name}, which is not in {folder}: run apt-get install '
                'dataset-fashion-mnist, or set FASHION_MNIST_DIR to the folder of its four files '
                '({train,t10k}-{images-idx3,labels-idx1}-ubyte.gz)'
            )
    images, labels = read_idx(files[0], 3), read_idx(files[1], 1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or labels.max(initial=0) > 9:
        raise ValueError(
            f'{files[0]} and {files[1]} must hold n images of 28x28 and n labels from 0 to 9, '
            f'they hold {images.shape} and {labels.shape} up to {labels.max(initial=0)}'
        )
    return images, labels


def read_idx(file: Path, rank: int) -> np.ndarray:
    """A gzipped idx file of unsigned bytes, as an array of the given rank.

    It is 0, 0, 8 (for unsigned bytes), the rank, each dimension in 4 bytes, big-endian, and the data.

    Raises: ValueError where it isn't.
    """
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{file} is broken, fetch it anew: {error}') from error
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise ValueError(
            f'{file} must be an idx file of unsigned bytes and rank {rank}, '
            f'it begins with {list(content[:4])}: fetch it anew'
        )
    shape = np.frombuffer(content[4:start], '>u4').tolist()
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f'{file} must hold {math.prod(shape)} bytes for its shape {shape}, '
            f'it holds {len(content) - start}: fetch it anew'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
