"""DiT: the paper's counts, patches, its blocks' symmetries, its options, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import (
    NETS,
    TOLD,
    close,
    count,
    example,
    inputs,
    jit,
    normal,
    plain_inputs,
    shapes,
    trained,
)

from jaxdiff.nets import DiT, dit
from jaxdiff.nets.conditions import Text
from jaxdiff.nets.dit import Block, from_patches, to_patches
from jaxdiff.nets.positions import rotary

PLAIN = NETS['dit']


@pytest.mark.parametrize(
    'options, millions',
    [
        (dict(patch=2, width=384, depth=12, heads=6), 33),
        (dict(patch=4, width=768, depth=12, heads=12), 130),
        (dict(patch=2, width=1152, depth=28, heads=16), 675),
    ],
    ids=['S/2', 'B/4', 'XL/2'],
)
def test_has_the_parameters_of_the_paper(options, millions):
    """The paper's code counts its fixed positions, one vector per patch, among them, and prints 675,129,632 for XL/2."""
    net = DiT(8, num_classes=1000, **options)
    cond = {'label': jnp.zeros(1, jnp.int32)}
    made = shapes(net, jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), cond)
    total = count(made) + (32 // options['patch']) ** 2 * options['width']
    assert round(total / 1e6) == millions
    assert millions != 675 or total == 675_129_632
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(made))


