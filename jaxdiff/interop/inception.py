"""Inception-v3's weights as FID knows them, from the published file or as safetensors.

References:
  Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule (https://arxiv.org/abs/1706.08500).
  https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights: the file.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jax import Array

from jaxdiff.evaluation.features import Features, known
from jaxdiff.interop import torch_file
from jaxdiff.interop.named import image, take
from jaxdiff.nets.inception import SIDE, WIDTH, Inception
from jaxdiff.nets.resize import bilinear, rgb

_MODEL = "FID's Inception-v3"
_PUBLISHED = '6726825d'  # which the SHA-256 of the published file begins with, as its name says
_PREPARED = "TensorFlow 1's bilinear to 299 x 299, (x - 128) / 128; mean of Mixed_7c"
_PARTS = {
    'kernel': 'conv.weight',
    'scale': 'bn.weight',
    'bias': 'bn.bias',
    'mean': 'bn.running_mean',
    'variance': 'bn.running_var',
}


def load(path: str | Path) -> Features:
    """The 2,048 features that FID, the kernel distance, precision and recall are measured by.

    A Fréchet distance by other weights, and by these from another file, is not called FID.

    Args:
      path: pt_inception-2015-12-05-6726825d.pth, as pytorch-fid and torch-fidelity use it, or a
        state dict like its own as `.safetensors`. It is read without PyTorch.

    Raises: FileNotFoundError; ValueError where the weights aren't those of this network.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no {file}: FID's Inception-v3 needs its weights, "
            'pt_inception-2015-12-05-6726825d.pth, which pytorch-fid publishes on GitHub as its '
            'release fid_weights'
        )
    arrays = _safetensors(file) if file.suffix == '.safetensors' else torch_file.load(file)
    try:
        params = take(Inception(), image(SIDE), arrays, _name, _turn, _MODEL)
    except ValueError as error:
        raise ValueError(f'{file} cannot be used: {error}') from error
    found = known('inception', WIDTH, params, apply, _PREPARED, _log_probabilities)
    published = hashlib.sha256(file.read_bytes()).hexdigest().startswith(_PUBLISHED)
    return found._replace(fid=published)


def apply(params: Any, images: Array) -> Array:
    """uint8 images [b, h, w, 1 or 3] of any size -> features, float32 [b, 2048].

    They are made 299 x 299 as TensorFlow 1 did, see `bilinear`.
    """
    x = (bilinear(rgb(images), SIDE) - 128) / 128
    with jax.default_matmul_precision('highest'):
        return Inception().apply(params, x)[0]


def logits(params: Any, features: Array) -> Array:
    """Log-odds of the 1,008 classes, [b, 1008], of features [b, 2048], without the classes' bias.

    Their `jax.nn.log_softmax` is what the Inception score is made of, see `evaluation.classes.score`.
    """
    kernel = params['params']['fc']['kernel']
    return jnp.matmul(features, kernel, precision='highest')


def _log_probabilities(params, images, features):
    return jax.nn.log_softmax(logits(params, features))


def _safetensors(file):
    try:
        return safetensors.numpy.load_file(file)
    except (safetensors.SafetensorError, KeyError, TypeError) as error:  # the latter: bfloat16
        raise ValueError(f'{file} cannot be used: {error}') from error


def _name(path):
    *above, last = path
    return '.'.join([*above, 'weight' if above == ['fc'] else _PARTS[last]])


def _turn(name, array):
    """PyTorch's kernels are [out, in] and [out, in, h, w]."""
    return np.transpose(array, {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim))
