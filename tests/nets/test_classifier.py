import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import close, jit, plain_inputs, shapes, trained

from jaxdiff.nets import Classifier

NET = Classifier(5, channels=8, multipliers=(1, 2), attention=(4,), heads=2)
X, LEVEL, COND = plain_inputs(4, 8, 8, 2)
PARAMS = trained(NET, X, LEVEL, COND)
APPLY = jit(NET.apply, static_argnames=('maps',))


def test_it_decides_by_image_and_noise_and_for_each_example_alone():
    logits = APPLY(PARAMS, X, LEVEL, COND)
    assert logits.shape == (4, 5) and logits.dtype == jnp.float32
    assert np.ptp(APPLY(PARAMS, jnp.zeros_like(X), LEVEL, COND), 0).max() > 1e-3  # the noise level
    assert np.ptp(APPLY(PARAMS, X, jnp.zeros(4), COND), 0).max() > 1e-3  # the image
    other = X.at[1:].set(0)
    close(APPLY(PARAMS, other, LEVEL, COND)[0], logits[0])


def test_its_maps_are_those_of_each_level_and_know_nothing_of_the_decision():
    maps = APPLY(PARAMS, X, LEVEL, COND, maps=True)
    assert [m.shape for m in maps] == [(4, 8, 8, 8), (4, 4, 4, 16)]
    blind = jax.tree_util.tree_map_with_path(
        lambda path, x: x if path[1].key not in ('norm_out', 'logits') else jnp.zeros_like(x),
        PARAMS,
    )
    close(APPLY(blind, X, LEVEL, COND, maps=True), maps)
    assert not np.any(APPLY(blind, X, LEVEL, COND))


def test_other_computations_are_the_same():
    exact = APPLY(PARAMS, X, LEVEL, COND)
    close(jit(NET.clone(remat=True).apply)(PARAMS, X, LEVEL, COND), exact)
    low = jit(NET.clone(dtype='bfloat16').apply)(PARAMS, X, LEVEL, COND)
    assert low.dtype == jnp.float32
    assert 0 < jnp.abs(low - exact).max() < 0.1 * jnp.abs(exact).max()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match='channels must be even'):
        shapes(NET.clone(channels=7), X, LEVEL, COND)
    with pytest.raises(ValueError, match='of 2 levels needs spatial sizes divisible by 2'):
        shapes(NET, X[:, :7], LEVEL, COND)
