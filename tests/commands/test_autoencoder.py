import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import config as configs
from jaxdiff.commands import plan, sample, train
from jaxdiff.viz import grid

SMALL = {
    'model': 'autoencoder',
    'autoencoder__channels': 8,
    'autoencoder__blocks': 1,
    'autoencoder__multipliers': '(1,)',
    'optimizer__decay': 'constant',
    'sample__batch_size': 200,
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('autoencoder') / 'run'
    job = train.prepare(configs.load('digits', tiny.overrides(**SMALL)), str(workdir))
    return workdir, train.run(job)


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


def test_it_goes_on_and_is_planned_as_any_run(run, capsys):
    workdir, _ = run
    config = configs.load('digits', tiny.overrides(**SMALL | {'train__steps': 8}))
    train.run(train.prepare(config, str(workdir)))
    assert 'step 6 of 8' in capsys.readouterr().err
    assert any('operations' in line for line in plan.run(plan.prepare(config)))


def test_what_is_trained_on_is_never_called_held_out(tmp_path, capsys):
    changes = SMALL | {'data__split': 'test', 'train__steps': 1}
    train.run(train.prepare(configs.load('digits', tiny.overrides(**changes)), str(tmp_path)))
    assert '355 images of digits, trained on: mean PSNR' in capsys.readouterr().err


def test_it_has_no_samples(run):
    with pytest.raises(ValueError, match='holds an autoencoder, which has no samples of its own'):
        sample.prepare(str(run[0]), [])
