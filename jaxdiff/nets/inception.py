"""Inception-v3 as FID knows it: the graph of 2015-12-05, which is not quite the paper's.

It differs from the later, public Inception-v3 (that of torchvision and Keras) in its weights, in
means at the borders, in the last block's pool, and in 1,008 classes; features of the two can't be
compared. The modules' names are those of its PyTorch copies.

References:
  Szegedy et al. 2015, Rethinking the Inception Architecture (https://arxiv.org/abs/1512.00567),
    section 6 and figures 5 to 7.
  Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), appendix A1: its last pooled layer for FID.
  https://github.com/mseitzer/pytorch-fid, https://github.com/toshas/torch-fidelity: the copies, and
    what they found in the graph.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxdiff.nets.normalised import NormalisedConv

SIDE, WIDTH, CLASSES = 299, 2048, 1008


class Inception(nn.Module):
    """Images to what the last pool sees, and to the classes' log-odds without their bias.

    23.8 million parameters, running statistics included.
    """

    @nn.compact
    def __call__(self, x):
        """x, [b, 299, 299, 3] of -1 … 1 -> features, [b, 2048], and logits, [b, 1008]."""
        halve = dict(stride=2, padding='VALID')
        x = _conv('Conv2d_1a_3x3', 32, 3, 3, **halve)(x)
        x = _conv('Conv2d_2a_3x3', 32, 3, 3, padding='VALID')(x)
        x = _halved(_conv('Conv2d_2b_3x3', 64, 3, 3)(x))
        x = _conv('Conv2d_3b_1x1', 80)(x)
        x = _halved(_conv('Conv2d_4a_3x3', 192, 3, 3, padding='VALID')(x))  # [b, 35, 35, 192]
        for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
            x = MixedA(pooled, name=f'Mixed_{name}')(x)
        x = MixedB(name='Mixed_6a')(x)  # [b, 17, 17, 768]
        for name, inner in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
            x = MixedC(inner, name=f'Mixed_{name}')(x)
        x = MixedD(name='Mixed_7a')(x)  # [b, 8, 8, 1280]
        x = MixedE(_mean, name='Mixed_7b')(x)
        # A mean in the paper and in Mixed_7b; the graph has a maximum here.
        x = MixedE(_largest, name='Mixed_7c')(x)
        features = jnp.mean(x, (1, 2))
        return features, nn.Dense(CLASSES, use_bias=False, name='fc')(features)


class MixedA(nn.Module):
    """Figure 5: 1x1, 5x5, 3x3 twice, and a mean, side by side.

    Attributes:
      pooled: channels of the branch with the mean.
    """

    pooled: int

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h, w, 224 + pooled]."""
        double = _chain(
            x,
            _conv('branch3x3dbl_1', 64),
            _conv('branch3x3dbl_2', 96, 3, 3),
            _conv('branch3x3dbl_3', 96, 3, 3),
        )
        return _join(
            _conv('branch1x1', 64)(x),
            _chain(x, _conv('branch5x5_1', 48), _conv('branch5x5_2', 64, 5, 5)),
            double,
            _conv('branch_pool', self.pooled)(_mean(x)),
        )


class MixedB(nn.Module):
    """Halves the sides: 3x3, 3x3 twice, and the maximum; [b, h, w, c] -> [b, h', w', 480 + c]."""

    @nn.compact
    def __call__(self, x):
        halve = dict(stride=2, padding='VALID')
        double = _chain(
            x,
            _conv('branch3x3dbl_1', 64),
            _conv('branch3x3dbl_2', 96, 3, 3),
            _conv('branch3x3dbl_3', 96, 3, 3, **halve),
        )
        return _join(_conv('branch3x3', 384, 3, 3, **halve)(x), double, _halved(x))


class MixedC(nn.Module):
    """Figure 6 with n = 7: 1x1, 7x7 and 7x7 twice, each as a row and a column, and a mean.

    Attributes:
      inner: channels within the branches.
    """

    inner: int

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h, w, 768]."""
        single = _chain(
            x,
            _conv('branch7x7_1', self.inner),
            _conv('branch7x7_2', self.inner, 1, 7),
            _conv('branch7x7_3', 192, 7, 1),
        )
        double = _chain(
            x,
            _conv('branch7x7dbl_1', self.inner),
            _conv('branch7x7dbl_2', self.inner, 7, 1),
            _conv('branch7x7dbl_3', self.inner, 1, 7),
            _conv('branch7x7dbl_4', self.inner, 7, 1),
            _conv('branch7x7dbl_5', 192, 1, 7),
        )
        return _join(
            _conv('branch1x1', 192)(x), single, double, _conv('branch_pool', 192)(_mean(x))
        )


class MixedD(nn.Module):
    """Halves the sides: 3x3, 7x7 and then 3x3, and the maximum; [b, h, w, c] -> [b, h', w', 512 + c]."""

    @nn.compact
    def __call__(self, x):
        halve = dict(stride=2, padding='VALID')
        seven = _chain(
            x,
            _conv('branch7x7x3_1', 192),
            _conv('branch7x7x3_2', 192, 1, 7),
            _conv('branch7x7x3_3', 192, 7, 1),
            _conv('branch7x7x3_4', 192, 3, 3, **halve),
        )
        three = _chain(x, _conv('branch3x3_1', 192), _conv('branch3x3_2', 320, 3, 3, **halve))
        return _join(three, seven, _halved(x))


class MixedE(nn.Module):
    """Figure 7: 1x1, 3x3 and 3x3 twice whose ends are a row and a column side by side, and a pool.

    Attributes:
      pool: [b, h, w, c] -> [b, h, w, c].
    """

    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h, w, 2048]."""
        single = _conv('branch3x3_1', 384)(x)
        double = _chain(x, _conv('branch3x3dbl_1', 448), _conv('branch3x3dbl_2', 384, 3, 3))
        return _join(
            _conv('branch1x1', 320)(x),
            _conv('branch3x3_2a', 384, 1, 3)(single),
            _conv('branch3x3_2b', 384, 3, 1)(single),
            _conv('branch3x3dbl_3a', 384, 1, 3)(double),
            _conv('branch3x3dbl_3b', 384, 3, 1)(double),
            _conv('branch_pool', 192)(self.pool(x)),
        )


def _conv(name, features, height=1, width=1, **options):
    return NormalisedConv(features, (height, width), name=name, **options)


def _chain(x, *layers):
    for layer in layers:
        x = layer(x)
    return x


def _join(*branches):
    return jnp.concatenate(branches, -1)


def _halved(x):
    return nn.max_pool(x, (3, 3), (2, 2), 'VALID')


def _mean(x):
    """Over 3 x 3 positions, at the borders over those that exist."""
    return nn.avg_pool(x, (3, 3), (1, 1), 'SAME', count_include_pad=False)


def _largest(x):
    return nn.max_pool(x, (3, 3), (1, 1), 'SAME')
