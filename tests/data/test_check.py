import numpy as np
import pytest

from jaxdiff.data import Dataset
from jaxdiff.data.check import EXAMPLES, check


def test_a_sound_set_passes(toy):
    check(toy(1))
    check(toy(200))


def test_a_bounded_number_of_examples_is_read(toy):
    class Counting(list):
        reads = 0

        def __getitem__(self, i):
            Counting.reads += 1
            return super().__getitem__(i)

    check(toy(1000, Counting))
    assert Counting.reads == EXAMPLES


@pytest.mark.parametrize(
    'broken, words',
    [
        ({'label': 0}, ['example 9', "'image'", "['label']"]),
        ({'image': np.zeros((4, 6, 1), np.float32), 'label': 0}, ['image 9', 'uint8', 'float32']),
        (
            {'image': np.zeros((6, 4, 1), np.uint8), 'label': 0},
            ['image 9', '(4, 6, 1)', '(6, 4, 1)'],
        ),
        ({'image': np.zeros((4, 6, 1), np.uint8)}, ['example 9', 'label', 'none']),
        ({'image': np.zeros((4, 6, 1), np.uint8), 'label': 3}, ['label 3', 'example 9', '0 and 2']),
        ({'image': np.zeros((4, 6, 1), np.uint8), 'label': -1}, ['label -1', 'example 9']),
    ],
)
def test_a_broken_example_is_named(toy, refused, broken, words):
    dataset = toy(10)
    dataset.source[9] = broken
    with refused(ValueError, 'toy', *words):
        check(dataset)


@pytest.mark.parametrize('text', [None, 7, (), ('a', 7), b'a', ['a']])
def test_a_caption_that_is_none_is_named(toy, refused, text):
    dataset = toy(10)._replace(captioned=True)
    for example in dataset.source:
        example['text'] = ('a', 'b')
    check(dataset)
    dataset.source[9]['text'] = text
    with refused(ValueError, 'toy', 'example 9', "'text'", repr(text)):
        check(dataset)


def test_one_three_or_four_channels_are_allowed(refused):
    for channels in (1, 3, 4):
        image = np.zeros((2, 2, channels), np.uint8)
        check(Dataset('some', [{'image': image}], image.shape, 256, (), ''))
    with refused(ValueError, 'some', '1, 3 or 4 channels', '2'):
        check(Dataset('some', [{'image': image[..., :2]}], (2, 2, 2), 256, (), ''))


def test_an_empty_set_is_refused(toy, refused):
    with refused(ValueError, 'toy', 'no images'):
        check(toy(0))
