"""The U-Net: DDPM's count, its start, its symmetries, its options, and what it refuses."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import close, count, jit, normal, plain_inputs, shapes, trained

from jaxdiff.nets import STYLES, UNet, check_size
from jaxdiff.nets.unet import ResidualBlock

TINY = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), heads=2)


@functools.cache
def example(dropout=0.0, num_classes=0):
    """A net with its parameters, compiled, and a batch of four."""
    net = UNet(2, dropout=dropout, num_classes=num_classes, **TINY)
    x, noise_level, cond = plain_inputs(4, 8, 8, 2)
    if num_classes:
        cond = {'label': jnp.zeros(4, jnp.int32)}
    params = trained(net, x, noise_level, cond)
    return net, jit(net.apply), params, x, noise_level


def test_has_the_parameters_of_ddpm_on_cifar10():
    net = UNet(3, channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), dropout=0.1)
    made = shapes(net, *plain_inputs(1, 32, 32, 3))
    assert count(made) == 35_746_307
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(made))


@pytest.mark.parametrize('style', ['ddpm', 'adm'])
def test_a_new_block_is_a_scaled_identity_and_its_embedding_moves_every_channel(style):
    chosen = STYLES[style]._replace(scale=0.6)
    block = ResidualBlock(8, style=chosen)
    x, embedding = normal(0, 2, 4, 4, 8), normal(1, 2, 16)
    fresh = block.init(jax.random.key(0), x, embedding, None)
    close(block.apply(fresh, x, embedding, None), 0.6 * x)
    params = trained(block, x, embedding, None)
    moved = block.apply(params, x, embedding, None) - block.apply(params, x, embedding + 1, None)
    assert np.all(np.abs(moved).max((0, 1, 2)) > 1e-3)


def test_the_second_norm_is_scaled_by_one_plus_the_gain():
    """A gain and a shift of -1 and b leave b of whatever was there."""
    block = ResidualBlock(8, style=STYLES['adm'])
    x, embedding = normal(0, 2, 4, 4, 8), normal(1, 2, 16)
    params = trained(block, x, embedding, None)['params']
    shift = normal(2, 8)
    told = {'kernel': jnp.zeros((16, 16)), 'bias': jnp.concatenate([-jnp.ones(8), shift])}
    centre = jnp.zeros((3, 3, 8, 8)).at[1, 1].set(jnp.eye(8))
    params |= {'embedding': told, 'conv_1': {'kernel': centre, 'bias': jnp.zeros(8)}}
    close(block.apply({'params': params}, x, embedding, None), x + nn.silu(shift))


def test_vdm_sees_waves_of_periods_of_1_64th_and_1_128th():
    net = UNet(3, style='vdm', **TINY)
    x, noise_level, cond = plain_inputs(2, 8, 8, 3)
    params = trained(net, x, noise_level, cond)
    own = jnp.zeros((3, 3, 3, 8))
    kernel = params['params']['conv_in']['kernel']
    assert kernel.shape == (3, 3, 3 * (1 + 4), 8)
    params['params']['conv_in']['kernel'] = kernel.at[:, :, :3].set(own)  # the waves alone
    added = jit(lambda x: net.apply(params, x, noise_level, cond) - x)
    close(added(x + 1 / 64), added(x), 5e-3)
    assert np.abs(added(x + 1 / 128) - added(x)).max() > 0.05


@pytest.mark.parametrize('spatial_dims', [1, 2, 3])
def test_starts_at_zero_so_the_first_loss_is_one(spatial_dims):
    net = UNet(3, spatial_dims=spatial_dims, **(TINY | {'multipliers': (1,)}))
    x, noise_level, cond = plain_inputs(2, *(8, 12, 4)[:spatial_dims], 3)
    y, _ = jit(net.init_with_output)(jax.random.key(0), x, noise_level, cond)
    assert y.shape == x.shape and y.dtype == jnp.float32
    np.testing.assert_array_equal(y, 0.0)
    eps = normal(2, 100, *x.shape)
    assert abs(float(jnp.mean((y - eps) ** 2)) - 1.0) < 5 * (2 / eps.size) ** 0.5


@pytest.mark.parametrize('style', ['ddpm++', 'ncsn++', 'adm', 'vdm'])
def test_every_style_starts_as_a_new_net_should(style):
    """At zero, or as the identity where it sees waves and adds x."""
    net = UNet(3, style=style, **TINY)
    x, noise_level, cond = plain_inputs(2, 8, 8, 3)
    y, _ = jit(net.init_with_output)(jax.random.key(0), x, noise_level, cond)
    np.testing.assert_array_equal(y, x if style == 'vdm' else 0.0)


@pytest.mark.parametrize(
    'spatial_dims, style',
    [(1, 'ddpm'), (2, 'ddpm'), (3, 'ddpm'), (2, 'ddpm++'), (1, 'ncsn++'), (2, 'adm'), (2, 'vdm')],
)
def test_gradient_reaches_every_parameter(spatial_dims, style):
    net = UNet(3, spatial_dims=spatial_dims, num_classes=1, style=style, **TINY)
    x, noise_level, _ = plain_inputs(2, *(8, 12, 4)[:spatial_dims], 3)
    cond = {'label': jnp.array([0, 1])}
    params = trained(net, x, noise_level, cond)
    gradients = jit(
        jax.grad(lambda p: jnp.sum(net.apply(p, x, noise_level, cond) * normal(3, *x.shape)))
    )(params)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name, size = jax.tree_util.keystr(path), np.abs(gradient).max(-1)
        # A key's bias adds the same to all logits of a query, which the softmax takes away: it has no gradient.
        assert np.all(size < 1e-3) if name.endswith("['key']['bias']") else np.all(size > 1e-5), (
            name,
            size,
        )


def test_examples_are_independent_and_permute():
    _, apply, params, x, noise_level = example()
    y = apply(params, x, noise_level, {})
    order = jnp.array([2, 0, 3, 1])
    close(apply(params, x[order], noise_level[order], {}), y[order])
    changed = apply(params, x.at[1].set(7.0), noise_level.at[1].set(3.0), {})
    close(changed[jnp.array([0, 2, 3])], y[jnp.array([0, 2, 3])])
    assert np.abs(changed[1] - y[1]).max() > 0.1


def test_noise_level_matters_and_may_be_a_scalar():
    _, apply, params, x, noise_level = example()
    y = apply(params, x, jnp.full(4, 500.0), {})
    close(apply(params, x, 500.0, {}), y)
    assert np.abs(apply(params, x, 10.0, {}) - y).max() > 0.01


def test_dropout_belongs_to_the_example():
    _, apply, params, x, noise_level = example(dropout=0.3)
    keys = jax.random.split(jax.random.key(5), 4)
    y = apply(params, x, noise_level, {}, keys)
    halves = [
        apply(params, x[i : i + 2], noise_level[i : i + 2], {}, keys[i : i + 2]) for i in (0, 2)
    ]
    close(y, jnp.concatenate(halves))
    assert np.abs(y - apply(params, x, noise_level, {})).max() > 0.01
    assert np.abs(y - apply(params, x, noise_level, {}, keys[::-1])).max() > 0.01


def test_vmap_and_pmap_agree_with_the_batch():
    net, apply, params, x, noise_level = example()
    y = apply(params, x, noise_level, {})
    alone = jit(jax.vmap(lambda x, t: net.apply(params, x[None], t, {})[0]))
    close(alone(x, noise_level), y)
    one_device = jax.pmap(lambda x, t: net.apply(params, x, t, {}), devices=jax.devices()[:1])
    close(one_device(x[None], noise_level[None])[0], y)


def test_a_head_for_every_64_channels():
    net = UNet(3, channels=64, multipliers=(1, 2), blocks=1, attention=(8, 4), heads=0)
    x, noise_level, cond = plain_inputs(1, 8, 8, 3)
    params = trained(net, x, noise_level, cond)
    found = jit(net.apply)(params, x, noise_level, cond)
    one_head = jit(net.clone(heads=1).apply)(params, x, noise_level, cond)
    assert np.abs(found - one_head).max() > 1e-4  # the second level has two
    narrow = net.clone(multipliers=(1, 1))
    params = trained(narrow, x, noise_level, cond)
    close(
        jit(narrow.apply)(params, x, noise_level, cond),
        jit(narrow.clone(heads=1).apply)(params, x, noise_level, cond),
    )


def test_remat_changes_neither_parameters_nor_gradients():
    plain = UNet(2, dropout=0.3, **(TINY | {'multipliers': (1,), 'attention': ()}))
    remat = plain.clone(remat=True)
    x, noise_level, cond = plain_inputs(4, 4, 4, 2)
    params = trained(plain, x, noise_level, cond)
    keys = jax.random.split(jax.random.key(5), 4)
    assert shapes(remat, x, noise_level, cond) == shapes(plain, x, noise_level, cond)

    def loss(net):
        return jit(
            jax.value_and_grad(lambda p: jnp.mean(net.apply(p, x, noise_level, {}, keys) ** 2))
        )(params)

    close(loss(remat), loss(plain), 1e-4)


def test_bfloat16_is_close_and_keeps_float32_at_both_ends():
    net, apply, params, x, noise_level = example()
    half = net.clone(dtype='bfloat16')
    assert shapes(half, x, noise_level, {}) == shapes(net, x, noise_level, {})
    y, rough = apply(params, x, noise_level, {}), jit(half.apply)(params, x, noise_level, {})
    assert rough.dtype == jnp.float32
    error = float(jnp.std(rough - y) / jnp.std(y))
    assert 1e-4 < error < 0.05, error


def test_labels_differ_from_each_other_and_from_the_null_label():
    _, apply, params, x, noise_level = example(num_classes=2)
    same = jnp.broadcast_to(x[:1], x.shape)
    y = apply(params, same, 500.0, {'label': jnp.array([0, 1, 2, 0])})
    close(y[0], y[3])
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(y[a] - y[b]).max() > 0.01


@pytest.mark.parametrize(
    'num_classes, cond', [(0, {'label': jnp.zeros(2, jnp.int32)}), (3, {}), (0, {'text': 0})]
)
def test_refuses_conditions_that_it_does_not_take(num_classes, cond):
    net = UNet(1, num_classes=num_classes, **TINY)
    with pytest.raises(ValueError, match=f'num_classes={num_classes} takes a cond with the keys'):
        net.init(jax.random.key(0), *plain_inputs(2, 8, 8, 1)[:2], cond)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(dtype='float16'), "dtype must be one of .*, got 'float16'"),
        (dict(spatial_dims=4), 'spatial_dims must be one of'),
        (dict(spatial_dims=1), 'x must be'),
        (dict(channels=7), 'channels must be even and positive'),
        (dict(dropout=1.0), 'dropout must be in'),
        (dict(style='biggan'), 'style must be one of'),
        (dict(multipliers=(1, 1, 1, 1, 1)), 'instead of 8 use 16'),
    ],
)
def test_refuses_attributes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(1, **(TINY | options)).init(jax.random.key(0), *plain_inputs(2, 8, 8, 1))


def test_refuses_keys_and_labels_that_are_not_one_per_example():
    net, _, params, x, noise_level = example(dropout=0.3)
    with pytest.raises(ValueError, match='dropout_keys must have one entry per example'):
        net.apply(params, x, noise_level, {}, jax.random.key(0))
    with pytest.raises(ValueError, match='label must have one entry per example'):
        UNet(1, num_classes=3, **TINY).init(
            jax.random.key(0), x, noise_level, {'label': jnp.zeros((), jnp.int32)}
        )


def test_check_size_names_the_sizes_that_would_do():
    check_size((28, 28, 1), (1, 2, 2), 2)
    check_size((5, 16, 3), (1, 2, 2, 2, 2), 1)
    with pytest.raises(
        ValueError, match='divisible by 8, got .30, 32.: instead of 30 use 24 or 32'
    ):
        check_size((4, 30, 32, 3), (1, 2, 2, 2), 2)
    with pytest.raises(ValueError, match='instead of 3 use 4; instead of 9 use 8 or 12'):
        check_size((3, 4, 9, 1), (1, 1, 1), 3)
    with pytest.raises(ValueError, match='expected 2 spatial axes'):
        check_size((8, 1), (1, 2), 2)
