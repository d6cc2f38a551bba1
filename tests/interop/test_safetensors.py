import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from jaxdiff.diffusion import learned
from jaxdiff.interop.safetensors import flatten, load, nest, save

PARAMS = {
    'conv': {'kernel': jnp.arange(24.0).reshape(2, 3, 4), 'bias': jnp.ones(4, jnp.bfloat16)},
    'scale': jnp.float32(3),
    'count': jnp.arange(3, dtype=jnp.int32),
    'none': jnp.zeros((0, 2)),
}


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.leaves(jax.tree.map(lambda x: (x.shape, x.dtype), a)) == jax.tree.leaves(
        jax.tree.map(lambda x: (x.shape, x.dtype), b)
    )


def test_names_are_the_ways_down_the_tree():
    assert set(flatten(PARAMS)) == {'conv/kernel', 'conv/bias', 'scale', 'count', 'none'}
    equal(nest(flatten(PARAMS)), PARAMS)


def test_a_file_gives_back_every_bit_shape_and_dtype(tmp_path):
    save(tmp_path / 'a.safetensors', PARAMS, {'made': 'of “ü”'})
    params, metadata = load(tmp_path / 'a.safetensors')
    equal(params, PARAMS)
    assert metadata == {'made': 'of “ü”'}
    save(tmp_path / 'b.safetensors', PARAMS)
    assert load(tmp_path / 'b.safetensors')[1] == {}


def test_arrays_that_lie_otherwise_in_memory(tmp_path):
    matrix = np.arange(6.0).reshape(2, 3)
    save(
        tmp_path / 'a', {'turned': matrix.T, 'sparse': matrix[:, ::2], 'big': matrix.astype('>f8')}
    )
    params, _ = load(tmp_path / 'a')
    np.testing.assert_array_equal(params['turned'], matrix.T)
    np.testing.assert_array_equal(params['sparse'], matrix[:, ::2])
    np.testing.assert_array_equal(params['big'], matrix)


def test_others_read_the_file(tmp_path):
    save(tmp_path / 'a', PARAMS)
    with safetensors.safe_open(tmp_path / 'a', 'flax') as file:
        assert sorted(file.keys()) == sorted(flatten(PARAMS))
        np.testing.assert_array_equal(file.get_tensor('conv/kernel'), PARAMS['conv']['kernel'])


def test_named_tuples_come_back_with_the_tree_that_they_were_in(tmp_path):
    tree = {'net': PARAMS, 'schedule': learned.init(jax.random.key(0), width=5)}
    save(tmp_path / 'a', tree)
    params, _ = load(tmp_path / 'a', like=jax.eval_shape(lambda: tree))
    equal(params, tree)
    assert set(load(tmp_path / 'a')[0]['schedule']) == {'low', 'span', 'interior'}


def test_another_models_parameters_are_refused():
    arrays = flatten(PARAMS)
    with pytest.raises(ValueError, match=r"1 names are in one of them only, such as 'more'"):
        nest(arrays | {'more': jnp.zeros(1)}, PARAMS)
    with pytest.raises(ValueError, match=r"'count' has the shape \(4,\), and must have \(3,\)"):
        nest(arrays | {'count': jnp.zeros(4)}, PARAMS)


@pytest.mark.parametrize('params', [{'a/b': jnp.zeros(1)}, {'a': [jnp.zeros(1)]}, jnp.zeros(1)])
def test_names_that_could_not_come_back_are_refused(params):
    with pytest.raises(ValueError, match='parameters need names without "/"'):
        flatten(params)
