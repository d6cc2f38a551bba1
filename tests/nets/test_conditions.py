"""What every network makes of a text, a label and a picture, and which of them it refuses."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import NETS, TOLD, close, example, inputs, jit, normal, shapes, trained

from jaxdiff.nets.conditions import LearnedToken, pooled

every_net = pytest.mark.parametrize('name', NETS)


def test_the_pooled_text_is_the_mean_of_the_token_and_what_the_mask_shows():
    states = normal(0, 3, 4, 5)
    mask = jnp.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    params = trained(LearnedToken(), states, mask)
    token = params['params']['token']
    got = pooled(LearnedToken().apply(params, states, mask))
    close(got[0], (token + states[0].sum(0)) / 5)
    close(got[1], (token + states[1, 0] + states[1, 2]) / 3)
    close(got[2], token)
    nothing = LearnedToken().apply(params, states[:, :0], mask[:, :0])
    close(pooled(nothing), jnp.broadcast_to(token, (3, 5)))


@every_net
def test_a_new_net_returns_zero_whatever_it_is_told(name):
    x, noise_level, cond = inputs(2)
    y, _ = jit(NETS[name].clone(**TOLD).init_with_output)(jax.random.key(0), x, noise_level, cond)
    assert y.shape == x.shape and y.dtype == jnp.float32
    np.testing.assert_array_equal(y, 0.0)


@every_net
@pytest.mark.parametrize('spatial_dims', [1, 2, 3])
def test_takes_any_spatial_axes_and_keeps_its_parameters_under_remat_and_bfloat16(
    name, spatial_dims
):
    net = NETS[name].clone(**TOLD, spatial_dims=spatial_dims)
    args = inputs(2, (8, 4, 6)[:spatial_dims])
    other = net.clone(remat=True, dtype='bfloat16')
    y, params = jax.eval_shape(net.init_with_output, jax.random.key(0), *args)
    assert y.shape == args[0].shape
    assert (y, params) == jax.eval_shape(other.init_with_output, jax.random.key(0), *args)


@every_net
def test_states_under_a_false_mask_change_nothing(name):
    apply, params, x, noise_level, cond = example(name)
    y = apply(params, x, noise_level, cond)
    for value in (100.0, jnp.nan):
        hidden = jnp.where(cond['mask'][..., None], cond['text'], value)
        np.testing.assert_array_equal(apply(params, x, noise_level, cond | {'text': hidden}), y)
    assert np.isfinite(y).all()


@every_net
def test_a_longer_padding_changes_nothing(name):
    _, params, x, noise_level, cond = example(name)
    net = NETS[name].clone(**TOLD)
    longer = {
        'text': jnp.pad(cond['text'], ((0, 0), (0, 2), (0, 0))),
        'mask': jnp.pad(cond['mask'], ((0, 0), (0, 2))),
    }
    texts = shapes(net, x, noise_level, cond), shapes(net, x, noise_level, cond | longer)
    assert texts[0] == texts[1]
    close(
        jit(net.apply)(params, x, noise_level, cond | longer),
        example(name)[0](params, x, noise_level, cond),
    )


@every_net
def test_a_text_is_a_set_of_states(name):
    """Order is for the encoder to tell; the net sees the states with their mask in any order."""
    apply, params, x, noise_level, cond = example(name)
    order = jnp.array([2, 0, 1])
    turned = cond | {'text': cond['text'][:, order], 'mask': cond['mask'][:, order]}
    close(apply(params, x, noise_level, turned), apply(params, x, noise_level, cond))


@every_net
@pytest.mark.parametrize('key', ['label', 'text', 'mask', 'image'])
def test_each_condition_matters_to_its_own_example_only(name, key):
    apply, params, x, noise_level, cond = example(name)
    y = apply(params, x, noise_level, cond)
    value = {'label': 2, 'text': 0.5, 'mask': False, 'image': 0.5}[key]
    changed = apply(params, x, noise_level, cond | {key: cond[key].at[0].set(value)})
    assert np.abs(changed[0] - y[0]).max() > 1e-2
    close(changed[1:], y[1:])


@every_net
def test_exports_for_any_batch_and_platform(name):
    net, args = NETS[name].clone(**TOLD), inputs(2)
    params = shapes(net, *args)
    (batch,) = jax.export.symbolic_shape('b')
    free = jax.tree.map(lambda v: jax.ShapeDtypeStruct((batch, *v.shape[1:]), v.dtype), args)
    export = jax.export.export(jax.jit(net.apply), platforms=('cpu', 'cuda', 'tpu'))
    (y,) = export(params, *free).out_avals
    assert y.shape == (batch, 8, 8, 2)


@every_net
def test_examples_are_independent_and_permute(name):
    apply, params, x, noise_level, cond = example(name)
    y = apply(params, x, noise_level, cond)
    order = jnp.array([2, 0, 3, 1])
    again = apply(params, *jax.tree.map(lambda v: v[order], (x, noise_level, cond)))
    close(again, y[order])
    changed = apply(params, x.at[1].set(7.0), noise_level.at[1].set(3.0), cond)
    close(changed[order[:3]], y[order[:3]])
    assert np.abs(changed[1] - y[1]).max() > 0.01


@pytest.mark.parametrize('name', ['unet', 'dit'])
def test_gradient_reaches_every_parameter(name):
    net = NETS[name].clone(**TOLD)
    args = inputs(3)
    params = trained(net, *args)
    loss = lambda p: jnp.sum(net.apply(p, *args) * normal(4, *args[0].shape))
    for path, gradient in jax.tree_util.tree_leaves_with_path(jit(jax.grad(loss))(params)):
        where, size = jax.tree_util.keystr(path), np.abs(gradient).max(-1)
        # A key's bias adds the same to all logits of a query, which the softmax takes away: it has no gradient.
        biased = where.endswith("['key']['bias']")
        # Few rows may be near 0 in a DiT, where the gelu of their unit is.
        reached = np.all(size > 0) and size.max() > 1e-3
        assert size.max() < 1e-3 if biased else reached, (where, size)


@pytest.mark.parametrize('name', ['unet', 'dit'])
def test_no_gradient_reaches_a_hidden_state(name):
    net = NETS[name].clone(**TOLD)
    x, noise_level, cond = inputs(2)
    params = trained(net, x, noise_level, cond)
    cond['mask'] = cond['mask'].at[1].set(False)
    loss = lambda text: jnp.sum(net.apply(params, x, noise_level, cond | {'text': text}) ** 2)
    gradient = np.asarray(jit(jax.grad(loss))(cond['text']))
    assert np.all(np.abs(gradient[0]).max(-1) > 1e-4)
    np.testing.assert_array_equal(gradient[1], 0.0)


@pytest.mark.parametrize('missing', ['text', 'mask', 'image', 'label'])
@pytest.mark.parametrize('name', ['unet', 'dit'])
def test_refuses_a_condition_too_few_or_too_many(name, missing):
    x, noise_level, cond = inputs(2)
    few = {key: value for key, value in cond.items() if key != missing}
    with pytest.raises(ValueError, match='takes a cond with the keys .*label.*, got'):
        shapes(NETS[name].clone(**TOLD), x, noise_level, few)
    with pytest.raises(ValueError, match=r'takes a cond with the keys \[\], got'):
        shapes(NETS[name], x, noise_level, {missing: cond[missing]})


@pytest.mark.parametrize(
    'change, message',
    [
        ({'text': jnp.zeros((2, 3, 4))}, r'd=5 \(text_width\), got \(2, 3, 4\)'),
        ({'text': jnp.zeros((1, 3, 5))}, 'b=2 as x'),
        ({'text': jnp.zeros((2, 5))}, r'text must be \[b, l, d\]'),
        ({'mask': jnp.ones((2, 4), bool)}, r'mask must be bool, .* shape \(2, 3\), got bool'),
        ({'mask': jnp.ones((2, 3), jnp.int32)}, 'got int32'),
        ({'image': jnp.zeros((2, 8, 8, 3))}, 'image_channels=1'),
        ({'image': jnp.zeros((2, 4, 4, 1))}, 'image must have the sizes of x'),
        ({'label': jnp.zeros((), jnp.int32)}, 'label must have one entry per example'),
    ],
)
@pytest.mark.parametrize('name', ['unet', 'dit'])
def test_refuses_conditions_of_other_shapes(name, change, message):
    x, noise_level, cond = inputs(2)
    with pytest.raises(ValueError, match=message):
        shapes(NETS[name].clone(**TOLD), x, noise_level, cond | change)
