import math

import numpy as np
import pytest

from jaxdiff import data


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


class Counting(list):
    """A source that remembers what was read."""

    def __init__(self, examples):
        super().__init__(examples)
        self.reads = []

    def __getitem__(self, i):
        self.reads.append(i)
        return super().__getitem__(i)


def identify(dataset, batch):
    """The example that stands in each row, by its pixels, mirrored or not."""
    known = {}
    for i in range(len(dataset.source)):
        image = dataset.source[i]['image']
        known[image.tobytes()] = known[image[:, ::-1].tobytes()] = i
    return [known[image.tobytes()] for image in batch['image']]


def test_a_batch_has_the_shapes_and_types_of_the_interface(toy):
    batch = data.batches(toy(10), 4, seed=0)[0]
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        'image': ((4, 4, 6, 1), np.uint8),
        'label': ((4,), np.int32),
        'index': ((4,), np.int32),
    }
    assert batch['index'].tolist() == [0, 1, 2, 3]
    dataset = toy(10)
    assert [dataset.source[i]['label'] for i in identify(dataset, batch)] == batch['label'].tolist()


def test_an_unlabelled_set_has_no_labels(toy):
    dataset = toy(5)
    examples = [{'image': example['image']} for example in dataset.source]
    assert 'label' not in data.batches(dataset._replace(source=examples, class_names=()), 2, 0)[0]


def test_a_batch_is_a_pure_function_of_seed_and_step(toy):
    first = data.batches(toy(10), 4, seed=3, flip=True)
    expected = [first[step] for step in range(12)]
    again = data.batches(toy(10), 4, seed=3, flip=True)
    for step in (11, 0, 7, 7, 3):
        assert same(again[step], expected[step])
    for start in (0, 5):
        stream = data.stream(again, start, threads=3, buffer=4)
        assert all(same(next(stream), batch) for batch in expected[start:])
        stream.close()
    assert not same(data.batches(toy(10), 4, seed=4, flip=True)[0], expected[0])


@pytest.mark.parametrize('n, batch_size', [(10, 4), (7, 3), (3, 8), (1, 4)])
def test_every_epoch_visits_each_example_once(toy, n, batch_size):
    dataset, epochs = toy(n), 5
    batches = data.batches(dataset, batch_size, seed=1)
    steps = math.ceil(epochs * n / batch_size)
    seen = np.concatenate([identify(dataset, batches[step]) for step in range(steps)])
    orders = seen[: epochs * n].reshape(epochs, n)
    assert (np.sort(orders, axis=1) == np.arange(n)).all()
    if n >= 7:
        assert len({tuple(order) for order in orders}) == epochs


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_processes_together_hold_the_batch_of_one(toy, processes):
    whole = data.batches(toy(10), 8, seed=2, flip=True)
    for step in (0, 1, 5):
        batch = {k: np.empty_like(v) for k, v in whole[step].items()}
        for process in range(processes):
            part = data.batches(toy(10), 8, 2, True, process, processes)[step]
            assert part['index'].tolist() == list(range(process, 8, processes))
            for k, v in part.items():
                batch[k][part['index']] = v
        assert same(batch, whole[step])


def test_a_process_reads_its_own_rows_and_no_others(toy):
    dataset = toy(20)
    rows = [identify(dataset, data.batches(dataset, 8, seed=0)[step]) for step in range(6)]
    for process in range(4):
        counting = toy(20, Counting)
        batches = data.batches(counting, 8, 0, process=process, processes=4)
        for step in range(6):
            batches[step]
        assert counting.source.reads == [i for batch in rows for i in batch[process::4]]


def test_flips_mirror_half_of_the_examples_anew_in_each_epoch(toy):
    dataset, n = toy(64), 64
    plain = data.batches(dataset, n, seed=0)
    mirrored = data.batches(dataset, n, seed=0, flip=True)
    ways = []
    for epoch in range(8):
        a, b = plain[epoch]['image'], mirrored[epoch]['image']
        flipped = [not np.array_equal(x, y) for x, y in zip(a, b)]
        for x, y, flip in zip(a, b, flipped):
            assert np.array_equal(x[:, ::-1] if flip else x, y)
        order = np.argsort(identify(dataset, plain[epoch]))
        ways.append(np.array(flipped)[order])
    ways = np.array(ways)
    assert 0.4 < ways.mean() < 0.6
    assert (0 < ways.sum(0)).all() and (ways.sum(0) < 8).mean() > 0.9
    assert len({tuple(epoch) for epoch in ways}) == 8


def test_impossible_batches_are_refused(toy, refused):
    with refused(ValueError, 'batch_size=10', 'processes=4', 'multiple'):
        data.batches(toy(5), 10, 0, processes=4)
    with refused(ValueError, 'batch_size=0'):
        data.batches(toy(5), 0, 0)
    with refused(ValueError, 'process', '2'):
        data.batches(toy(5), 4, 0, process=2, processes=2)
    with refused(ValueError, 'seed', '-1'):
        data.batches(toy(5), 4, -1)
    with refused(ValueError, 'toy', 'no images'):
        data.batches(toy(0), 4, 0)
    with refused(ValueError, 'start', '-1'):
        data.stream(data.batches(toy(5), 4, 0), start=-1)


