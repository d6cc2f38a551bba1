"""Frozen encoders: what their programs hold, and weights that are missing or of another model."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxdiff import text
from jaxdiff.nets.text import TextEncoder
from jaxdiff.text import weights
from jaxdiff.text.encoder import Encoder, states


def tiny(length=12, seed=0):
    """An encoder of bytes with random weights."""
    tokenizer = text.byte_level(length)
    module = TextEncoder(tokenizer.vocabulary, 8, 1, 2, length)
    params = module.init(jax.random.key(seed), *tokenizer.encode(['x']))
    return Encoder(tokenizer, module, params, 8, length, f'tiny {seed}')


def saved(folder, naming, layers=2, width=8, config=None, without=''):
    """Random weights by a naming's names."""
    shapes = {f'{name}.weight': (20, width) for name in (naming.tokens, *naming.positions)}
    linear = [naming.norm] + [
        f'{naming.block.format(i)}.{part}' for i in range(layers) for part in naming.parts.values()
    ]
    for name in linear:
        side = () if 'norm' in name.lower() else (width,)
        shapes |= {f'{name}.weight': (width, *side), f'{name}.bias': (width,)}
    random = np.random.default_rng(0)
    arrays = {
        f'above.{name}': random.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
        if name != without
    }
    safetensors.numpy.save_file(arrays, folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps({'num_attention_heads': 2} | (config or {})))
    return folder


def test_another_prompt_or_other_weights_add_no_trace_and_none_is_a_constant():
    encoder, other = tiny(), tiny(seed=1)
    first, _ = text.encode(encoder, ['red'])
    traced = states._cache_size()
    second, _ = text.encode(encoder, ['blue'])
    third, _ = text.encode(other, ['red'])
    assert states._cache_size() == traced
    assert np.abs(first - second).max() > 1e-3 and np.abs(first - third).max() > 1e-3
    tokens, mask = encoder.tokenizer.encode(['red'])
    program = states.lower(encoder.module, encoder.params, tokens, mask).as_text()
    assert 'dense<"0x' not in program and 'dense<[' not in program  # arrays written out


@pytest.mark.parametrize('naming', [weights.BERT, weights.CLIP], ids=lambda n: n.model)
def test_weights_are_those_of_the_module(naming, tmp_path):
    module, params, digest = weights.load(saved(tmp_path, naming), naming, 5)
    tokens, mask = np.zeros((2, 5), np.int32), np.ones((2, 5), bool)
    expected = jax.eval_shape(module.init, jax.random.key(0), tokens, mask)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, expected)
    assert (module.layers, module.heads, module.hidden, module.vocabulary) == (2, 2, 8, 20)
    file = tmp_path / 'model.safetensors'
    again, _, same = weights.load(file, naming, 5)
    shorter, less, other = weights.load(file, naming, 5, skip=1)
    assert (again, same) == (module, digest) and other != digest
    assert shorter.layers == 1 and 'block_1' not in less['params']
    assert weights.load(file, naming, 4)[2] != digest


@pytest.mark.parametrize(
    'changed, options, message',
    [
        (dict(without='encoder.layers.1.mlp.fc1.bias'), {}, 'fc1.bias is missing'),
        (dict(without='embeddings.token_embedding.weight'), {}, "holds no weights of CLIP's text"),
        (dict(config={'hidden_act': 'relu'}), {}, "hidden_act 'relu', known are gelu, quick_gelu"),
        ({}, dict(length=21), 'positions for 20 tokens, got a length of 21'),
        ({}, dict(skip=2), 'less than the number of blocks, 2, got 2'),
    ],
)
def test_weights_of_another_model_are_refused_in_a_line(changed, options, message, tmp_path):
    saved(tmp_path, weights.CLIP, **changed)
    with pytest.raises(ValueError, match=message) as error:
        weights.load(tmp_path, weights.CLIP, **{'length': 5} | options)
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


def test_missing_and_broken_files_are_told_in_a_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no .*: CLIP's text model needs") as error:
        text.clip_text(tmp_path / 'nowhere')
    assert '\n' not in str(error.value)
    saved(tmp_path, weights.CLIP)
    file = tmp_path / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match='model.safetensors cannot be used') as error:
        text.clip_text(tmp_path)
    assert '\n' not in str(error.value)
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(ValueError, match="not a model's config.json"):
        text.clip_text(tmp_path)
    (tmp_path / 'config.json').unlink()
    with pytest.raises(FileNotFoundError, match='no .*config.json'):
        text.clip_text(tmp_path)


def test_a_vocabulary_larger_than_the_weights_is_refused(tmp_path):
    (tmp_path / 'merges.txt').write_text('a title\na b\n')
    saved(tmp_path, weights.CLIP)
    with pytest.raises(ValueError, match='has 515 tokens and the text encoder 20'):
        text.clip_text(tmp_path, 5, vocabulary=tmp_path / 'merges.txt')
