"""Latent diffusion: an autoencoder's run, a run in its latents, samples of that."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from jaxdiff import build, config as configs, data
from jaxdiff.commands import latents, plan, sample, train
from jaxdiff.viz import grid

SMALL = {
    'model': 'autoencoder',
    'autoencoder__channels': 8,
    'autoencoder__blocks': 1,
    'autoencoder__multipliers': '(1,)',
    'train__steps': 30,
    'train__checkpoint_every': 30,
    'sample__batch_size': 200,
}
IN_LATENTS = {
    'codec__name': 'latent',
    'net__multipliers': '(1,)',
    'sample__clip': False,
    'optimizer__decay': 'constant',
}


def run(workdir, **changes):
    job = train.prepare(configs.load('digits', tiny.overrides(**changes)), str(workdir))
    train.run(job)
    return workdir


@pytest.fixture(scope='module', params=['kl', pytest.param('vq', marks=pytest.mark.slow)])
def autoencoder(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('autoencoder') / 'run'
    # Which codes are unused is a matter of the whole batch, which XLA sees on a mesh alone.
    how = {'kl': 'pmap', 'vq': 'mesh'}[request.param]
    return run(workdir, **SMALL, autoencoder__kind=request.param, train__parallel=how)


@pytest.fixture(scope='module')
def diffusion(autoencoder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('latent') / 'run'
    return run(workdir, **IN_LATENTS, codec__path=autoencoder)


def test_the_latents_have_mean_0_and_deviation_1(diffusion):
    """As they are met in training: in each channel, over the data set."""
    frozen = latents.load(epath.Path(diffusion))
    assert frozen.measured and np.all(frozen.scale > 0)
    dataset = build.dataset(configs.load('digits'))
    codec = frozen.codec()
    images = np.stack([dataset.source[i]['image'] for i in range(len(dataset.source))])
    keys = jax.random.split(jax.random.key(5), len(images))
    z = np.asarray(jax.jit(lambda x: codec.encode(keys, codec.prepare(codec.weights, x)))(images))
    assert z.shape[1:] == (4, 4, 4) == codec.shape
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=0.02)


def test_samples_are_images_and_need_the_autoencoders_run_no_more(diffusion, autoencoder, tmp_path):
    moved = shutil.move(autoencoder, tmp_path / 'moved')
    try:
        job = sample.prepare(str(diffusion), [], out=str(tmp_path / 'a'), film=True)
        sample.run(job)
        found = np.load(tmp_path / 'a.npz')['samples']
        assert found.shape == (10, 8, 8, 1) and found.dtype == np.uint8 and found.std() > 1
        told = json.loads((diffusion / 'manifest.json').read_text())['autoencoder']
        assert (told['workdir'], told['step']) == (str(autoencoder), SMALL['train__steps'])
        assert told['run']['config']['model'] == 'autoencoder'
        run(diffusion, **IN_LATENTS, codec__path=autoencoder, train__steps=8)
        assert json.loads((diffusion / 'manifest.json').read_text())['autoencoder'] == told
    finally:
        shutil.move(moved, autoencoder)


def test_the_autoencoder_is_an_argument_of_the_program(diffusion):
    """So another one's weights need no new trace, and none is a constant."""
    job = sample.prepare(str(diffusion), [], out='x')
    params = build.with_codec(job.model, job.params)
    assert set(params) == {'net', 'codec'}
    cond = {'label': np.zeros(2, np.int32)}
    keys = jax.random.split(jax.random.key(0), 2)
    program = jax.make_jaxpr(build.sampling(job.config, job.model))(params, cond, keys)
    assert max((np.size(c) for c in program.consts), default=0) < 100


