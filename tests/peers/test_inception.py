"""FID's Inception-v3 against torch-fidelity's, with random weights in the files that PyTorch writes.

Needs the package torch-fidelity, of which one module is loaded: `pip install --no-deps` will do.
"""

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxdiff.interop import inception, torch_file
from jaxdiff.nets.resize import bilinear

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def peer(fidelity, tmp_path_factory):
    """Their extractor, whose layers about keep the size of what they see, and the file of its weights."""
    module, asked = fidelity('feature_extractor_inceptionv3'), ['2048', 'logits_unbiased']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'load_state_dict_from_url', lambda *_, **__: None)
        made = module.FeatureExtractorInceptionV3
        patch.setattr(made, 'load_state_dict', lambda self, state: None)
        net = made('random', asked)
    torch.manual_seed(0)
    for name, x in net.state_dict().items():
        if name.endswith('conv.weight'):
            torch.nn.init.kaiming_normal_(x)
        elif name.endswith(('bn.weight', 'running_var')):
            x.uniform_(0.6, 1.4)
        elif name.endswith(('bn.bias', 'running_mean')):
            x.normal_(0, 0.2)
    file = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save(net.state_dict(), file)
    return net, file


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize('h, w', [(32, 32), (300, 500), (299, 299), (64, 7)])
def test_resizing_is_theirs(h, w, fidelity):
    x = images(2, h, w, 3).astype(np.float32)
    resize = fidelity('interpolate_compat_tensorflow').interpolate_bilinear_2d_like_tensorflow1x
    expected = resize(torch.tensor(x).permute(0, 3, 1, 2), (299, 299), align_corners=False)
    found = jax.jit(lambda x: bilinear(x, 299))(x)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_features_and_logits_are_theirs(peer):
    net, file = peer
    features, x = inception.load(file), images(2, 40, 50, 3)
    x[1] //= 4  # a dark one
    with torch.no_grad():
        expected, logits = (y.numpy() for y in net(torch.tensor(x).permute(0, 3, 1, 2)))
    found = jax.jit(features.apply)(features.params, x)
    assert found.shape == expected.shape == (2, features.width)
    assert np.abs(expected[0] - expected[1]).max() > 0.1 * expected.max()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.mean())
    ours = inception.logits(features.params, found)
    np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-5 * logits.std())


def test_every_file_of_one_state_gives_the_same_features(peer, tmp_path):
    """What torch.save writes now, what it wrote before 1.6, and safetensors."""
    _, file = peer
    state = torch.load(file)
    torch.save(state, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    arrays = {name: x.numpy() for name, x in state.items()}
    safetensors.numpy.save_file(arrays, tmp_path / 'same.safetensors')
    expected = inception.load(file)
    for name in ('old.pth', 'same.safetensors'):
        found = inception.load(tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
        assert found.digest == expected.digest


@pytest.mark.parametrize('zipped', [True, False])
def test_views_and_dtypes_of_a_state_dict(zipped, tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    kinds = ('float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
    state = {kind: whole[:2].to(getattr(torch, kind)) for kind in kinds}
    state |= {'turned': whole.T, 'part': whole[1:, ::2], 'one': torch.tensor(3), 'none': whole[:0]}
    torch.save(state, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = torch_file.load(tmp_path / 'a.pth')
    assert list(found) == list(state)
    for name, x in state.items():
        assert str(x.dtype) == f'torch.{found[name].dtype}'
        expected = x.float().numpy() if name == 'bfloat16' else x.numpy()
        np.testing.assert_array_equal(found[name].astype(expected.dtype), expected)
