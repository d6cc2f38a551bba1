"""jaxdiff's networks against diffusers': random weights of theirs, copied, give the same outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.examples import jit, normal, shapes

from jaxdiff.interop import unet2d
from jaxdiff.nets import DiT, positions
from jaxdiff.nets.attention import CrossAttention
from jaxdiff.nets.conditions import Text
from jaxdiff.nets.dit import Block

torch = pytest.importorskip('torch')
pytest.importorskip('diffusers')

from diffusers import DiTTransformer2DModel, UNet2DModel  # noqa: E402
from diffusers.models.attention import BasicTransformerBlock  # noqa: E402
from diffusers.models.attention_processor import Attention  # noqa: E402
from diffusers.models.embeddings import get_2d_sincos_pos_embed  # noqa: E402

MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], bool)


def made(peer, *args, **options):
    """The peer with all its weights drawn anew, for it starts some at zero too."""
    torch.manual_seed(0)
    peer = peer(*args, **options).eval()
    for weight in peer.parameters():
        torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)  # biases too: 1
    return peer


def asked(peer, *args, **options):
    args, options = jax.tree.map(lambda a: torch.tensor(np.asarray(a)), (args, options))
    with torch.no_grad():
        y = peer(*args, **options)
    return y.numpy() if isinstance(y, torch.Tensor) else y.sample.numpy()


def array(weight):
    return jnp.asarray(weight.detach().numpy())


def dense(linear):
    return {'kernel': array(linear.weight).T, 'bias': array(linear.bias)}


def attention(peer):
    return {
        'query': dense(peer.to_q),
        'key': dense(peer.to_k),
        'value': dense(peer.to_v),
        'out': dense(peer.to_out[0]),
    }


def block(peer):
    return attention(peer.attn1) | {
        'modulation': dense(peer.norm1.linear),
        'mlp_in': dense(peer.ff.net[0].proj),
        'mlp_out': dense(peer.ff.net[2]),
    }


def fits(params, module, *args):
    """The copied weights are the module's own tree: no weight is left out, none is too many."""
    made = shapes(module, *args)['params']
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)
    return {'params': params}


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def additive(mask):
    """A mask as the peer adds it to the logits, [b, 1, l]."""
    return np.where(mask, 0.0, -10000.0).astype(np.float32)[:, None]


def test_dit():
    """Its blocks keep one embedding of timestep and label each, all alike in the published weights; its sinusoids are
    cosines first, ours sines first."""
    config = dict(num_attention_heads=2, attention_head_dim=8, in_channels=3, out_channels=6)
    peer = made(
        DiTTransformer2DModel,
        **config,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=4,
        norm_eps=1e-6,
    )
    embedding = peer.transformer_blocks[0].norm1.emb
    for other in peer.transformer_blocks:
        other.norm1.emb.load_state_dict(embedding.state_dict())
    first = dense(embedding.timestep_embedder.linear_1)
    net = DiT(6, patch=2, width=16, depth=2, heads=2, num_classes=4)
    args = normal(0, 3, 8, 8, 3), jnp.array([0.0, 17.0, 999.0]), {'label': jnp.array([0, 3, 4])}
    params = {
        'noise_dense_0': first | {'kernel': jnp.roll(first['kernel'], 128, axis=0)},
        'noise_dense_1': dense(embedding.timestep_embedder.linear_2),
        'label_embedding': {'embedding': array(embedding.class_embedder.embedding_table.weight)},
        'patches': {
            'kernel': array(peer.pos_embed.proj.weight).transpose(2, 3, 1, 0).reshape(12, 16),
            'bias': array(peer.pos_embed.proj.bias),
        },
        'modulation': dense(peer.proj_out_1),
        'out': dense(peer.proj_out_2),
    } | {f'block_{i}': block(other) for i, other in enumerate(peer.transformer_blocks)}
    ours = jit(net.apply)(fits(params, net, *args), *args)
    x, noise_level, cond = args
    theirs = asked(peer, x.transpose(0, 3, 1, 2), timestep=noise_level, class_labels=cond['label'])
    close(ours, theirs.transpose(0, 2, 3, 1))


