from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxdiff.data.source import Arrays, Cache, choose, read, stack


class Slow:
    """A source that is read many at a time, and remembers what was."""

    def __init__(self, n, shape=(2, 3, 1)):
        self.images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) + np.zeros(shape, np.uint8)
        self.reads = []

    def __len__(self):
        return len(self.images)

    def __getitems__(self, examples):
        self.reads.append(examples)
        return [{'image': self.images[i], 'label': i % 4} for i in examples]


def test_many_examples_are_read_at_once_where_the_source_can():
    source = Slow(5)
    assert [e['label'] for e in read(source, [1, 3])] == [1, 3]
    assert source.reads == [[1, 3]]
    assert [e['label'] for e in read([{'label': 7}, {'label': 8}], [1, 0])] == [8, 7]


def test_arrays_are_a_source_with_and_without_labels():
    images = np.zeros((3, 2, 2, 1), np.uint8)
    assert Arrays(images, None)[0].keys() == {'image'}
    assert Arrays(images, np.array([4, 5, 6]))[2]['label'] == 6
    assert (
        stack(read(Arrays(images, np.array([4, 5, 6], np.int64)), [0, 2]))['label'].dtype
        == np.int32
    )


def test_arrays_may_have_captions():
    images = np.zeros((2, 2, 2, 1), np.uint8)
    element = Arrays(images, texts=['a', ('b', 'c')])[1]
    assert element.keys() == {'image', 'text'} and element['text'] == ('b', 'c')


def test_of_several_captions_the_word_chooses_one():
    elements = [
        {'text': 'only'},
        {'text': ('a', 'b', 'c')},
        {'text': ('a', 'b', 'c')},
        {'text': ''},
    ]
    words = np.array([5, 3, 2**64 - 1, 9], np.uint64)  # 2**64 - 1 is a multiple of 3
    assert choose(elements, words) == ['only', 'a', 'a', '']
    assert choose(elements[1:2], np.array([7], np.uint64)) == ['b']


def test_a_cache_keeps_captions():
    texts = ['a', ('b', 'c'), '']
    source = [{'image': np.zeros((1, 1, 1), np.uint8), 'text': text} for text in texts]
    cache = Cache(source, (1, 1, 1), False, True)
    assert [element['text'] for element in read(cache, [2, 0, 1])] == ['', 'a', ('b', 'c')]
    source.clear()
    assert cache[1]['text'] == ('b', 'c') and 'label' not in cache[1]


def test_a_cache_reads_what_is_asked_for_once():
    source = Slow(10)
    cache = Cache(source, (2, 3, 1), True)
    assert len(cache) == 10
    for _ in range(2):
        assert [e['label'] for e in read(cache, [5, 2])] == [1, 2]
    assert [e['image'][0, 0, 0] for e in read(cache, [2, 7])] == [2, 7]
    assert cache[7]['label'] == 3
    assert source.reads == [[5, 2], [7]]


def test_threads_share_a_cache():
    source = Slow(200)
    cache = Cache(source, (2, 3, 1), True)
    random = np.random.default_rng(0)
    asked = [random.integers(0, 200, 50).tolist() for _ in range(100)]
    with ThreadPoolExecutor(8) as pool:
        for examples, elements in zip(asked, pool.map(lambda e: read(cache, e), asked)):
            assert [element['image'].max() for element in elements] == examples
            assert [element['label'] for element in elements] == [i % 4 for i in examples]


def test_a_cache_refuses_an_image_of_another_shape():
    with pytest.raises(ValueError, match=r'image 3 .*\(2, 3, 1\).*image_size'):
        read(Cache(Slow(5), (2, 3, 3), True), [3])
