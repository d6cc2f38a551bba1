import numpy as np
import pytest

from jaxdiff import data

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


@pytest.fixture
def load(tmp_path):
    def save_and_load(**arrays):
        np.savez(tmp_path / 'set.npz', **arrays)
        return data.load(path=str(tmp_path / 'set.npz'))

    return save_and_load


@pytest.mark.parametrize('name', ['image', 'images', 'x', 'samples'])
def test_images_have_any_of_four_names(load, name):
    dataset = load(**{name: IMAGES})
    assert dataset.shape == (4, 6, 3) and dataset.class_names == () and dataset.levels == 256
    assert (
        np.array_equal(dataset.source[3]['image'], IMAGES[3]) and 'label' not in dataset.source[3]
    )


@pytest.mark.parametrize('name', ['label', 'labels', 'y'])
def test_labels_have_any_of_three_names(load, name):
    dataset = load(samples=IMAGES, **{name: np.array([0, 3, 1, 1, 0], np.int64)})
    assert dataset.class_names == ('0', '1', '2', '3')
    assert [dataset.source[i]['label'] for i in range(5)] == [0, 3, 1, 1, 0]


def test_grey_images_need_no_channel(load):
    dataset = load(x=IMAGES[..., 0])
    assert dataset.shape == (4, 6, 1)
    assert np.array_equal(dataset.source[1]['image'], IMAGES[1, :, :, :1])


def test_arrays_are_resized_too(load, tmp_path):
    load(x=IMAGES)
    assert data.load(path=str(tmp_path / 'set.npz'), image_size=2).source[0]['image'].shape == (
        2,
        2,
        3,
    )


@pytest.mark.parametrize(
    'arrays, words',
    [
        ({'picture': IMAGES}, ['no images', 'image', 'samples']),
        ({'x': IMAGES, 'image': IMAGES}, ['one of', 'image', 'x']),
        ({'x': IMAGES / 255}, ['uint8', 'float64']),
        ({'x': IMAGES.astype(np.int32)}, ['uint8', 'int32']),
        ({'x': IMAGES[0, 0]}, ['(n, h, w, c)', '(6, 3)']),
        ({'x': IMAGES[None]}, ['(n, h, w, c)', '(1, 5, 4, 6, 3)']),
        ({'x': IMAGES[:0]}, ['none of them 0', '(0, 4, 6, 3)']),
        ({'x': IMAGES, 'y': np.arange(4)}, ['(5,)', '(4,)']),
        ({'x': IMAGES, 'y': np.zeros((5, 1), int)}, ['(5,)', '(5, 1)']),
        ({'x': IMAGES, 'y': np.zeros(5)}, ['integers', 'float64']),
        ({'x': IMAGES, 'y': np.array([0, 1, 2, -1, 0])}, ['between 0', '-1']),
        ({'x': IMAGES, 'y': np.full(5, 10**6)}, ['65535', '1000000']),
        ({'x': np.array([None, 'a'], object)}, ['pickle']),
    ],
)
def test_what_cannot_be_used_is_refused(load, tmp_path, refused, arrays, words):
    with refused(ValueError, tmp_path / 'set.npz', *words):
        load(**arrays)


@pytest.mark.parametrize(
    'break_it',
    [
        lambda content: b'',
        lambda content: b'not a zip',
        lambda content: content[:-50],
        lambda content: content[:200] + bytes(20) + content[220:],
    ],
)
def test_a_broken_file_is_refused(tmp_path, refused, break_it):
    file = tmp_path / 'set.npz'
    np.savez_compressed(file, x=IMAGES)
    file.write_bytes(break_it(file.read_bytes()))
    with refused(ValueError, file, 'cannot be used'):
        data.load(path=str(file))


def test_an_npy_file_is_refused(tmp_path, refused):
    np.save(tmp_path / 'set.npy', IMAGES)
    (tmp_path / 'set.npy').rename(tmp_path / 'set.npz')
    with refused(ValueError, tmp_path / 'set.npz', 'numpy.savez'):
        data.load(path=str(tmp_path / 'set.npz'))


def test_the_fingerprint_is_of_the_contents(load):
    first = load(x=IMAGES).fingerprint
    assert load(x=IMAGES).fingerprint == first and len(first) == 16
    assert load(x=IMAGES[::-1]).fingerprint != first
