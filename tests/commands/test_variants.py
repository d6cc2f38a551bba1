"""Whole runs, from train to samples, of models that are more than a network and a fixed schedule."""

import shutil

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


def start(workdir, changes):
    changes = changes | {'train__steps': 4, 'train__checkpoint_every': 2}
    config = configs.load('digits', tiny.overrides(**changes))
    train.run(train.prepare(config, str(workdir)))
    return tiny.newest(workdir)[1]['params']


@pytest.fixture(scope='module')
def run(request, tmp_path_factory):
    """The folder of a run with checkpoints of steps 2 and 4."""
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    start(workdir, request.param)
    return workdir


@pytest.mark.parametrize(
    'run, changes',
    [
        pytest.param(LEARNED, LEARNED, id='learned', marks=pytest.mark.slow),
        pytest.param(HYBRID, HYBRID, id='hybrid', marks=pytest.mark.slow),
        pytest.param(EDM, EDM, id='edm', marks=pytest.mark.slow),
    ],
    indirect=['run'],
)
def test_a_run_is_resumed_and_sampled_from(run, changes, tmp_path):
    whole, parts = tiny.newest(run)[1]['params'], shutil.copytree(run, tmp_path / 'parts')
    shutil.rmtree(parts / 'checkpoints' / '4')  # as if it had ended before
    jax.tree.map(np.testing.assert_array_equal, start(parts, changes), whole)
    if changes is LEARNED:
        assert set(whole) == {'net', 'schedule'}
    out = str(tmp_path / 'samples')
    job = sample.prepare(str(run), [('sample.steps', '3')], out=out, film=True)
    paths = sample.run(job)
    assert all(path.exists() for path in paths)
    samples = np.load(tmp_path / 'samples.npz')['samples']
    assert samples.shape[1:] == (8, 8, 1) and samples.std() > 0


def test_the_film_of_a_learned_schedule_needs_its_run(tmp_path):
    config = configs.load('digits', tiny.overrides(**LEARNED))
    with pytest.raises(ValueError, match='known from its run only: give --workdir'):
        noise.prepare(config, None, str(tmp_path / 'film'))


@pytest.mark.slow
@pytest.mark.parametrize('run', [LEARNED], indirect=True, ids=['learned'])
def test_the_film_of_a_learned_schedule_is_made_of_its_run(run, tmp_path):
    config = configs.load('digits', tiny.overrides(**LEARNED))
    job = noise.prepare(config, str(run), str(tmp_path / 'film'), num=2)
    assert all(path.exists() for path in noise.run(job))
