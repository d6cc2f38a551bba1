"""Attention against its peer and its symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import normal

from jaxdiff.nets.attention import CrossAttention, SelfAttention, attend


def trained(module, *args):
    """Parameters as training might leave them, that is with nothing at zero."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(module.init, jax.random.key(0), *args),
    )


@pytest.mark.parametrize('heads', [1, 3])
def test_attend_and_its_gradient_agree_with_jax_nn(heads):
    q, k, v, weight = (normal(i, 2, n, heads, 8) for i, n in enumerate((10, 7, 7, 10)))
    np.testing.assert_allclose(attend(q, k, v), jax.nn.dot_product_attention(q, k, v), atol=1e-5)
    ours, theirs = (
        jax.jit(jax.grad(lambda *args: jnp.sum(f(*args) * weight), (0, 1, 2)))(q, k, v)
        for f in (attend, jax.nn.dot_product_attention)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


MASK = jnp.array([[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0]], bool)


def test_what_a_mask_hides_might_as_well_not_be_there():
    q, k, v = (normal(i, 2, n, 3, 8) for i, n in enumerate((10, 7, 7)))
    y = attend(q, k, v, MASK)
    for i in range(2):
        shown = attend(q[i : i + 1], k[i : i + 1, MASK[i]], v[i : i + 1, MASK[i]])
        np.testing.assert_allclose(y[i : i + 1], shown, atol=1e-6)
    np.testing.assert_allclose(attend(q, k, v, jnp.ones_like(MASK)), attend(q, k, v), atol=1e-6)


def test_what_a_mask_hides_changes_no_bit_and_has_no_gradient():
    q, k, v = (normal(i, 2, n, 3, 8) for i, n in enumerate((10, 7, 7)))
    other = [jnp.where(MASK[..., None, None], x, 50.0) for x in (k, v)]
    np.testing.assert_array_equal(attend(q, *other, MASK), attend(q, k, v, MASK))
    for gradient in jax.grad(lambda k, v: jnp.sum(attend(q, k, v, MASK) ** 2), (0, 1))(k, v):
        np.testing.assert_array_equal(jnp.where(MASK[..., None, None], 0.0, gradient), 0.0)
        # With a single key shown, the softmax has no choice, so that its key has no gradient either.
        assert np.abs(gradient[0, MASK[0]]).min(-1).max() > 1e-3


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_masked_attend_and_its_gradient_agree_with_jax_nn(dtype):
    q, k, v, weight = (normal(i, 2, n, 3, 8).astype(dtype) for i, n in enumerate((10, 7, 7, 10)))
    peer = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=MASK[:, None, None])
    tolerance = 1e-5 if dtype == 'float32' else 0.05
    both = (lambda q, k, v: attend(q, k, v, MASK)), peer
    close = lambda a, b: np.testing.assert_allclose(
        *(x.astype(jnp.float32) for x in (a, b)), atol=tolerance
    )
    close(*(f(q, k, v) for f in both))
    loss = lambda f: jax.jit(jax.grad(lambda *args: jnp.sum(f(*args) * weight), (0, 1, 2)))
    jax.tree.map(close, *(loss(f)(q, k, v) for f in both))


@pytest.mark.parametrize('mask', [(), (MASK,)], ids=['all', 'masked'])
def test_what_is_lowered_for_another_platform_is_that_platforms(monkeypatch, mask):
    """A TPU's program, made on a machine without one, calls `jax.nn.dot_product_attention`."""
    q, k, v = (normal(i, 2, 7, 3, 8) for i in range(3))
    called = []

    def peer(*args):
        called.append(1)
        return jnp.zeros_like(q)

    monkeypatch.setattr(jax.nn, 'dot_product_attention', peer)
    texts = {
        platform: jax.jit(attend)
        .trace(q, k, v, *mask)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for platform in ('cpu', 'cuda', 'tpu')
    }
    assert called and texts['cpu'].count('dot_general') == 2
    assert not any('dot_general' in texts[platform] for platform in ('cuda', 'tpu'))


def test_softmax_is_float32_under_bfloat16():
    # The logits are 100 and 100.78125; bfloat16 would take the second for 101.
    query, key, value = (
        jnp.array(v, jnp.bfloat16).reshape(1, -1, 1, 1) for v in ([100], [1, 1 + 2**-7], [1, -1])
    )
    got = attend(query, key, value)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32).item(), np.tanh(-0.78125 / 2), atol=4e-3)


def test_starts_as_the_identity():
    x = normal(0, 2, 4, 4, 8)
    y, _ = SelfAttention(heads=2).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


def test_a_permutation_of_the_positions_permutes_the_result():
    x, module = normal(0, 2, 12, 8), SelfAttention(heads=2)
    params, order = trained(module, x), np.random.default_rng(3).permutation(12)
    y = module.apply(params, x)
    np.testing.assert_allclose(module.apply(params, x[:, order]), y[:, order], atol=1e-5)
    np.testing.assert_allclose(
        module.apply(params, x.reshape(2, 3, 2, 2, 8)), y.reshape(2, 3, 2, 2, 8), atol=1e-5
    )


def crossed():
    x, text, mask = normal(0, 2, 4, 3, 8), normal(1, 2, 7, 5), MASK
    module = CrossAttention(heads=2)
    return module, trained(module, x, text, mask), x, text, mask


def test_attention_to_a_text_starts_as_the_identity():
    module, _, *args = crossed()
    y, _ = module.init_with_output(jax.random.key(0), *args)
    np.testing.assert_array_equal(y, args[0])


def test_attention_to_a_text_permutes_with_the_positions_and_not_with_the_tokens():
    module, params, x, text, mask = crossed()
    y = module.apply(params, x, text, mask)
    assert np.abs(y - x).max() > 0.1
    order = np.random.default_rng(3).permutation(7)
    np.testing.assert_allclose(
        module.apply(params, x, text[:, order], mask[:, order]), y, atol=1e-5
    )
    flat, order = x.reshape(2, 12, 8), np.random.default_rng(4).permutation(12)
    np.testing.assert_allclose(
        module.apply(params, flat[:, order], text, mask), y.reshape(2, 12, 8)[:, order], atol=1e-5
    )


def test_a_single_token_tells_every_position_the_same():
    module, params, x, text, mask = crossed()
    told = (module.apply(params, x, text, mask) - x)[1].reshape(12, 8)  # the mask shows one
    np.testing.assert_allclose(told, jnp.broadcast_to(told[0], (12, 8)), atol=1e-5)


def test_channels_must_divide_by_the_heads():
    with pytest.raises(ValueError, match='channels=8 and heads=3'):
        SelfAttention(heads=3).init(jax.random.key(0), jnp.zeros((1, 4, 8)))
