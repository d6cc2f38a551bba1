"""What text and labels do to a model, from the batch or the prompt on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import conditions

TEXT = {
    'net__condition': 'text',
    'net__multipliers': '(1,)',
    'text__length': 12,
    'text__width': 8,
    'text__layers': 1,
    'text__heads': 2,
}


def made(**changes):
    """A config, its model, and parameters away from the zeros that a new net's last layers are."""
    config = configs.load('digits', tiny.overrides(**TEXT | changes))
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)
    params = jax.jit(functools.partial(build.init, model))(jax.random.key(0))
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.1 * draws.standard_normal(x.shape, np.float32), params)
    return config, model, params


def losses(config, model, params, texts, labels=None):
    batch = {'image': np.arange(4 * 64).reshape(4, 8, 8, 1).astype(np.uint8)}
    batch |= {'index': np.arange(4, dtype=np.int32)} | conditions.of_texts(model, texts)
    if labels is not None:
        batch['label'] = np.asarray(labels, np.int32)
    return jax.jit(build.training_loss(config, model))(params, batch, jax.random.key(1))[0]


ONE, OTHER = ['red', 'green', 'blue', 'dot'], ['a cat', 'a dog', 'a cow', 'an owl']


@pytest.mark.parametrize('net', ['unet', 'dit'])
def test_a_text_is_heard_unless_it_is_hidden(net):
    changes = {'net__name': net, 'net__width': 16, 'net__depth': 1, 'loss__condition_dropout': 0}
    config, model, params = made(**changes)
    one, other = (losses(config, model, params, texts) for texts in (ONE, OTHER))
    assert np.abs(one - other).min() > 1e-5
    config.loss.condition_dropout = 1.0
    one, other = (losses(config, model, params, texts) for texts in (ONE, OTHER))
    np.testing.assert_array_equal(one, other)


def test_labels_and_texts_are_hidden_together():
    config, model, params = made(net__condition='class+text', loss__condition_dropout=0.5)
    both = [losses(config, model, params, ONE, labels) for labels in ([0, 1, 2, 3], [4, 5, 6, 7])]
    texts = losses(config, model, params, OTHER, [0, 1, 2, 3])
    np.testing.assert_array_equal(both[0] == both[1], both[0] == texts)
    assert 0 < np.sum(both[0] == texts) < 4


def test_the_encoder_learns_with_the_network():
    config, model, params = made()
    batch = {'image': np.zeros((4, 8, 8, 1), np.uint8), 'index': np.arange(4)}
    batch |= conditions.of_texts(model, ONE)
    loss = build.training_loss(config, model)
    grads = jax.jit(jax.grad(lambda p: loss(p, batch, jax.random.key(1))[0].sum()))(params)
    assert set(params) == {'net', 'text'}
    largest = jax.tree.map(lambda x: float(jnp.abs(x).max()), grads['text'])
    assert min(jax.tree.leaves(largest)) >= 0 and max(jax.tree.leaves(largest)) > 1e-6


def drawn(config, model, params, texts, away=None, guidance=1.0):
    config = config.copy_and_resolve_references()
    config.sample.guidance = guidance
    keys = jax.random.split(jax.random.key(0), len(texts))
    asked = [params, conditions.of_texts(model, texts, empty=True), keys]
    asked += [conditions.of_texts(model, away)] if away else []
    return np.asarray(jax.jit(build.sampling(config, model))(*asked)).astype(int)


def test_guidance_leads_from_nothing_or_from_another_prompt():
    """At scale 0 it is what it leads away from: no text, or the negative prompt."""
    config, model, params = made(sample__steps=3)
    nothing, one, other = (drawn(config, model, params, texts) for texts in ([''] * 4, ONE, OTHER))
    assert np.abs(one - other).max() > 2 and np.abs(one - nothing).max() > 2
    unguided = drawn(config, model, params, ONE, guidance=0.0)
    np.testing.assert_allclose(unguided, nothing, atol=1)
    negative = drawn(config, model, params, ONE, OTHER, guidance=0.0)
    np.testing.assert_allclose(negative, other, atol=1)


def test_another_prompt_adds_no_trace_and_no_constant():
    config, model, params = made(sample__guidance=2.0)
    traces, pure = [], build.sampling(config, model)

    @jax.jit
    def counted(*asked):
        traces.append(1)
        return pure(*asked)

    keys = jax.random.split(jax.random.key(0), 4)
    for texts in (ONE, OTHER):
        counted(params, conditions.of_texts(model, texts), keys)
    assert len(traces) == 1
    program = jax.make_jaxpr(pure)(params, conditions.of_texts(model, ONE), keys)
    assert max((np.size(c) for c in program.consts), default=0) < 1000


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'net__condition': 'words'}, 'net.condition must be one of'),
        ({'text__encoder': 'bert'}, 'text.encoder must be one of'),
        ({'text__length': 2}, 'a length of 3 tokens at least'),
        ({'text__tokenizer': '/nowhere.json'}, 'there is no tokenizer /nowhere.json'),
        ({'text__encoder': 'clip', 'text__path': '/nowhere'}, '/nowhere'),
        ({'net__name': 'dit', 'net__patch': 3}, 'divisible by 3'),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        made(**changes)
    assert '\n' not in str(refused.value)
