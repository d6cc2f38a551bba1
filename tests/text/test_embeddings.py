"""Captions encoded once: what is kept is what the encoder gives, and is whole or isn't there."""

import jax
import numpy as np
import pytest

from jaxdiff import text
from jaxdiff.nets.text import TextEncoder
from jaxdiff.text import embeddings

CAPTIONS = ['red circle', 'cat', 'ünder', 'x', 'red circle']


@pytest.fixture(scope='module')
def encoder():
    tokenizer = text.byte_level(12)
    module = TextEncoder(tokenizer.vocabulary, 8, 1, 2, 12)
    params = module.init(jax.random.key(0), *tokenizer.encode(['x']))
    return text.Encoder(tokenizer, module, params, 8, 12, 'tiny')


def test_they_are_computed_once_and_mapped(encoder, tmp_path, monkeypatch):
    found = text.embed(encoder, CAPTIONS, tmp_path, batch_size=2)
    expected, mask = text.encode(encoder, CAPTIONS)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.states.dtype == np.float16 and isinstance(found.states, np.memmap)
    np.testing.assert_allclose(found.states, expected, rtol=2**-11, atol=1e-6)
    monkeypatch.setattr(embeddings, 'states', None)  # who encodes again fails
    again = text.embed(encoder, CAPTIONS, tmp_path)
    np.testing.assert_array_equal(again.states, found.states)
    (file,) = tmp_path.iterdir()
    assert abs(file.stat().st_size - 5 * 12 * (2 * 8 + 1)) < 1000


def test_other_captions_or_another_encoder_are_kept_apart(encoder, tmp_path):
    text.embed(encoder, CAPTIONS, tmp_path)
    text.embed(encoder, CAPTIONS[::-1], tmp_path)
    text.embed(encoder._replace(digest='another'), CAPTIONS, tmp_path)
    text.embed(encoder, ['a caption that is too long', ''], tmp_path, truncate=True, empty=True)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_half_written_is_never_taken_for_whole(encoder, tmp_path, monkeypatch):
    states, calls = embeddings.states, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return states(*args)

    monkeypatch.setattr(embeddings, 'states', killed)
    with pytest.raises(KeyboardInterrupt):
        text.embed(encoder, CAPTIONS, tmp_path, batch_size=2)
    assert not list(tmp_path.iterdir())
    found = text.embed(encoder, CAPTIONS, tmp_path, batch_size=2)
    np.testing.assert_allclose(found.states, text.encode(encoder, CAPTIONS)[0], atol=1e-2)


def test_what_cannot_be_kept_is_told_in_a_line(encoder, tmp_path):
    (tmp_path / 'file').touch()
    for folder in ('file', 'none'):
        with pytest.raises(OSError, match='cannot be kept in .*: give a folder') as error:
            text.embed(encoder, CAPTIONS, tmp_path / folder)
        assert '\n' not in str(error.value)
    large = jax.tree.map(lambda leaf: leaf * 1e6, encoder.params)
    with pytest.raises(ValueError, match='float16 cannot hold'):
        text.embed(encoder._replace(params=large), CAPTIONS, tmp_path)
    with pytest.raises(ValueError, match='is empty'):
        text.embed(encoder, ['x', ''], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('damage', ['another', 'cut', 'emptied'])
def test_a_file_of_something_else_is_refused(damage, encoder, tmp_path):
    text.embed(encoder, CAPTIONS, tmp_path)
    (file,) = tmp_path.iterdir()
    if damage == 'another':
        np.save(file, np.zeros(3))
    else:
        file.write_bytes(file.read_bytes()[: -7 if damage == 'cut' else 0])
    with pytest.raises(ValueError, match='does not hold the embeddings .* delete it'):
        text.embed(encoder, CAPTIONS, tmp_path)
