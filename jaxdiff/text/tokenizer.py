"""Text to tokens: bytes, any file of Hugging Face's `tokenizers`, or CLIP's vocabulary."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdiff.data.fingerprint import digest
from jaxdiff.text.packages import need

PAD, BEGIN, END, FIRST = 0, 1, 2, 3  # of the byte-level tokenizer; byte i is FIRST + i


class Tokenizer(NamedTuple):
    """Texts to tokens, always `length` of them.

    `encode(texts, truncate=False, empty=False)` takes a list of n str and returns tokens, int32
    [n, length], and their mask, bool [n, length]: True where there is a token, those that begin and
    end a text included; the rest is padding, token 0.

    A text that is too long is refused, or else cut where `truncate`, as for captions to train on.
    A text of nothing but white space is refused, or else where `empty` it is the null text: a mask that is
    False everywhere. Both raise a ValueError of one line.
    """

    encode: Callable[..., tuple[np.ndarray, np.ndarray]]
    vocabulary: int  # tokens are 0 … vocabulary − 1
    length: int
    digest: str  # the same for tokenizers that make the same tokens


def byte_level(length: int, lower: bool = False) -> Tokenizer:
    """UTF-8: padding, begin and end are 0, 1 and 2, and byte i is 3 + i. No text is unknown.

    Args:
      lower: whether capital letters become small ones, as MiniLM's and CLIP's tokenizers have it.

    Raises: ValueError where the length leaves no room for a byte.
    """

    def pieces(text):
        text = text.lower() if lower else text
        ids = [BEGIN, *(FIRST + byte for byte in text.encode()), END]
        return (ids if len(ids) <= length else [*ids[: length - 1], END]), len(ids)

    name = digest('bytes', length, *['lower'] * lower)
    return _tokenizer(lambda texts: map(pieces, texts), FIRST + 256, length, 2, name)


def from_file(path: str | Path, length: int) -> Tokenizer:
    """A tokenizer saved as JSON by Hugging Face's `tokenizers`, 'tokenizer.json' mostly.

    The file's own padding and truncation are not used. Needs the extra `text`.

    Raises: FileNotFoundError, ValueError where the file isn't one, ImportError without `tokenizers`.

    References: https://huggingface.co/docs/tokenizers
    """
    need('tokenizers', 'a tokenizer from a file')
    import tokenizers

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no tokenizer {path}: give a file of 'tokenizers', JSON")
    content = path.read_bytes()
    try:
        inner = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises just that
        reason = ' '.join(str(error).split())
        raise ValueError(f"{path} is not a JSON file of 'tokenizers': {reason}") from error
    return wrap(inner, length, digest('tokenizers', content, length))


def wrap(inner, length: int, name: str) -> Tokenizer:
    """A `tokenizers.Tokenizer` as one of ours, with `name` as its digest."""
    special = inner.num_special_tokens_to_add(False)
    inner.no_padding()
    if length > special:
        inner.enable_truncation(length)

    def pieces(texts):
        for found in inner.encode_batch(texts):
            # What was cut off comes in parts, each with its own special tokens.
            rest = sum(len(part.ids) - special for part in found.overflowing)
            yield found.ids, len(found.ids) + rest

    return _tokenizer(pieces, max(inner.get_vocab().values()) + 1, length, special, name)


def _tokenizer(pieces, vocabulary, length, special, name):
    """A Tokenizer by `pieces`: list of str -> for each at most `length` ids, and how many there were."""
    if length <= special:
        raise ValueError(
            f'a text needs a length of {special + 1} tokens at least, {special} of them to begin '
            f'and end it, got {length}'
        )

    def encode(texts, truncate=False, empty=False):
        if isinstance(texts, str):
            raise ValueError(f'texts must be a list of str, got {texts!r} alone')
        tokens = np.zeros((len(texts), length), np.int32)
        mask = np.zeros((len(texts), length), bool)
        for i, (text, (ids, full)) in enumerate(zip(texts, pieces(list(texts)))):
            if full > length and not truncate:
                shown = text if len(text) <= 60 else f'{text[:60]}…'
                raise ValueError(
                    f'the text {shown!r} has {full} tokens, and the context holds {length}: '
                    'shorten it'
                )
            if text.strip() and full > special:
                tokens[i, : len(ids)], mask[i, : len(ids)] = ids, True
            elif not empty:
                raise ValueError(f'text {i + 1} of {len(texts)} is empty: write something')
        return tokens, mask

    return Tokenizer(encode, vocabulary, length, name)
