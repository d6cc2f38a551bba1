import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import count, jit, shapes, trained

from jaxdiff.nets import inception
from jaxdiff.nets.inception import Inception


def test_sizes_are_the_published_ones():
    """The 23.8 million include fc's weights and twice the norms' channels of running statistics."""
    x = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    params = shapes(Inception(), x)
    assert count(params) == 23_884_384
    features, logits = jax.eval_shape(Inception().apply, params, x)
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert features.dtype == jnp.float32
    names = [f'Mixed_{n}' for n in '5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c'.split()]
    assert set(names) < set(params['params'])


@pytest.mark.parametrize(
    'block, channels, sides, expected',
    [
        (inception.MixedA(32), 192, 35, (35, 256)),
        (inception.MixedB(), 288, 35, (17, 768)),
        (inception.MixedC(128), 768, 17, (17, 768)),
        (inception.MixedD(), 768, 17, (8, 1280)),
        (inception.MixedE(lambda x: x), 1280, 8, (8, 2048)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_blocks_have_the_sizes_of_the_graph(block, channels, sides, expected):
    x = jax.ShapeDtypeStruct((1, sides, sides, channels), jnp.float32)
    side, width = expected
    out = jax.eval_shape(block.apply, shapes(block, x), x)
    assert out.shape == (1, side, side, width)


def test_means_are_over_positions_that_exist():
    """Where zeros around the image were counted, the mean of ones would be 4 / 9 in a corner."""
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    found = inception._mean(x)
    np.testing.assert_allclose(inception._mean(np.ones_like(x)), 1)
    np.testing.assert_allclose(found[0, 0, 0, 0], np.mean([0, 1, 4, 5]))
    np.testing.assert_allclose(found[0, 1, 1, 0], np.mean([0, 1, 2, 4, 5, 6, 8, 9, 10]))
    np.testing.assert_array_equal(inception._largest(-x)[0, :, :, 0], -np.array([[0, 0, 1, 2]] * 2 + [[4, 4, 5, 6]]))  # fmt: skip


def test_only_the_last_block_takes_the_maximum(monkeypatch):
    asked = []
    for name in ('_mean', '_largest'):
        pool = getattr(inception, name)
        monkeypatch.setattr(
            inception, name, lambda x, pool=pool, name=name: asked.append(name) or pool(x)
        )
    jax.eval_shape(Inception().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
    assert asked == ['_mean'] * 8 + ['_largest']


def test_a_block_joins_its_branches():
    """Each branch is of its own: without one's bias, its channels alone change."""
    block = inception.MixedE(inception._mean)
    x = jnp.ones((1, 3, 3, 4))
    params = trained(block, x)
    before = np.asarray(jit(block.apply)(params, x))
    ends = (('branch1x1', 320), ('branch3x3_2a', 384), ('branch3x3_2b', 384))
    ends += (('branch3x3dbl_3a', 384), ('branch3x3dbl_3b', 384), ('branch_pool', 192))
    start = 0
    for name, width in ends:
        layer = params['params'][name]
        moved = params | {
            'params': params['params'] | {name: layer | {'bias': layer['bias'] + 100}}
        }
        changed = np.any(np.asarray(jit(block.apply)(moved, x)) != before, (0, 1, 2))
        assert changed[start : start + width].all() and changed.sum() == width
        start += width
