import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import nets


@pytest.mark.parametrize('layers, sees', [(1, 16), (2, 34)])
def test_a_score_sees_a_patch_of_the_size_that_is_said(layers, sees, monkeypatch):
    """But for the normalisation, which sees all."""
    monkeypatch.setattr(nets.discriminator, 'GroupNorm', lambda dtype, name: lambda x: x)
    net, x = nets.Discriminator(4, layers), jnp.ones((1, 48, 48, 1))
    params = jax.tree.map(jnp.abs, net.init(jax.random.key(0), x))  # so that nothing cancels
    n = 24 // 2**layers
    seen = jax.jit(jax.grad(lambda x: net.apply(params, x)[0, n, n]))(x)[0, :, :, 0]
    assert net.apply(params, x).shape == (1, 2 * n, 2 * n)
    for axis in (0, 1):
        assert np.ptp(np.flatnonzero(np.any(seen, axis))) + 1 == sees


def test_a_score_is_of_its_own_image():
    net = nets.Discriminator(8, 2)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)
    params = jax.jit(net.init)(jax.random.key(0), x)
    moved = np.concatenate([2 * x[:1], x[1:2], -x[2:]])
    scores, others = (jax.jit(net.apply)(params, images) for images in (x, moved))
    np.testing.assert_allclose(others[1], scores[1], rtol=1e-4, atol=1e-6)
    assert np.abs(others[2] - scores[2]).max() > 1e-4
    assert np.std(scores) > 0


def test_images_that_are_too_small_are_refused():
    nets.discriminator.check_size((8, 8, 1), 3)
    with pytest.raises(ValueError, match='discriminator_layers=4 .* at least 16, got .8, 8'):
        nets.discriminator.check_size((8, 8, 1), 4)
