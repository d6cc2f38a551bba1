import gzip
from pathlib import Path

import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data.fashion_mnist import CLASSES, DEBIAN, read, read_idx

RANDOM = np.random.default_rng(0)


def idx(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + b''.join(n.to_bytes(4, 'big') for n in array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Four small files, where the builder looks for them."""
    folder = tmp_path / 'files'
    folder.mkdir()
    for kind, n in (('train', 12), ('t10k', 5)):
        images = RANDOM.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        (folder / f'{kind}-images-idx3-ubyte.gz').write_bytes(idx(images))
        (folder / f'{kind}-labels-idx1-ubyte.gz').write_bytes(
            idx(np.arange(n, dtype=np.uint8) % 10)
        )
    monkeypatch.setenv('FASHION_MNIST_DIR', str(folder))
    return folder


def load(root, **options):
    return data.load('fashion_mnist', data_dir=str(root / 'sets'), **options)


def test_the_files_become_a_set(files, tmp_path):
    images, labels = read(files, 'train')
    dataset = load(tmp_path)
    assert dataset.shape == (28, 28, 1) and dataset.levels == 256 and dataset.class_names == CLASSES
    found = {dataset.source[i]['image'].tobytes(): dataset.source[i]['label'] for i in range(12)}
    assert found == {image.tobytes(): label for image, label in zip(images, labels)}
    assert len(load(tmp_path, split='test').source) == 5
    assert len(load(tmp_path, split='train+test').source) == 17


def test_a_missing_file_is_named(files, tmp_path, refused):
    (files / 't10k-labels-idx1-ubyte.gz').unlink()
    with refused(
        FileNotFoundError,
        't10k-labels-idx1-ubyte.gz',
        files,
        'apt-get install dataset-fashion-mnist',
        'FASHION_MNIST_DIR',
    ):
        load(tmp_path)
    assert not list(tmp_path.glob('sets/*/*'))


@pytest.mark.parametrize(
    'content, words',
    [
        (b'not gzip', ['broken']),
        (idx(np.zeros((5, 28, 28), np.uint8))[:-20], ['broken']),
        (idx(np.zeros((5, 28, 28), np.float32), 13), ['unsigned bytes', '[0, 0, 13, 3]']),
        (idx(np.zeros((5, 784), np.uint8)), ['rank 3', '[0, 0, 8, 2]']),
        (gzip.compress(bytes([0, 0, 8, 3])), ['idx']),
        (
            gzip.compress(gzip.decompress(idx(np.zeros((5, 28, 28), np.uint8)))[:-1]),
            ['3920', '3919'],
        ),
        (idx(np.zeros((5, 32, 32), np.uint8)), ['28x28', '(5, 32, 32)']),
        (idx(np.zeros((6, 28, 28), np.uint8)), ['(6, 28, 28)', '(5,)']),
    ],
    ids=['text', 'cut', 'kind', 'rank', 'header', 'short', 'size', 'count'],  # gzip holds the time
)
def test_a_broken_file_is_named(files, tmp_path, refused, content, words):
    (files / 't10k-images-idx3-ubyte.gz').write_bytes(content)
    with refused(ValueError, files / 't10k-images-idx3-ubyte.gz', *words):
        load(tmp_path)


def test_a_label_beyond_the_classes_is_refused(files, tmp_path, refused):
    (files / 't10k-labels-idx1-ubyte.gz').write_bytes(idx(np.full(5, 10, np.uint8)))
    with refused(ValueError, 't10k-labels-idx1-ubyte.gz', '0 to 9', '10'):
        load(tmp_path)


@pytest.mark.skipif(not Path(DEBIAN).exists(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.parametrize('kind, n', [('train', 60000), ('t10k', 10000)])
def test_debians_files_are_whole(kind, n):
    images, labels = read(Path(DEBIAN), kind)
    assert images.shape == (n, 28, 28)
    assert np.bincount(labels).tolist() == [n // 10] * 10


@pytest.mark.skipif(not Path(DEBIAN).exists(), reason="needs Debian's dataset-fashion-mnist")
def test_debians_files_become_a_set(tmp_path, monkeypatch):
    monkeypatch.delenv('FASHION_MNIST_DIR', raising=False)
    images, labels = read(Path(DEBIAN), 't10k')
    train, test = load(tmp_path), load(tmp_path, split='test')
    assert len(train.source) == 60000 and len(test.source) == 10000
    expected = {(image.tobytes(), int(label)) for image, label in zip(images, labels)}
    for i in range(0, 10000, 97):
        assert (test.source[i]['image'].tobytes(), test.source[i]['label']) in expected


def test_idx_is_read_as_written(tmp_path):
    array = RANDOM.integers(0, 256, (3, 2, 5)).astype(np.uint8)
    (tmp_path / 'a.gz').write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / 'a.gz', 3), array)
