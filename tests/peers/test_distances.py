"""Metrics beside those of torch-fidelity, prdc and torchmetrics, of the same features and images."""

import sys
import types

import numpy as np
import pytest

from jaxdiff.evaluation import classes, frechet, images, kernel, neighbours

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def peer(fidelity):
    """Their modules by name, without what reads images for them."""
    reading = types.ModuleType('torch_fidelity.utils')
    reading.__getattr__ = lambda name: None
    sys.modules[reading.__name__] = reading
    return fidelity


@pytest.fixture(params=['alike', 'apart', 'few kinds'])
def features(request):
    """Samples and a reference, float32 [800, 24] each, as correlated as features are."""
    draws = np.random.default_rng(5)
    mix = draws.normal(size=(24, 24)) / 5
    x, y = (draws.normal(size=(800, 24)) @ mix for _ in range(2))
    if request.param == 'apart':
        x = 1.3 * x + draws.normal(size=24) / 2
    elif request.param == 'few kinds':
        x = x[draws.integers(40, size=800)] + 0.05 * draws.normal(size=x.shape)
    return np.float32(x), np.float32(y)


def test_frechet_distance(features, peer):
    metric_fid = peer('metric_fid')
    statistics = [metric_fid.fid_features_to_statistics(torch.tensor(f).double()) for f in features]
    found = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    ours = frechet.of(*features)
    np.testing.assert_allclose(ours.value, found['frechet_inception_distance'], rtol=1e-4)


def test_kernel_distance(features, peer):
    whole = {'kid_subsets': 1, 'kid_subset_size': 800, 'verbose': False}
    given = [torch.tensor(f).double() for f in features]
    found = peer('metric_kid').kid_features_to_metric(*given, **whole)
    ours = kernel.distance(*features)
    np.testing.assert_allclose(
        ours.value, found['kernel_inception_distance_mean'], rtol=1e-4, atol=1e-6
    )


def test_precision_and_recall(features, peer):
    asked = {'prc_neighborhood': 3, 'prc_batch_size': 1000, 'verbose': False}
    found = peer('metric_prc').prc_features_to_metric(*map(torch.tensor, features), **asked)
    ours = neighbours.precision_recall(*features)
    for name in ('precision', 'recall'):
        np.testing.assert_allclose(ours[name].value, found[name], atol=1e-4, err_msg=name)


def test_density_and_coverage(features):
    """Balls there are open and here they are closed: no distance is a radius but by chance."""
    prdc = pytest.importorskip('prdc')
    found = prdc.compute_prdc(*reversed(features), nearest_k=5)
    ours = neighbours.density_coverage(*features)
    for name in ('density', 'coverage'):
        np.testing.assert_allclose(ours[name].value, found[name], atol=1e-4, err_msg=name)


def test_score(peer):
    logits = np.float32(3 * np.random.default_rng(0).normal(size=(500, 12)))
    asked = {'splits': 1, 'shuffle': False}
    found = peer('metric_isc').isc_features_to_metric(torch.tensor(logits), **asked)
    ours = classes.score(logits - np.logaddexp.reduce(logits, 1, keepdims=True))
    np.testing.assert_allclose(ours.value, found['inception_score_mean'], rtol=1e-4)


@pytest.mark.parametrize('channels', [1, 3])
def test_how_near_images_are(channels, peer):  # which torchmetrics imports
    """Where the whole window fits; torchmetrics goes on beyond that, by reflection."""
    metrics = pytest.importorskip('torchmetrics.functional.image')
    draws, shape = np.random.default_rng(0), (6, 40, 32, channels)
    x = draws.integers(0, 256, shape, np.uint8)
    y = np.uint8(np.clip(x + 30 * draws.normal(size=shape), 0, 255))
    ours = np.asarray(images.psnr(x, y)), np.asarray(images.ssim(x, y))
    given = [torch.tensor(z).permute(0, 3, 1, 2).double() for z in (x, y)]
    asked = {'data_range': 255.0, 'reduction': 'none'}
    psnr = metrics.peak_signal_noise_ratio(*given, dim=(1, 2, 3), **asked)
    _, whole = metrics.structural_similarity_index_measure(*given, **asked, return_full_image=True)
    ssim = whole[:, :, 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(ours[0], psnr, rtol=1e-4)
    np.testing.assert_allclose(ours[1], ssim, rtol=1e-4)