def test_a_stream_passes_on_the_error_of_a_read(toy):
    dataset = toy(5)
    dataset.source[3] = None
    with pytest.raises(TypeError):
        stream = data.stream(data.batches(dataset, 5, 0))
        next(stream)


def test_impossible_requests_are_refused(tmp_path, refused):
    with refused(ValueError, 'either', 'name', 'path'):
        data.load()
    with refused(ValueError, "name='digits'", "path='x'"):
        data.load('digits', 'x')
    with refused(ValueError, 'image_size', '-8'):
        data.load('digits', image_size=-8)
    with refused(FileNotFoundError, tmp_path / 'no', 'does not exist', '.npz'):
        data.load(path=str(tmp_path / 'no'))
    (tmp_path / 'a.txt').write_text('a')
    with refused(ValueError, 'a.txt', 'folder of images', '.npz'):
        data.load(path=str(tmp_path / 'a.txt'))
    with refused(ValueError, tmp_path, "'train'", "split='test'"):
        data.load(path=str(tmp_path), split='test')


def test_images_are_resized_and_the_set_is_another(draw, tmp_path, refused):
    draw(tmp_path / 'a.png', (10, 20))
    draw(tmp_path / 'b.png', (30, 16))
    with refused(ValueError, tmp_path, 'several sizes', 'image_size'):
        data.load(path=str(tmp_path))
    small, large = (data.load(path=str(tmp_path), image_size=size) for size in (8, 32))
    assert small.shape == (8, 8, 3) and small.source[1]['image'].shape == (8, 8, 3)
    assert large.shape == (32, 32, 3) and large.source[0]['image'].shape == (32, 32, 3)
    assert small.fingerprint != large.fingerprint


def test_an_example_is_decoded_once(draw, tmp_path):
    for i in range(70):
        draw(tmp_path / f'{i}.png')
    dataset = data.load(path=str(tmp_path))
    batches = data.batches(dataset, 70, 0)
    first = batches[0]
    for file in tmp_path.iterdir():
        file.unlink()
    assert same(batches[0], first)
    assert sorted(identify(dataset, batches[1])) == list(range(70))


def test_what_is_too_large_for_memory_is_read_each_time(draw, tmp_path, monkeypatch):
    monkeypatch.setattr('jaxdiff.data.dataset.CACHE_BYTES', 0)
    draw(tmp_path / 'a.png')
    dataset = data.load(path=str(tmp_path))
    data.batches(dataset, 2, 0)[0]
    (tmp_path / 'a.png').unlink()
    with pytest.raises(ValueError, match='a.png'):
        data.batches(dataset, 2, 0)[0]


@pytest.fixture
def captioned(toy):
    """captioned(n): a toy set, example i with the captions 'i a', 'i b' and 'i c'."""

    def make(n):
        dataset = toy(n)._replace(captioned=True)
        for i, example in enumerate(dataset.source):
            example['text'] = tuple(f'{i} {letter}' for letter in 'abc')
        return dataset

    return make


def lookup(texts):
    """A tokenizer that tells which example and which of its captions it was given."""
    tokens = [(int(text.split()[0]), 'abc'.index(text.split()[1])) for text in texts]
    return {'text': np.array(tokens, np.int32), 'mask': np.ones((len(tokens), 2), bool)}


def test_captions_are_tokenized_or_left_out(captioned):
    dataset = captioned(10)
    batch = data.batches(dataset, 4, 0, tokenize=lookup)[0]
    assert batch.keys() == {'image', 'label', 'index', 'text', 'mask'}
    assert batch['text'][:, 0].tolist() == identify(dataset, batch)
    plain = data.batches(dataset, 4, 0)[0]
    assert same(plain, {key: batch[key] for key in ('image', 'label', 'index')})


def test_the_caption_is_a_function_of_seed_and_position(captioned):
    dataset = captioned(6)
    batches = data.batches(dataset, 8, 2, True, tokenize=lookup)
    expected = [batches[step] for step in range(5)]
    assert all(same(batches[step], expected[step]) for step in (3, 0, 4))
    for process in range(4):
        part = data.batches(dataset, 8, 2, True, process, 4, tokenize=lookup)[3]
        assert np.array_equal(part['text'], expected[3]['text'][part['index']])
    with_threads = data.stream(batches, start=2)
    assert same(next(with_threads), expected[2])
    with_threads.close()
    assert not same(data.batches(dataset, 8, 3, True, tokenize=lookup)[0], expected[0])


def test_every_caption_is_taken_over_the_epochs(captioned):
    batch = data.batches(captioned(5), 5 * 60, 0, tokenize=lookup)[0]
    counts = np.zeros((5, 3), int)
    np.add.at(counts, tuple(batch['text'].T), 1)
    assert (counts.sum(1) == 60).all()
    assert ((counts - 20) ** 2 / 20).sum() < 29.6  # 10 degrees of freedom: p = 0.001


def test_a_set_without_captions_has_none_to_tokenize(toy, refused):
    with refused(ValueError, 'toy', 'no captions'):
        data.batches(toy(5), 4, 0, tokenize=lookup)
