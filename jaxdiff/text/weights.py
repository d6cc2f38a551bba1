"""Text encoders' weights as Hugging Face keeps them: `model.safetensors` beside `config.json`.

References: https://huggingface.co/docs/transformers (BertModel, CLIPTextModel)
"""

import hashlib
import json
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from jaxdiff.data.fingerprint import digest
from jaxdiff.nets.text import ACTIVATIONS, TextEncoder


class Naming(NamedTuple):
    """Where the parameters of a TextEncoder are found, and what the weights do not tell."""

    model: str  # in words
    tokens: str
    positions: tuple[str, ...]  # tables whose sum the positions are; of all but the first, row 0
    norm: str
    block: str  # with the block's number for {}
    parts: dict[str, str]  # of a block: our name, theirs
    settings: dict[str, Any]  # of TextEncoder
    defaults: dict[str, Any]  # of what config.json leaves out


BERT = Naming(
    model='BERT',
    tokens='embeddings.word_embeddings',
    # The second is the kind of sentence, always 0 here.
    positions=('embeddings.position_embeddings', 'embeddings.token_type_embeddings'),
    norm='embeddings.LayerNorm',
    block='encoder.layer.{}',
    parts={
        'query': 'attention.self.query',
        'key': 'attention.self.key',
        'value': 'attention.self.value',
        'out': 'attention.output.dense',
        'norm_0': 'attention.output.LayerNorm',
        'dense_0': 'intermediate.dense',
        'dense_1': 'output.dense',
        'norm_1': 'output.LayerNorm',
    },
    settings={'norm_first': False, 'causal': False},
    defaults={'num_attention_heads': 12, 'hidden_act': 'gelu', 'layer_norm_eps': 1e-12},
)
CLIP = Naming(
    model="CLIP's text model",
    tokens='embeddings.token_embedding',
    positions=('embeddings.position_embedding',),
    norm='final_layer_norm',
    block='encoder.layers.{}',
    parts={
        'norm_0': 'layer_norm1',
        'query': 'self_attn.q_proj',
        'key': 'self_attn.k_proj',
        'value': 'self_attn.v_proj',
        'out': 'self_attn.out_proj',
        'norm_1': 'layer_norm2',
        'dense_0': 'mlp.fc1',
        'dense_1': 'mlp.fc2',
    },
    settings={'norm_first': True, 'causal': True},
    defaults={'num_attention_heads': 8, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5},
)


def load(
    path: str | Path, naming: Naming, length: int, skip: int = 0
) -> tuple[TextEncoder, Any, str]:
    """A text encoder from its weights.

    Args:
      path: a folder with `model.safetensors` and `config.json`, or the first of the two.
      naming: BERT or CLIP.
      length: the number of tokens that it will read, at most as many as it has positions.
      skip: how many of the last blocks are left out; 1 gives the states of the last but one.

    Returns:
      The module, its variables {'params': …} as float32 in NumPy, and a digest of both.

    Raises: FileNotFoundError; ValueError where the weights aren't those of such a model.
    """
    file = Path(path).expanduser()
    file = file / 'model.safetensors' if file.is_dir() else file
    for needed in (file, file.parent / 'config.json'):
        if not needed.is_file():
            raise FileNotFoundError(
                f'there is no {needed}: {naming.model} needs its model.safetensors and, beside it, '
                'its config.json'
            )
    config = _config(file.parent / 'config.json', naming)
    try:
        with safetensors.safe_open(file, 'flax') as weights:  # NumPy's reader knows no bfloat16
            settings, params = _read(weights, naming, length, skip)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f'{file} cannot be used: {error}') from error
    settings |= {
        'heads': config['num_attention_heads'],
        'activation': config['hidden_act'],
        'epsilon': config['layer_norm_eps'],
    }
    with file.open('rb') as content:
        content = hashlib.file_digest(content, 'sha256').hexdigest()
    return TextEncoder(**settings), {'params': params}, digest(content, sorted(settings.items()))


def _config(file, naming):
    try:
        config = json.loads(file.read_bytes())
        config = naming.defaults | config.get('text_config', config)  # that is of a whole CLIP
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is not a model's config.json: {error}") from error
    if config['hidden_act'] not in ACTIVATIONS:
        raise ValueError(
            f'{file} has hidden_act {config["hidden_act"]!r}, known are {", ".join(ACTIVATIONS)}'
        )
    return config


def _read(weights, naming, length, skip):
    names, first = set(weights.keys()), f'{naming.tokens}.weight'
    above = [name.removesuffix(first) for name in names if name.endswith(first)]
    if len(above) != 1:
        raise ValueError(f'it holds no weights of {naming.model} by the names of Hugging Face')

    def get(name):
        if (name := above[0] + name) not in names:
            raise ValueError(f'{name} is missing')
        return np.asarray(weights.get_tensor(name), np.float32)

    def linear(name):  # a dense layer, which PyTorch keeps transposed, or a norm
        weight = get(f'{name}.weight')
        kind = 'kernel' if weight.ndim == 2 else 'scale'
        return {kind: weight.T, 'bias': get(f'{name}.bias')}

    def block(i):
        return f'{naming.block.format(i)}.'

    there = (f'{above[0]}{block(i)}{naming.parts["query"]}.weight' in names for i in count())
    layers = sum(takewhile(bool, there))
    if not 0 <= skip < layers:
        raise ValueError(f'skip must be less than the number of blocks, {layers}, got {skip}')
    tokens = get(first)
    positions, *others = (get(f'{name}.weight') for name in naming.positions)
    if length > len(positions):
        raise ValueError(f'it has positions for {len(positions)} tokens, got a length of {length}')
    params = {
        'tokens': {'embedding': tokens},
        'positions': positions[:length] + sum(other[0] for other in others),
        'norm': linear(naming.norm),
    }
    for i in range(layers - skip):
        params[f'block_{i}'] = {
            ours: linear(block(i) + theirs) for ours, theirs in naming.parts.items()
        }
    vocabulary, width = tokens.shape
    settings = naming.settings | {
        'vocabulary': vocabulary,
        'width': width,
        'layers': layers - skip,
        'length': length,
        'hidden': len(params['block_0']['dense_0']['bias']),
    }
    return settings, params
