"""Distances of features, beside torch-fidelity's of the same features."""

import sys
import types

import numpy as np
import pytest

from jaxdiff.evaluation import frechet, kernel, neighbours

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
