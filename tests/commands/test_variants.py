"""Whole runs, from train to samples, of models that are more than a network and a fixed schedule."""

import jax
import numpy as np
import pytest
import tiny

from jaxdiff import config as configs
from jaxdiff.commands import noise, sample, train

LEARNED = {
    'diffusion__schedule': 'learned',
    'diffusion__embedding': 'logsnr',
    'loss__name': 'variational',
}
HYBRID = {
    'diffusion__learned_variance': True,
    'loss__name': 'hybrid',
    'loss__discrete_steps': 100,
    'sample__sampler': 'ddpm',
    'sample__variance': 'learned',
}
EDM = {
    'diffusion__schedule': 'edm',
    'diffusion__prediction': 'edm',
    'diffusion__embedding': 'logsnr',
    'diffusion__sigma_data': 0.5,
    'loss__distribution': 'log_normal',
    'sample__sampler': 'heun',
    'sample__grid': 'karras',
}


def start(workdir, **changes):
    config = configs.load('digits', tiny.overrides(optimizer__decay='constant', **changes))
    train.run(train.prepare(config, str(workdir)))
    return tiny.newest(workdir)[1]


@pytest.mark.parametrize(
    'changes',
    [
        pytest.param(LEARNED, id='learned'),
        pytest.param(HYBRID, id='hybrid', marks=pytest.mark.slow),
        pytest.param(EDM, id='edm', marks=pytest.mark.slow),
    ],
)
def test_a_run_is_resumed_and_sampled_from(changes, tmp_path):
    whole = start(tmp_path / 'whole', **changes, train__steps=4, train__checkpoint_every=2)
    start(tmp_path / 'parts', **changes, train__steps=2, train__checkpoint_every=2)
    parts = start(tmp_path / 'parts', **changes, train__steps=4, train__checkpoint_every=2)
    jax.tree.map(np.testing.assert_array_equal, parts['params'], whole['params'])
    if changes is LEARNED:
        assert set(whole['params']) == {'net', 'schedule'}
    workdir = str(tmp_path / 'whole')
    job = sample.prepare(workdir, [('sample.steps', '3')], out=str(tmp_path / 'samples'), film=True)
    paths = sample.run(job)
    assert all(path.exists() for path in paths)
    samples = np.load(tmp_path / 'samples.npz')['samples']
    assert samples.shape[1:] == (8, 8, 1) and samples.std() > 0


def test_the_film_of_a_learned_schedule_needs_its_run(tmp_path):
    config = configs.load('digits', tiny.overrides(**LEARNED))
    with pytest.raises(ValueError, match='known from its run only: give --workdir'):
        noise.prepare(config, None, str(tmp_path / 'film'))
    start(tmp_path / 'run', **LEARNED, train__steps=1)
    job = noise.prepare(config, str(tmp_path / 'run'), str(tmp_path / 'film'), num=2)
    assert all(path.exists() for path in noise.run(job))
