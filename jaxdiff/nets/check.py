"""What every network refuses, in one line each."""

import jax.numpy as jnp


def divisible(shape, factor, spatial_dims, net):
    """Refuses a shape whose spatial sizes aren't positive multiples of `factor`, naming the nearest that are.

    Args:
      shape: (..., *spatial, c).
      factor: of every spatial size.
      spatial_dims: the number of spatial axes.
      net: what needs them so, for the message.

    Raises:
      ValueError: as said.
    """
    sizes = tuple(shape)[:-1][-spatial_dims:]
    if len(sizes) != spatial_dims:
        raise ValueError(f'expected {spatial_dims} spatial axes and one of channels, got {shape=}')
    refused = {
        size: [n for n in (size - size % factor, size - size % factor + factor) if n > 0]
        for size in sizes
        if size < 1 or size % factor
    }
    if refused:
        advice = '; '.join(
            f'instead of {size} use {" or ".join(map(str, near))}' for size, near in refused.items()
        )
        raise ValueError(f'{net} needs spatial sizes divisible by {factor}, got {sizes}: {advice}')


def one_of(net, **allowed):
    """Refuses an attribute of `net` that is none of its allowed values."""
    for name, values in allowed.items():
        if getattr(net, name) not in values:
            raise ValueError(f'{name} must be one of {values}, got {getattr(net, name)!r}')


def call(net, x, cond, dropout_keys):
    """Refuses a call of `net` whose attributes, shapes and conditions don't fit each other.

    Args:
      net: a module with the attributes dtype, spatial_dims, dropout, num_classes, text_width and image_channels.
      x, cond, dropout_keys: what it is called with, see `UNet`.

    Raises:
      ValueError: as said.
    """
    one_of(net, dtype=('float32', 'bfloat16', 'float64'), spatial_dims=(1, 2, 3))
    if not 0.0 <= net.dropout < 1.0:
        raise ValueError(f'dropout must be in [0, 1), got dropout={net.dropout}')
    if x.ndim != net.spatial_dims + 2:
        raise ValueError(f'x must be [b, *{net.spatial_dims} spatial axes, c], got {x.shape=}')
    expected = {
        key
        for made, keys in (
            (net.num_classes, ('label',)),
            (net.text_width, ('text', 'mask')),
            (net.image_channels, ('image',)),
        )
        for key in keys
        if made
    }
    if set(cond) != expected:
        raise ValueError(
            f'a net with text_width={net.text_width}, image_channels={net.image_channels} and '
            f'num_classes={net.num_classes} takes a cond with the keys {sorted(expected)}, got {sorted(cond)}'
        )
    for name, value in {'dropout_keys': dropout_keys, 'label': cond.get('label')}.items():
        if value is not None and value.shape != x.shape[:1]:
            raise ValueError(
                f'{name} must have one entry per example, shape {x.shape[:1]}, got {value.shape}'
            )
    if 'text' in cond:
        _text(cond['text'], cond['mask'], x.shape[0], net.text_width)
    if 'image' in cond and cond['image'].shape != (*x.shape[:-1], net.image_channels):
        raise ValueError(
            f'image must have the sizes of x and image_channels={net.image_channels} channels, '
            f'shape {(*x.shape[:-1], net.image_channels)}, got {cond["image"].shape}'
        )


def _text(states, mask, batch, width):
    if states.ndim != 3 or (states.shape[0], states.shape[-1]) != (batch, width):
        raise ValueError(
            f'text must be [b, l, d], b={batch} as x and d={width} (text_width), got {states.shape}'
        )
    if mask.dtype != jnp.bool_ or mask.shape != states.shape[:2]:
        raise ValueError(
            f'mask must be bool, one per token of text, shape {states.shape[:2]}, '
            f'got {mask.dtype} {mask.shape}'
        )
