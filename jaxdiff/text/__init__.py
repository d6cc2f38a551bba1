"""Text: tokenizers, frozen encoders from weights on disk, and a data set's captions encoded once."""

from jaxdiff.text.clip_tokenizer import clip
from jaxdiff.text.embeddings import Embeddings, embed
from jaxdiff.text.encoder import Encoder, clip_text, encode, minilm, states
from jaxdiff.text.tokenizer import Tokenizer, byte_level, from_file

__all__ = [
    'Embeddings',
    'Encoder',
    'Tokenizer',
    'byte_level',
    'clip',
    'clip_text',
    'embed',
    'encode',
    'from_file',
    'minilm',
    'states',
]