@pytest.mark.parametrize('sizes', [(12,), (4, 6), (2, 4, 6)])
def test_patches_go_and_come_back(sizes):
    x = normal(0, 2, *sizes, 3)
    cut = to_patches(x, 2)
    assert cut.shape == (2, np.prod(sizes) // 2 ** len(sizes), 3 * 2 ** len(sizes))
    np.testing.assert_array_equal(from_patches(cut, sizes, 2), x)
    corner = x[(slice(None), *(slice(-2, None),) * len(sizes))]
    np.testing.assert_array_equal(cut[:, -1], corner.reshape(2, -1))


def block_of(angles):
    x, embedding = normal(1, 2, 12, 16), normal(2, 2, 6)
    block = Block(heads=2, hidden=8)
    params = trained(block, x, embedding, None, angles, None)
    return lambda x, angles=angles: block.apply(params, x, embedding, None, angles, None), x


def test_without_positions_a_block_permutes_with_its_tokens():
    block, x = block_of(None)
    order = np.random.default_rng(3).permutation(12)
    close(block(x[:, order]), block(x)[:, order])


def test_with_rotary_positions_a_block_knows_shifts_only():
    angles = rotary((3, 4), 8)
    block, x = block_of(angles)
    moved = jnp.concatenate([jnp.full((12, 2), 3.0), jnp.full((12, 2), 2.0)], axis=1)
    frequencies = 100.0 ** -(jnp.arange(2) / 2)
    close(block(x, angles + moved * jnp.tile(frequencies, 2)), block(x), 1e-4)
    order = np.random.default_rng(3).permutation(12)
    assert np.abs(block(x[:, order]) - block(x)[:, order]).max() > 0.01
    close(block(x[:, order], angles[order]), block(x)[:, order])


def test_a_new_block_is_the_identity():
    text = Text(normal(3, 2, 4, 5), jnp.ones((2, 4), bool))
    args = normal(1, 2, 12, 16), normal(2, 2, 6), text, rotary((3, 4), 8), None
    y, _ = Block(heads=2, hidden=8).init_with_output(jax.random.key(0), *args)
    np.testing.assert_array_equal(y, args[0])


@pytest.mark.parametrize('spatial_dims', [1, 2, 3])
@pytest.mark.parametrize('positions', ['sincos', 'rotary'])
def test_a_new_net_returns_zero(spatial_dims, positions):
    net = PLAIN.clone(spatial_dims=spatial_dims, positions=positions, depth=1)
    args = plain_inputs(2, *(8, 4, 2)[:spatial_dims], 2)
    y, _ = jit(net.init_with_output)(jax.random.key(0), *args)
    assert y.shape == args[0].shape and y.dtype == jnp.float32
    np.testing.assert_array_equal(y, 0.0)


def test_other_sizes_need_no_other_parameters():
    net = PLAIN
    small, large = plain_inputs(2, 4, 6, 2), plain_inputs(2, 8, 2, 2)
    assert shapes(net, *small) == shapes(net, *large)
    assert net.apply(trained(net, *small), *large).shape == (2, 8, 2, 2)


def test_each_alone_is_as_in_the_batch():
    _, params, *args = example('dit')
    y = example('dit')[0](params, *args)
    alone = jit(PLAIN.clone(**TOLD).apply)
    for i in range(2):
        close(alone(params, *jax.tree.map(lambda v: v[i : i + 1], args))[0], y[i])


def test_dropout_belongs_to_the_example():
    apply, params, *args = example('dit', dropout=0.3)
    keys = jax.random.split(jax.random.key(5), 4)
    y = apply(params, *args, keys)
    order = jnp.array([2, 0, 3, 1])
    turned = jax.tree.map(lambda v: v[order], (*args, keys))
    close(apply(params, *turned), y[order])
    pair = jax.tree.map(lambda v: v[2:], (*args, keys))
    close(apply(params, *pair), y[2:])
    assert np.abs(y - apply(params, *args)).max() > 0.01
    assert np.abs(y - apply(params, *args, keys[::-1])).max() > 0.01


def test_remat_changes_neither_parameters_nor_gradients():
    plain = PLAIN.clone(depth=1, dropout=0.3, text_width=5)
    remat = plain.clone(remat=True)
    x, noise_level, cond = inputs()
    args = x, noise_level, {key: cond[key] for key in ('text', 'mask')}
    params, keys = trained(plain, *args), jax.random.split(jax.random.key(5), 4)
    assert shapes(remat, *args) == shapes(plain, *args)

    def loss(net):
        return jit(jax.value_and_grad(lambda p: jnp.mean(net.apply(p, *args, keys) ** 2)))(params)

    close(loss(remat), loss(plain), 1e-4)


@pytest.mark.parametrize('name', ['dit', 'dit_rotary'])
def test_bfloat16_is_close_and_keeps_float32_at_both_ends(name):
    apply, params, *args = example(name)
    y, rough = apply(params, *args), example(name, dtype='bfloat16')[0](params, *args)
    assert rough.dtype == jnp.float32
    error = float(jnp.std(rough - y) / jnp.std(y))
    assert 1e-4 < error < 0.05, error


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(dtype='float16'), "dtype must be one of .*, got 'float16'"),
        (dict(positions='learned'), "positions must be one of .*, got 'learned'"),
        (dict(spatial_dims=1), 'x must be'),
        (dict(dropout=1.0), 'dropout must be in'),
        (dict(depth=0), 'depth must be positive, got depth=0'),
        (dict(patch=3), 'instead of 8 use 6 or 9'),
        (dict(heads=5), 'width must be divisible by 20, got width=24'),
        (dict(heads=8, positions='rotary'), 'width must be divisible by 32, got width=24'),
    ],
)
def test_refuses_attributes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        shapes(PLAIN.clone(**options), *plain_inputs(2, 8, 8, 2))


def test_refuses_keys_that_are_not_one_per_example():
    with pytest.raises(ValueError, match='dropout_keys must have one entry per example'):
        shapes(PLAIN, *plain_inputs(2, 8, 8, 2), jax.random.key(0))


def test_check_size_names_the_sizes_that_would_do():
    dit.check_size((28, 28, 1), 2, 2)
    dit.check_size((5, 16, 3), 4, 1)
    with pytest.raises(
        ValueError,
        match='patch=4 needs spatial sizes divisible by 4, .*: instead of 30 use 28 or 32',
    ):
        dit.check_size((30, 32, 3), 4, 2)
    with pytest.raises(ValueError, match='expected 2 spatial axes'):
        dit.check_size((8, 1), 2, 2)
