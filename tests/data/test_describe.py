import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data.describe import describe


def test_a_set_that_is_there_is_loaded():
    assert describe('digits').fingerprint == data.load('digits').fingerprint


@pytest.mark.parametrize(
    'name, size, shape, classes',
    [
        ('cifar10', 0, (32, 32, 3), 10),
        ('cifar10', 16, (16, 16, 3), 10),
        ('imagenet2012', 64, (64, 64, 3), 1000),
        ('imagenet_resized/32x32', 0, (32, 32, 3), 1000),
        ('celeb_a', 64, (64, 64, 3), 0),
    ],
)
def test_a_set_that_is_not_prepared_is_described(name, size, shape, classes, tmp_path):
    found = describe(name, data_dir=str(tmp_path), image_size=size)
    assert (found.name, found.shape, len(found.class_names)) == (name, shape, classes)
    assert not len(found.source) and not list(tmp_path.iterdir())


def test_our_own_set_without_its_files_is_described(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_MNIST_DIR', str(tmp_path / 'nowhere'))
    found = describe('fashion_mnist', data_dir=str(tmp_path))
    assert found.shape == (28, 28, 1) and found.class_names[1] == 'Trouser'


@pytest.mark.parametrize('name, channels', [('emoji', 3), ('emoji/rgba', 4)])
def test_captions_that_are_not_here_yet_are_described(name, channels, tmp_path):
    found = describe(name, data_dir=str(tmp_path))
    assert found.captioned and found.shape == (64, 64, channels) and len(found.class_names) == 10
    assert not describe('mnist5k', data_dir=str(tmp_path)).captioned


@pytest.mark.parametrize(
    'arguments, error, message',
    [
        ({'path': '/nowhere'}, FileNotFoundError, '/nowhere does not exist'),
        ({'name': 'cifar11'}, ValueError, 'did you mean'),
        ({'name': 'cifar10:9.9.9'}, ValueError, "no data set is called 'cifar10:9.9.9'"),
        ({'name': 'imagenet2012'}, ValueError, 'several sizes: set image_size'),
        ({'name': 'mnist_corrupted/nope'}, ValueError, 'mnist'),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        describe(**arguments, data_dir=str(tmp_path))


def test_a_file_stays_what_it_is(tmp_path):
    np.savez(tmp_path / 'mine.npz', image=np.zeros((3, 8, 8, 1), np.uint8))
    assert len(describe(path=str(tmp_path / 'mine.npz')).source) == 3
