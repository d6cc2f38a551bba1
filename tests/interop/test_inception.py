"""Inception-v3's loading, on a network of one layer with the same kinds of names."""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from precision import products
from torch_files import older, zipped

from jaxdiff.evaluation.features import named
from jaxdiff.interop import inception
from jaxdiff.nets.normalised import NormalisedConv


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = NormalisedConv(2, (3, 3), 2, 'VALID', name='Conv2d_1a_3x3')(x)
        features = jnp.mean(x, (1, 2))
        return features, nn.Dense(5, use_bias=False, name='fc')(features)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(inception, 'Inception', Tiny)
    monkeypatch.setattr(inception, 'SIDE', 9)


def state(seed=0, **changed):
    """Weights by PyTorch's names and layouts; None leaves one out."""
    random, layer = np.random.default_rng(seed), 'Conv2d_1a_3x3'
    shapes = {f'{layer}.bn.{name}': (2,) for name in ('weight', 'bias', 'running_mean')}
    shapes |= {f'{layer}.conv.weight': (2, 3, 3, 3), 'fc.weight': (5, 2), 'fc.bias': (5,)}
    arrays = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    arrays |= {f'{layer}.bn.running_var': np.array([0.5, 2], np.float32)}
    arrays |= {f'{layer}.bn.num_batches_tracked': np.array(3)} | changed
    return {name: x for name, x in arrays.items() if x is not None}


def saved(folder, **options):
    safetensors.numpy.save_file(state(**options), folder / 'w.safetensors')
    return folder / 'w.safetensors'


def images(channels=3):
    return np.random.default_rng(1).integers(0, 256, (2, 6, 7, channels)).astype(np.uint8)


def test_only_the_published_file_measures_fid(tmp_path, monkeypatch):
    file = saved(tmp_path)
    assert named('frechet_distance', inception.load(file)) == 'frechet_distance[inception]'
    published = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, '_PUBLISHED', published[:8])
    assert named('frechet_distance', inception.load(file)) == 'FID'


def test_features_are_those_of_the_weights(tmp_path):
    """Written out, of images that already have the network's size."""
    features, arrays = inception.load(saved(tmp_path)), state()
    x = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    kernel = arrays['Conv2d_1a_3x3.conv.weight']
    seen, found = (x.astype(float) - 128) / 128, np.zeros((2, 2))
    for i, j in np.ndindex(4, 4):
        window = seen[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        y = np.einsum('bhwi,oihw->bo', window, kernel)
        weight, bias, mean, variance = (
            arrays[f'Conv2d_1a_3x3.bn.{name}']
            for name in ('weight', 'bias', 'running_mean', 'running_var')
        )
        found += np.maximum(weight * (y - mean) / np.sqrt(variance + 1e-3) + bias, 0) / 16
    y = jax.jit(features.apply)(features.params, x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, found, rtol=1e-4, atol=1e-6)
    logits = inception.logits(features.params, y)
    np.testing.assert_allclose(logits, found @ arrays['fc.weight'].T, rtol=1e-4, atol=1e-5)


def test_weights_are_arguments_and_products_precise(tmp_path):
    features, other = (inception.load(saved(tmp_path, seed=seed)) for seed in (0, 1))
    ask = jax.jit(features.apply)
    first = ask(features.params, images())
    traced = ask._cache_size()
    second = ask(other.params, images())
    assert ask._cache_size() == traced and np.abs(first - second).max() > 1e-3
    program = jax.make_jaxpr(features.apply)(features.params, images())
    highest = (jax.lax.Precision.HIGHEST,) * 2
    convolutions = [e for e in program.eqns if e.primitive.name == 'conv_general_dilated']
    assert [e.params['precision'] for e in convolutions] == [highest]
    assert set(products(program.jaxpr)) == {highest}


def test_grey_images_are_those_of_three_equal_channels(tmp_path):
    features, grey = inception.load(saved(tmp_path)), images(1)
    ask = jax.jit(features.apply)
    expected = ask(features.params, np.repeat(grey, 3, -1))
    np.testing.assert_allclose(ask(features.params, grey), expected, rtol=1e-6)


def test_one_networks_weights_have_one_digest_in_every_file(tmp_path):
    features = inception.load(saved(tmp_path))
    for write in (zipped, older):
        write(tmp_path / 'w.pth', state())
        assert inception.load(tmp_path / 'w.pth').digest == features.digest
    assert inception.load(saved(tmp_path, seed=1)).digest != features.digest


@pytest.mark.parametrize(
    'changed, message',
    [
        ({'fc.weight': None}, "lacks 1 of the 6 arrays of FID's Inception-v3, such as 'fc.weight'"),
        (
            {'fc.weight': np.zeros((4, 2), np.float32)},
            r"'fc.weight' has the shape \(4, 2\), turned as Flax has it \(2, 4\), which in FID's "
            r'Inception-v3 is \(2, 5\)',
        ),
        ({'Conv2d_1a_3x3.bn.bias': np.zeros((2, 2, 1))}, r"bn.bias' has the shape \(2, 2, 1\)"),
    ],
)
def test_weights_of_another_network_are_refused_in_a_line(changed, message, tmp_path):
    with pytest.raises(ValueError, match=f'w.safetensors cannot be used: .*{message}') as error:
        inception.load(saved(tmp_path, **changed))
    assert '\n' not in str(error.value)


def test_missing_and_broken_files_are_told_in_a_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no .*nowhere.pth: FID's .* fid_weights") as error:
        inception.load(tmp_path / 'nowhere.pth')
    assert '\n' not in str(error.value)
    file = saved(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(ValueError, match='w.safetensors cannot be used') as error:
        inception.load(file)
    assert '\n' not in str(error.value)
    (tmp_path / 'w.pth').write_bytes(content)
    with pytest.raises(ValueError, match='w.pth is not a state dict of PyTorch'):
        inception.load(tmp_path / 'w.pth')
