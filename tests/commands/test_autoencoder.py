import shutil

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import config as configs
from jaxdiff.commands import features, latents, plan, sample, train
from jaxdiff.viz import grid

SMALL = {
    'model': 'autoencoder',
    'autoencoder__channels': 8,
    'autoencoder__blocks': 1,
    'autoencoder__multipliers': '(1,)',
    'optimizer__decay': 'constant',
    'sample__batch_size': 200,
}


# With all that a loss can have.
FULL = SMALL | {
    'autoencoder__perceptual': 0.1,
    'autoencoder__adversarial': 0.5,
    'autoencoder__adversarial_from': 2,
    'autoencoder__discriminator_channels': 8,
    'autoencoder__discriminator_layers': 1,
}


def full(workdir, **changes):
    """The config of `run`, whose features are those of the run in the folder beside it."""
    changes = {'autoencoder__features': workdir.parent / 'seen_by'} | FULL | changes
    return configs.load('digits', tiny.overrides(**changes))


@pytest.fixture(scope='module')
def run(random_run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('autoencoder') / 'run'
    shutil.copytree(random_run, workdir.parent / 'seen_by')
    return workdir, train.run(train.prepare(full(workdir), str(workdir)))


def test_held_out_images_stand_above_their_reconstructions(run):
    """As many as are shown of the split 'test', and the mean distance of all of them."""
    workdir, path = run
    made = grid.read_made(epath.Path(path))
    picture = np.asarray(Image.open(path))
    assert made['step'] == 6 and 0 < made['psnr'] < 60 and 'ssim' not in made  # of 8 x 8
    assert picture.shape[1] > 4 * picture.shape[0]  # two rows of sixteen
    held_out = configs.load('digits', [('data.split', 'test')])
    from jaxdiff import build

    first = build.dataset(held_out).source[0]['image']
    zoom = (picture.shape[0] - 3 * 3) // 16
    np.testing.assert_array_equal(
        picture[3 : 3 + 8 * zoom : zoom, 3 : 3 + 8 * zoom : zoom, :1], first
    )


def test_it_is_planned_and_goes_on_with_the_features_that_it_began_with(run, tmp_path, capsys):
    workdir, _ = run
    config = full(workdir, train__steps=8)
    assert any('operations' in line for line in plan.run(plan.prepare(config)))
    shutil.copytree(workdir, tmp_path / 'run')
    other = full(workdir, train__steps=8, autoencoder__features='elsewhere')
    with pytest.raises(ValueError, match='holds a run of another config .autoencoder.features'):
        train.prepare(other, str(tmp_path / 'run'))
    (workdir.parent / 'seen_by').rename(workdir.parent / 'gone')
    try:
        train.run(train.prepare(config, str(tmp_path / 'run')))
        assert 'step 6 of 8' in capsys.readouterr().err
        (tmp_path / 'run' / features.FILE).unlink()
        with pytest.raises(ValueError, match='features.safetensors is missing'):
            train.prepare(config, str(tmp_path / 'run'))
        with pytest.raises(ValueError, match='no training run in'):
            train.prepare(config, str(tmp_path / 'another'))
    finally:
        (workdir.parent / 'gone').rename(workdir.parent / 'seen_by')


def test_the_codec_of_latents_is_without_the_discriminator(run):
    config = configs.load('digits', [('codec.name', 'latent'), ('codec.path', str(run[0]))])
    frozen = latents.of_config(config, (8, 8, 1))
    assert set(tiny.newest(run[0])[1]['ema']) == {'params', 'discriminator'}
    assert set(frozen.params) == {'params'}


def test_features_of_another_shape_or_space_are_refused(run):
    with pytest.raises(ValueError, match='features are of images of 8x8x1, the data has 16x16x1'):
        features.of_config(full(run[0]), (16, 16, 1))
    with pytest.raises(ValueError, match="model='autoencoder'"):
        features.of_config(full(run[0], autoencoder__features=run[0]), (8, 8, 1))


def test_what_is_trained_on_is_never_called_held_out(tmp_path, capsys):
    changes = SMALL | {'data__split': 'test', 'train__steps': 1}
    train.run(train.prepare(configs.load('digits', tiny.overrides(**changes)), str(tmp_path)))
    assert '355 images of digits, trained on: mean PSNR' in capsys.readouterr().err


def test_it_has_no_samples(run):
    with pytest.raises(ValueError, match="model='autoencoder', which has no samples of its own"):
        sample.prepare(str(run[0]), [])