def test_dit_block_with_a_text():
    """The peer's block of an adaLN-zero transformer with cross-attention; its embedding is inside."""
    peer = made(
        functools.partial(BasicTransformerBlock, 16, 2, 8),
        cross_attention_dim=5,
        activation_fn='gelu-approximate',
        num_embeds_ada_norm=4,
        attention_bias=True,
        norm_type='ada_norm_zero',
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    x, text, timestep, label = (
        normal(0, 2, 9, 16),
        normal(1, 2, 5, 5),
        np.array([3, 600]),
        np.array([1, 2]),
    )
    embedding = asked(
        functools.partial(peer.norm1.emb, hidden_dtype=torch.float32), timestep, label
    )
    module = Block(heads=2, hidden=64)
    args = x, jnp.asarray(embedding), Text(text, jnp.asarray(MASK)), None, None
    params = block(peer) | {'text_attention': attention(peer.attn2)}
    close(
        jit(module.apply)(fits(params, module, *args), *args),
        asked(
            peer,
            x,
            encoder_hidden_states=text,
            encoder_attention_mask=additive(MASK),
            timestep=timestep,
            class_labels=label,
        ),
    )


def test_attention_to_a_text_in_the_unet():
    """Group normalisation, projection, attention and sum are the peer's `Attention` with a residual connection."""
    peer = made(
        Attention,
        query_dim=16,
        cross_attention_dim=5,
        heads=2,
        dim_head=8,
        bias=True,
        norm_num_groups=4,
        eps=1e-6,
        residual_connection=True,
    )
    x, text = normal(0, 2, 3, 4, 16), normal(1, 2, 5, 5)
    module, args = CrossAttention(heads=2), (x, text, jnp.asarray(MASK))
    norm = {'scale': array(peer.group_norm.weight), 'bias': array(peer.group_norm.bias)}
    params = fits(attention(peer) | {'norm': norm}, module, *args)
    theirs = asked(
        peer, x.transpose(0, 3, 1, 2), encoder_hidden_states=text, attention_mask=additive(MASK)
    )
    close(jit(module.apply)(params, *args), theirs.transpose(0, 2, 3, 1))


DDPM = {
    'sample_size': 8,
    'block_out_channels': (128, 256),
    'layers_per_block': 1,
    'down_block_types': ('DownBlock2D', 'AttnDownBlock2D'),
    'up_block_types': ('AttnUpBlock2D', 'UpBlock2D'),
    'freq_shift': 1,
    'flip_sin_to_cos': False,
    'downsample_padding': 0,
    'attention_head_dim': None,
    'norm_eps': 1e-6,
}


@pytest.mark.parametrize('labels', [None, 5])
def test_unet_from_a_folder_of_theirs(labels, tmp_path):
    peer = made(UNet2DModel, **DDPM, num_class_embeds=labels)
    peer.save_pretrained(tmp_path)
    net, params = unet2d.load(str(tmp_path))
    given = jnp.array([1, 4]) if labels else None
    cond = {'label': given} if labels else {}
    x, noise_level = normal(0, 2, 8, 8, 3), jnp.array([3.0, 600.0])
    fits(params['params'], net, x, noise_level, cond)
    theirs = asked(peer, x.transpose(0, 3, 1, 2), noise_level, class_labels=given)
    close(jit(net.apply)(params, x, noise_level, cond), theirs.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    'change, message',
    [
        ({'norm_eps': 1e-5}, 'norm_eps=1e-05: ours has 1e-06'),
        ({'freq_shift': 0}, 'freq_shift=0'),
        ({'attention_head_dim': 8}, 'attention_head_dim=8'),
        ({'num_class_embeds': 1}, 'num_class_embeds=1'),
        ({'attn_norm_num_groups': 16}, 'attn_norm_num_groups=16'),
        ({'block_out_channels': (64, 128), 'norm_num_groups': 32}, 'ours makes 16 groups'),
        ({'block_out_channels': (128, 192)}, 'multiples of the first'),
        ({'down_block_types': ('DownBlock2D', 'DownBlock2D')}, 'their mirror'),
    ],
)
def test_a_unet_that_ours_cannot_be_is_refused(change, message, tmp_path):
    UNet2DModel(**DDPM | change).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        unet2d.load(str(tmp_path))


@pytest.mark.parametrize('size', [4, 7])
def test_positions(size):
    theirs = get_2d_sincos_pos_embed(16, size, base_size=size).numpy()
    np.testing.assert_allclose(positions.sincos((size, size), 16), theirs, atol=1e-5)
