"""The text encoder: what it must not see, its symmetries, and the peers' building blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdiff.nets.text import ACTIVATIONS, TextEncoder

SIZES = dict(vocabulary=20, width=16, layers=2, heads=2, length=8)
KINDS = {
    'trained': {},
    'bert': dict(norm_first=False, epsilon=1e-12),
    'clip': dict(causal=True, activation='quick_gelu', epsilon=1e-5),
}
TOKENS = np.random.default_rng(0).integers(0, 20, (3, 8), np.int32)
MASK = np.arange(8) < np.array([[8], [5], [1]])


def trained(module):
    """Variables far from their small start."""
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), TOKENS, MASK)
    return jax.tree.map(lambda x: 0.4 * random.standard_normal(x.shape, np.float32), shapes)


@pytest.fixture(scope='module', params=KINDS)
def made(request):
    """The module, its variables, and the compiled encoder."""
    module = TextEncoder(**SIZES, **KINDS[request.param])
    variables = trained(module)
    return module, variables, jax.jit(lambda tokens, mask: module.apply(variables, tokens, mask))


@pytest.fixture(scope='module')
def encoder(made):
    return made[2]


def test_what_is_padded_changes_nothing_bit_for_bit(encoder):
    states = encoder(TOKENS, MASK)
    others = np.where(MASK, TOKENS, (TOKENS + 7) % 20)
    np.testing.assert_array_equal(encoder(others, MASK), states)
    assert not states[~MASK].any() and np.abs(states[MASK]).min(-1).all()
    # Nor do other texts of the batch, or more padding.
    np.testing.assert_array_equal(encoder(TOKENS, MASK & [[True], [True], [False]])[:2], states[:2])
    np.testing.assert_allclose(encoder(TOKENS[1:, :5], MASK[1:, :5]), states[1:, :5], atol=1e-5)


def test_a_token_is_seen_by_all_or_by_those_after_it(made):
    module, _, encoder = made
    changed = TOKENS.copy()
    changed[0, 4] = (changed[0, 4] + 1) % 20
    moved = np.abs(encoder(changed, MASK) - encoder(TOKENS, MASK))[0].max(-1)
    assert moved[4:].all()
    assert not moved[:4].any() if module.causal else moved[:4].all()


def test_a_text_without_tokens_has_no_states_and_no_gradient():
    module = TextEncoder(**SIZES)
    variables = trained(module)
    nothing = np.zeros_like(MASK)
    total = jax.jit(jax.value_and_grad(lambda v: module.apply(v, TOKENS, nothing).sum()))
    states, gradient = total(variables)
    assert states == 0 and not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_without_positions_order_means_nothing():
    module = TextEncoder(**SIZES)
    variables = trained(module)
    variables['params']['positions'] *= 0
    order = np.random.default_rng(3).permutation(8)
    apply = jax.jit(module.apply)
    states = apply(variables, TOKENS, MASK)
    np.testing.assert_allclose(
        apply(variables, TOKENS[:, order], MASK[:, order]), states[:, order], atol=1e-5
    )


def test_states_are_normal_but_for_the_last_norms_scale_and_bias(made):
    module, variables, encoder = made
    params = variables['params']
    last = params['norm'] if module.norm_first else params['block_1']['norm_1']
    states = (encoder(TOKENS, MASK)[MASK] - last['bias']) / last['scale']
    np.testing.assert_allclose(states.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(states.var(-1), 1, atol=1e-3)


def test_bfloat16_is_near_float32():
    variables = trained(TextEncoder(**SIZES))
    states, coarse = (
        jax.jit(TextEncoder(**SIZES, dtype=dtype).apply)(variables, TOKENS, MASK)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert coarse.dtype == jnp.float32
    assert 0 < np.abs(coarse - states).max() < 0.05


def test_activations():
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(ACTIVATIONS['gelu'](x), x * stats.norm.cdf(x), atol=1e-6)
    # Hendrycks & Gimpel 2016, section 2: x sigmoid(1.702 x) comes within 0.021 of it.
    apart = np.abs(ACTIVATIONS['quick_gelu'](x) - nn.gelu(x, approximate=False)).max()
    assert 0.02 < apart < 0.021


@pytest.mark.parametrize(
    'changed, message',
    [
        (dict(length=7), 'takes 7 tokens, got 8'),
        (dict(heads=3), 'divisible by heads, got 16 and 3'),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**SIZES | changed).init(jax.random.key(0), TOKENS, MASK)
