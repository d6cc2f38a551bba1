"""CLIP's tokenizer, from the vocabulary that its authors published.

References:
  Radford et al. 2021, CLIP (https://arxiv.org/abs/2103.00020), section 2.4.
  Sennrich et al. 2015, byte pair encoding of rare words (https://arxiv.org/abs/1508.07909).
"""

import gzip
import html
import zlib
from pathlib import Path

from jaxdiff.data.fingerprint import digest
from jaxdiff.text import tokenizer
from jaxdiff.text.packages import file_of, need

MERGES = 49152 - 256 - 2  # the lines that were used of the file
_BEGIN, _END = '<start_of_text>', '<end_of_text>'
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def clip(path: str | Path = '', length: int = 77) -> tokenizer.Tokenizer:
    """CLIP's tokenizer, of 49,408 tokens where the file is CLIP's.

    Texts are mended by ftfy, HTML's entities are resolved, white space becomes one space, and all is
    lower case. The tokens are the 256 bytes, the same at the end of a word, one for each merge, and
    the two that begin and end a text. Needs the extra `text`.

    Args:
      path: `bpe_simple_vocab_16e6.txt.gz`, or a `merges.txt`: a first line of no meaning, and then
        two symbols a line. '' is the file in the installed package open-clip-torch.
      length: of the context.

    Raises: FileNotFoundError, ValueError where the file isn't one, ImportError without the packages.
    """
    need('tokenizers', "CLIP's tokenizer")
    need('ftfy', "CLIP's tokenizer")
    import ftfy
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

    merges = _read(path)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = alphabet + [symbol + '</w>' for symbol in alphabet] + [a + b for a, b in merges]
    words += [_BEGIN, _END]
    vocabulary = {word: i for i, word in enumerate(words)}
    inner = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix='</w>'))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), 'removed', invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.add_special_tokens([AddedToken(word, special=True) for word in (_BEGIN, _END)])
    ends = [(word, vocabulary[word]) for word in (_BEGIN, _END)]
    inner.post_processor = processors.TemplateProcessing(f'{_BEGIN} $A {_END}', special_tokens=ends)
    plain = tokenizer.wrap(inner, length, digest('clip', merges, length))

    def encode(texts, truncate=False, empty=False):
        if isinstance(texts, str):
            return plain.encode(texts)  # which refuses it
        cleaned = [html.unescape(html.unescape(ftfy.fix_text(text))) for text in texts]
        return plain.encode([' '.join(text.split()).lower() for text in cleaned], truncate, empty)

    return plain._replace(encode=encode)


def _read(path):
    """[(first, second), …], the merges in their order."""
    file = Path(path).expanduser() if path else file_of('open_clip', 'bpe_simple_vocab_16e6.txt.gz')
    if file is None:
        raise FileNotFoundError(
            "CLIP's tokenizer needs bpe_simple_vocab_16e6.txt.gz: pip install --no-deps "
            'open-clip-torch, which holds it, or give its path'
        )
    if not file.is_file():
        raise FileNotFoundError(f'there is no {file}: give bpe_simple_vocab_16e6.txt.gz')
    content = file.read_bytes()
    try:
        text = (gzip.decompress(content) if file.suffix == '.gz' else content).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is broken, fetch it anew: {error}') from error
    merges = [tuple(line.split()) for line in text.split('\n')[1 : 1 + MERGES] if line]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise ValueError(f'{file} must hold two symbols a line after its first line')
    return merges
