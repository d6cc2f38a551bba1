"""What the tests of the data share."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    """A data_dir in which the digits are prepared."""
    root = tmp_path_factory.mktemp('prepared')
    data.load('digits', data_dir=str(root))
    return root


@pytest.fixture
def refused():
    """refused(error, word, …): the block raises that error, in one line that holds every word."""

    @contextlib.contextmanager
    def expect(error, *words):
        with pytest.raises(error) as caught:
            yield
        assert caught.type is error
        message = str(caught.value)
        assert '\n' not in message
        for word in words:
            assert str(word) in message, message

    return expect


@pytest.fixture
def toy():
    """toy(n): a labelled set of n images of 4x6x1, no two alike and none like its mirror image."""

    def make(n, source=list):
        images = np.arange(n * 24, dtype=np.uint32).reshape(n, 4, 6, 1) * 2654435761 >> 24
        examples = [{'image': x.astype(np.uint8), 'label': i % 3} for i, x in enumerate(images)]
        return data.Dataset('toy', source(examples), (4, 6, 1), 256, ('a', 'b', 'c'), 'f')

    return make


@pytest.fixture
def draw():
    """draw(file, size, mode): writes an image of noise, the same for the same file."""

    def write(file, size=(6, 4), mode='RGB'):
        file.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(list(str(file).encode()))
        noise = random.integers(0, 256, (size[1], size[0], len(mode))).astype(np.uint8)
        Image.fromarray(noise[..., 0] if mode == 'L' else noise).save(file)
        return noise

    return write
