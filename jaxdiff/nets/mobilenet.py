"""MobileNetV2 of width 1 as Keras has it, down to the last pooled layer.

The modules' names are those of Keras' layers.

References:
  Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks
    (https://arxiv.org/abs/1801.04381), table 2.
  https://github.com/keras-team/keras, `keras/src/applications/mobilenet_v2.py`.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets.normalised import NormalisedConv

WIDTH = 1280
STAGES = (  # table 2: expansion t, channels c, blocks n, stride s of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNet(nn.Module):
    """Images to what the last pool sees. 2.26 million parameters, running statistics included."""

    @nn.compact
    def __call__(self, x):
        """x, [b, h, w, 3] of -1 … 1 -> [b, 1280]; h and w are divided by 32, 160 being usual."""
        x = NormalisedConv(32, (3, 3), 2, activation=nn.relu6, name='Conv1')(x)
        names = [
            'expanded_conv',
            *(f'block_{i}' for i in range(1, sum(n for _, _, n, _ in STAGES))),
        ]
        for expansion, channels, blocks, stride in STAGES:
            for i in range(blocks):
                block = InvertedResidual(expansion, channels, 1 if i else stride, name=names.pop(0))
                x = block(x)
        x = NormalisedConv(WIDTH, activation=nn.relu6, name='Conv_1')(x)
        return jnp.mean(x, (1, 2))


class InvertedResidual(nn.Module):
    """x + project(depthwise(expand(x))), the first term where sides and channels stay.

    Attributes:
      expansion: of the channels, by 1x1; 1 leaves it out.
      channels: of the result.
      stride: of the depthwise 3x3.
    """

    expansion: int
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h / stride, w / stride, channels], rounded up."""
        wide, h = self.expansion * x.shape[-1], x
        if self.expansion > 1:
            h = NormalisedConv(wide, activation=nn.relu6, name='expand')(h)
        h = NormalisedConv(
            wide, (3, 3), self.stride, groups=wide, activation=nn.relu6, name='depthwise'
        )(h)
        h = NormalisedConv(self.channels, activation=lambda y: y, name='project')(h)
        return x + h if x.shape == h.shape else h
