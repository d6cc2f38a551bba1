"""CLIP's tokenizer against open_clip's own, with CLIP's vocabulary.

Needs the package open-clip-torch, of which one module is loaded: `pip install --no-deps` will do.
"""

import importlib.util
import random
import unicodedata

import numpy as np
import pytest

from jaxdiff import text
from jaxdiff.text.packages import file_of

for needed in ('torch', 'regex', 'ftfy', 'tokenizers'):
    pytest.importorskip(needed)
MODULE = file_of('open_clip', 'tokenizer.py')
pytestmark = pytest.mark.skipif(MODULE is None, reason='needs the package open-clip-torch')

TRICKY = [
    'a photo of a cat',
    '  Hello\t\n WORLD  ',
    "it's we'll I'D they'Re don’t “quoted” naïve café",
    '&amp;lt;b&amp;gt; &nbsp; x',
    '日本語 한국어 العربية हिन्दी',
    '🙂👨‍👩‍👧‍👦🏳️‍🌈',
    '3.14159, 1,000,000 ½ ² Ⅷ',
    'a_b-c--d!!!???...',
    'ﬁne ﬂow Ａｗｉｄｅ',
    "İstanbul STRASSE ß ſ 'ſ",
    'schÃ¶n â€œmojibakeâ€\x9d',
    '<start_of_text> hi <end_of_text>',
    '<END_OF_TEXT>x <|endoftext|>',
    'a\x00b\u200bc\ufeffd \x85e\x1cf',
    'e\u0301 vs é ΑΒΓΣ ς ǅ',
    'supercalifragilisticexpialidocious',
    "'s't're",
    'x' * 300,
]


@pytest.fixture(scope='module')
def both():
    spec = importlib.util.spec_from_file_location('open_clip_tokenizer', MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return text.clip(), module.SimpleTokenizer()


def test_tricky_texts(both):
    ours, theirs = both
    assert (ours.vocabulary, ours.length) == (theirs.vocab_size, 77) == (49408, 77)
    for given in TRICKY:
        tokens, mask = ours.encode([given], truncate=True)
        np.testing.assert_array_equal(tokens, theirs([given]).numpy(), err_msg=repr(given))
        assert mask.sum() == min(77, len(theirs.encode(given)) + 2)


def test_random_texts(both):
    """Of characters that every library's Unicode tables know.

    Without U+0345, a mark that open_clip drops, as it counts both as a letter and as none.
    """
    ours, theirs = both
    planes = [*range(0x20, 0x250), *range(0x370, 0x3400), *range(0x1F300, 0x1F700)]
    known = [chr(c) for c in planes if unicodedata.category(chr(c)) != 'Cn' and c != 0x345]
    source = random.Random(0)
    texts = ['x' + ''.join(source.choices(known, k=source.randint(1, 20))) for _ in range(500)]
    np.testing.assert_array_equal(ours.encode(texts, truncate=True)[0], theirs(texts).numpy())
