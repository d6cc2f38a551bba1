import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import Autoencoder
from jaxdiff.nets.autoencoder import depth_to_space, space_to_depth


def made(size=16, **changes):
    net = Autoencoder(**{'out_channels': 3, 'channels': 8, 'blocks': 1} | changes)
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)), jnp.float32)
    return net, net.init(jax.random.key(0), x), x


@pytest.mark.parametrize('multipliers, factor', [((1,), 2), ((1, 2), 4), ((1, 2, 2), 8)])
@pytest.mark.parametrize('codes', [0, 5])
def test_the_shapes_of_the_latent_diffusion_paper(multipliers, factor, codes):
    net, params, x = made(multipliers=multipliers, codes=codes, latent_channels=4)
    latent = net.apply(params, x, method='encode')
    assert latent.shape == (2, 16 // factor, 16 // factor, 4 if codes else 8)
    assert net.apply(params, latent[..., :4], method='decode').shape == x.shape
    assert ('codebook' in params['params']) == bool(codes)


def test_squares_of_pixels_become_channels_and_pixels_again():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    packed = space_to_depth(x, 2)
    assert packed.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(packed[1, 0, 2], x[1, 0:2, 4:6].reshape(-1))
    np.testing.assert_array_equal(depth_to_space(packed, 2), x)


def test_a_latent_sees_its_surroundings_and_by_attention_all():
    """GroupNorm's statistics see all positions too, but each of them little."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(32, 32, 3)), jnp.float32)
    shares = []
    for attention in (False, True):
        net, params, _ = made(multipliers=(1,), attention=attention)
        params = jax.tree.map(
            lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), params
        )

        def first(x):
            return net.apply(params, x[None], method='encode')[0, 0, 0].sum()

        slope = np.abs(jax.grad(first)(x)).max(-1)
        shares.append(slope[16:, 16:].max() / slope[:10, :10].max())
    assert shares[0] < 0.05 and shares[1] > 3 * shares[0]


def test_other_computations_are_the_same():
    net, params, x = made()
    exact = net.apply(params, x)
    low = net.clone(dtype='bfloat16').apply(params, x)
    assert low.dtype == jnp.float32
    assert 0 < jnp.abs(low - exact).max() < 0.1 * jnp.abs(exact).max()


def test_sides_that_cannot_shrink_are_refused():
    with pytest.raises(ValueError, match='of 3 levels needs spatial sizes divisible by 8.* 16'):
        made(size=12, multipliers=(1, 2, 2))
