"""DDPM's U-Net as the library diffusers keeps it, a folder of `UNet2DModel`: its weights for ours.

    net, params = unet2d.load('ddpm-cifar10-32')
    eps = net.apply(params, x, timestep, {})  # x [b, h, w, c], timestep [b], 0 .. 999

References: https://huggingface.co/docs/diffusers/api/models/unet2d
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jaxdiff.interop import named
from jaxdiff.nets import UNet
from jaxdiff.nets.layers import group_count

CONFIG, WEIGHTS = 'config.json', 'diffusion_pytorch_model.safetensors'
OURS = {  # what ours has no choice of, and what theirs takes where the config does not say
    'time_embedding_type': ('positional', 'positional'),
    'freq_shift': (1, 0),
    'flip_sin_to_cos': (False, True),
    'downsample_padding': (0, 1),
    'downsample_type': ('conv', 'conv'),
    'upsample_type': ('conv', 'conv'),
    'resnet_time_scale_shift': ('default', 'default'),
    'act_fn': ('silu', 'silu'),
    'attention_head_dim': (None, 8),
    'norm_eps': (1e-6, 1e-5),
    'mid_block_type': ('UNetMidBlock2D', 'UNetMidBlock2D'),
    'mid_block_scale_factor': (1, 1),
    'add_attention': (True, True),
    'center_input_sample': (False, False),
    'class_embed_type': (None, None),
    'attn_norm_num_groups': (None, None),
}
NEEDED = (
    'sample_size',
    'out_channels',
    'block_out_channels',
    'layers_per_block',
    'down_block_types',
    'up_block_types',
)
_WHOLE = {
    'conv_in': 'conv_in',
    'noise_dense_0': 'time_embedding.linear_1',
    'noise_dense_1': 'time_embedding.linear_2',
    'label_embedding': 'class_embedding',
    'middle_block_0': 'mid_block.resnets.0',
    'middle_attention': 'mid_block.attentions.0',
    'middle_block_1': 'mid_block.resnets.1',
    'norm_out': 'conv_norm_out',
    'conv_out': 'conv_out',
}
_INNER = {
    'norm_0': 'norm1',
    'conv_0': 'conv1',
    'embedding': 'time_emb_proj',
    'norm_1': 'norm2',
    'conv_1': 'conv2',
    'shortcut': 'conv_shortcut',
    'norm': 'group_norm',
    'query': 'to_q',
    'key': 'to_k',
    'value': 'to_v',
    'out': 'to_out.0',
}
_KINDS = {
    'block': 'resnets.{}',
    'attention': 'attentions.{}',
    'downsample': 'downsamplers.0.conv',
    'upsample': 'upsamplers.0.conv',
}
# Attention's layers in the first published weights.
_BEFORE = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}


def load(folder: str) -> tuple[UNet, Any]:
    """The network in a folder, and its parameters {'params': …}, float32 in NumPy.

    Of `num_class_embeds` labels the last is taken for the null label, of which theirs knows nothing.

    Raises: FileNotFoundError where there is none; ValueError where it is no network that `UNet` can be.
    """
    place = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (place / name).exists():
            raise FileNotFoundError(f'{folder} has no {name}')
    try:
        config = json.loads((place / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f'{place / CONFIG} cannot be read: {error}') from error
    net = of_config(config)
    params = parameters(net, config['sample_size'], safetensors.numpy.load_file(place / WEIGHTS))
    groups = config.get('norm_num_groups', 32)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == 'scale' and group_count(len(leaf)) != groups:
            raise ValueError(
                f'norm_num_groups={groups}: of {len(leaf)} channels ours makes '
                f'{group_count(len(leaf))} groups'
            )
    return net, params


def of_config(config: Mapping[str, Any]) -> UNet:
    """Our network of their config.

    Raises: ValueError where ours can't be such a one.
    """
    if missing := [key for key in NEEDED if key not in config]:
        raise ValueError(f'it is no UNet2DModel: its config lacks {", ".join(missing)}')
    if config.get('num_class_embeds') == 1:
        raise ValueError('UNet2DModel with num_class_embeds=1: ours has a label and the null label')
    for key, (ours, default) in OURS.items():
        if (theirs := config.get(key, default)) != ours:
            raise ValueError(f'UNet2DModel with {key}={theirs!r}: ours has {ours!r}')
    down, up = config['down_block_types'], config['up_block_types']
    attends = [kind == 'AttnDownBlock2D' for kind in down]
    kinds = {kind.replace('Down', 'Up') for kind in down} | {*up}
    mirrored = [kind.replace('Down', 'Up') for kind in down] == [*reversed(up)]
    if not kinds <= {'UpBlock2D', 'AttnUpBlock2D'} or not mirrored:
        raise ValueError(
            f'UNet2DModel of {down} and {up}: ours has DownBlock2D and AttnDownBlock2D and their mirror'
        )
    widths, size = config['block_out_channels'], config.get('sample_size')
    if any(width % widths[0] for width in widths) or not isinstance(size, int):
        raise ValueError(
            f'UNet2DModel with block_out_channels={widths} and sample_size={size}: ours has multiples '
            'of the first and needs a size'
        )
    return UNet(
        config['out_channels'],
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=config['layers_per_block'],
        attention=tuple(size >> i for i, attend in enumerate(attends) if attend),
        dropout=config.get('dropout', 0.0),
        num_classes=max(0, (config.get('num_class_embeds') or 0) - 1),  # the last is the null label
    )


def parameters(net: UNet, size: int, weights: Mapping[str, np.ndarray]) -> Any:
    """Their weights as the parameters of ours, for images of `size` x `size`.

    Raises: ValueError where a weight is missing or of another shape, or there is one too many.
    """
    weights, taken = {_renamed(name): array for name, array in weights.items()}, set()
    if 'conv_in.weight' not in weights:
        raise ValueError('the weights are of no UNet2DModel: they lack conv_in.weight')
    channels = weights['conv_in.weight'].shape[1]
    cond = {'label': jax.ShapeDtypeStruct((1,), jnp.int32)} if net.num_classes else {}
    given = (
        jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.float32),
        cond,
    )
    last = len(net.multipliers) - 1

    def name(path):
        *modules, leaf = path
        found = re.fullmatch(r'(down|up)_(\d+)_([a-z]+)(?:_(\d+))?', modules[0])
        if found:
            side, level, kind, i = found.groups()
            level = int(level) if side == 'down' else last - int(level)
            first = f'{side}_blocks.{level}.{_KINDS[kind].format(i)}'
        else:
            first = _WHOLE[modules[0]]
        inner = [_INNER[module] for module in modules[1:]]
        found = '.'.join([first, *inner, 'bias' if leaf == 'bias' else 'weight'])
        taken.add(found)
        return found

    params = named.take(net, given, weights, name, _turned, 'UNet2DModel')
    if more := sorted(weights.keys() - taken):
        raise ValueError(f'{len(more)} weights are not of such a network, among them {more[0]!r}')
    return params


def _renamed(name):
    module, _, leaf = name.rpartition('.')
    above, _, last = module.rpartition('.')
    return f'{above}.{_BEFORE[last]}.{leaf}' if last in _BEFORE else name


def _turned(name, array):
    if name.endswith('conv_shortcut.weight'):  # a convolution of side 1
        return array[:, :, 0, 0].T
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 and name != 'class_embedding.weight' else array
