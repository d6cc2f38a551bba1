"""Attention against its peer and its symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.attention import SelfAttention, attend


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def trained(module, x):
    """Parameters as training might leave them, that is with nothing at zero."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(module.init, jax.random.key(0), x),
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


def test_what_is_lowered_for_another_platform_is_that_platforms(monkeypatch):
    """A TPU's program, made on a machine without one, calls `jax.nn.dot_product_attention`."""
    q, k, v = (normal(i, 2, 7, 3, 8) for i in range(3))
    called = []

    def peer(*args):
        called.append(1)
        return jnp.zeros_like(q)

    monkeypatch.setattr(jax.nn, 'dot_product_attention', peer)
    texts = {
        platform: jax.jit(attend).trace(q, k, v).lower(lowering_platforms=(platform,)).as_text()
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


def test_channels_must_divide_by_the_heads():
    with pytest.raises(ValueError, match='channels=8 and heads=3'):
        SelfAttention(heads=3).init(jax.random.key(0), jnp.zeros((1, 4, 8)))
