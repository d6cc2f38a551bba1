"""A convolution whose batch normalisation is by statistics that stand: that of a trained network, asked only.

References:
  Ioffe & Szegedy 2015, Batch Normalization (https://arxiv.org/abs/1502.03167), algorithm 2.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax import Array

from jaxdiff.nets.layers import default_init

EPSILON = 1e-3  # of TensorFlow's Slim and of Keras' MobileNetV2


class NormalisedConv(nn.Module):
    """activation(gain * conv(x) + bias - mean * gain), gain = scale / sqrt(variance + 1e-3).

    The running statistics are parameters like others; nothing here changes them.

    Attributes:
      features: channels of the result.
      sides: of the kernel, (height, width).
      stride: in both axes.
      padding: 'SAME' or 'VALID', TensorFlow's.
      groups: in which channels are convolved apart; as many as channels for a depthwise convolution.
      activation: of the result.
    """

    features: int
    sides: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = 'SAME'
    groups: int = 1
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] -> [b, h', w', features]."""
        shape = (*self.sides, x.shape[-1] // self.groups, self.features)
        kernel = self.param('kernel', default_init, shape)
        scale, bias, mean, variance = (
            self.param(name, init, (self.features,))
            for name, init in (
                ('scale', nn.initializers.ones),
                ('bias', nn.initializers.zeros),
                ('mean', nn.initializers.zeros),
                ('variance', nn.initializers.ones),
            )
        )
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=self.groups,
        )
        gain = scale * jax.lax.rsqrt(variance + EPSILON)
        return self.activation(y * gain + (bias - mean * gain))
