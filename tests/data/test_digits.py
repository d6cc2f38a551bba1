import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxdiff import data


@pytest.fixture(scope='module')
def digits(prepared):
    def arrays(split):
        dataset = data.load('digits', data_dir=str(prepared), split=split)
        examples = [dataset.source[i] for i in range(len(dataset.source))]
        images = np.stack([example['image'] for example in examples])
        return dataset, images, np.array([example['label'] for example in examples])

    return {split: arrays(split) for split in ('train', 'test', 'train+test')}


def test_they_are_scikit_learns(digits):
    dataset, images, labels = digits['train+test']
    assert images.shape == (1797, 8, 8, 1) and dataset.shape == (8, 8, 1)
    assert dataset.class_names == tuple('0123456789')
    values = np.unique(images)
    assert dataset.levels == len(values) == 17
    assert np.array_equal(values, np.round(np.arange(17) * 255 / 16))
    expected, targets = load_digits(return_X_y=True)
    found = np.round(images.reshape(-1, 64) * 16.0 / 255)
    assert sorted(map(tuple, np.c_[found, labels])) == sorted(map(tuple, np.c_[expected, targets]))


def test_the_splits_are_apart_and_balanced(digits):
    (_, train, train_labels), (_, test, test_labels) = digits['train'], digits['test']
    assert len(train) == 1442 and len(test) == 355
    share = np.bincount(test_labels) / np.bincount(np.r_[train_labels, test_labels])
    assert (abs(share - 0.2) < 0.006).all()
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}


def test_resized_digits_have_more_levels(prepared):
    dataset = data.load('digits', data_dir=str(prepared), image_size=16)
    assert dataset.shape == (16, 16, 1) and dataset.levels == 256
    assert data.load('digits', data_dir=str(prepared), image_size=8).levels == 17
