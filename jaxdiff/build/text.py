"""From a config to what reads its texts."""

from ml_collections import ConfigDict

from jaxdiff import text
from jaxdiff.nets.text import TextEncoder


def text_encoder(config: ConfigDict) -> text.Encoder | None:
    """The text encoder of a model; its weights are None where it is trained with the model.

    Raises: ValueError, FileNotFoundError or ImportError where a file or a package is missing.
    """
    c = config.text
    if 'text' not in config.net.condition:
        return None
    if c.encoder == 'minilm':
        return text.minilm(c.path, c.length)
    if c.encoder == 'clip':
        return text.clip_text(c.path, c.length, c.skip, c.vocabulary)
    tokenizer = {
        'bytes': lambda: text.byte_level(c.length, lower=True),
        'clip': lambda: text.clip(c.vocabulary, c.length),
    }.get(c.tokenizer, lambda: text.from_file(c.tokenizer, c.length))()
    module = TextEncoder(tokenizer.vocabulary, c.width, c.layers, c.heads, tokenizer.length)
    return text.Encoder(tokenizer, module, None, c.width, tokenizer.length, tokenizer.digest)