@pytest.mark.slow
@pytest.mark.parametrize('autoencoder', ['kl'], indirect=True)
def test_a_classifier_of_latents_leads_a_model_of_the_same(
    diffusion, autoencoder, random_run, tmp_path
):
    changes = IN_LATENTS | {'codec__path': autoencoder, 'train__steps': 1}
    changes |= {'model': 'classifier', 'classifier__channels': 8, 'sample__batch_size': 200}
    classifier = run(tmp_path / 'classifier', **changes)
    made = grid.read_made(epath.Path(classifier / 'samples' / 'step_00000001.png'))
    assert 0 <= made['accuracy']['clean'] <= 1
    asked = [('sample.classifier', str(classifier)), ('sample.num', '2')]
    job = sample.prepare(str(diffusion), asked, labels=['3'], out=str(tmp_path / 'a'))
    assert set(job.params) == {'net', 'classifier'}
    sample.run(job)
    assert np.load(tmp_path / 'a.npz')['samples'].shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match='has another codec, or images of another size'):
        sample.prepare(random_run, asked)


def test_images_are_encoded_once(autoencoder, tmp_path, monkeypatch):
    shutil.copytree(autoencoder, tmp_path / 'autoencoder')
    config = configs.load(
        'digits', tiny.overrides(**IN_LATENTS, codec__path=tmp_path / 'autoencoder')
    )
    dataset = build.dataset(config)._replace(place=str(tmp_path))
    frozen = latents.of_config(config, dataset.shape)
    first, encoded = latents.settle(frozen, dataset, epath.Path(tmp_path))
    monkeypatch.setattr(latents, '_prepare', None)
    again, _ = latents.settle(frozen, dataset, epath.Path(tmp_path))
    np.testing.assert_array_equal(first.scale, again.scale)
    batch = data.batches(encoded, 4, 0)[0]
    assert batch['image'].dtype == np.float16 and batch['image'].shape[:3] == (4, 4, 4)
    assert batch['label'].shape == (4,)


def test_a_run_that_lost_its_autoencoder_does_not_go_on_in_other_latents(
    diffusion, autoencoder, tmp_path
):
    shutil.copytree(diffusion, tmp_path / 'run')
    (tmp_path / 'run' / 'codec.safetensors').unlink()
    changes = IN_LATENTS | {'codec__path': autoencoder, 'train__steps': 8}
    config = configs.load('digits', tiny.overrides(**changes))
    with pytest.raises(ValueError, match='codec.safetensors is missing.*restore it from a copy'):
        train.prepare(config, str(tmp_path / 'run'))


def test_latents_that_do_not_vary_are_refused(diffusion):
    frozen = latents.load(epath.Path(diffusion))
    width = frozen.model.net.latent_channels * (1 if frozen.model.net.codes else 2)
    flat = np.full((8, 4, 4, width), -20, np.float16)  # of no variance to speak of
    with pytest.raises(OSError, match='without a finite mean and deviation above 0'):
        latents.measure(frozen, flat)


def test_it_is_planned(autoencoder):
    config = configs.load('digits', tiny.overrides(**IN_LATENTS, codec__path=autoencoder))
    lines = list(plan.run(plan.prepare(config)))
    assert any('operations' in line for line in lines)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'codec__path': '/nowhere'}, 'no training run in /nowhere'),
        ({'sample__clip': True}, 'needs sample.clip=False'),
        ({'data__flip': True}, 'goes without data.flip'),
        ({'codec__path': ''}, 'needs codec.path, the folder of an autoencoder'),
        ({'model': 'autoencoder'}, "model='autoencoder' is of pixels"),
        ({'data__image_size': 16}, 'is of images of 8x8x1, the data has 16x16x1'),
    ],
)
def test_what_cannot_be_is_one_line(autoencoder, tmp_path, changes, message):
    changes = IN_LATENTS | {'codec__path': autoencoder} | changes
    config = configs.load('digits', tiny.overrides(**changes))
    with pytest.raises(ValueError, match=message) as refused:
        train.prepare(config, str(tmp_path / 'run'))
    assert '\n' not in str(refused.value)


def test_another_kind_of_run_has_no_latents(random_run, tmp_path):
    config = configs.load('digits', tiny.overrides(**IN_LATENTS, codec__path=random_run))
    with pytest.raises(ValueError, match='it must be autoencoder'):
        train.prepare(config, str(tmp_path / 'run'))
