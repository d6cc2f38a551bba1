"""Samples made from images, as a user asks for them."""

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import config as configs
from jaxdiff.commands import export, sample, train
from jaxdiff.commands.images import Request
from jaxdiff.viz import grid


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files by name: two images, one that is half transparent, masks, and what can't be used."""
    folder = tmp_path_factory.mktemp('images')
    draws = np.random.default_rng(0)
    grey = [draws.integers(0, 256, (8, 8)).astype(np.uint8) for _ in range(2)]
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, 4:] = 0
    half = np.where(np.arange(8) < 4, 0, 255).astype(np.uint8)[None].repeat(8, 0)
    made = {
        'a': Image.fromarray(grey[0]),
        'b': Image.fromarray(grey[1]),
        'cut': Image.fromarray(np.stack([grey[0], alpha], -1), 'LA'),
        'mask': Image.fromarray(half),
        'empty': Image.fromarray(np.zeros((8, 8), np.uint8)),
        'large': Image.fromarray(np.zeros((16, 16), np.uint8)),
        'colour': Image.fromarray(np.zeros((8, 8, 3), np.uint8)),
    }
    for name, image in made.items():
        image.save(folder / f'{name}.png')
    (folder / 'broken.png').write_bytes(b'no image')
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope='module')
def enlarger(tmp_path_factory):
    """A run that is trained to enlarge images twice."""
    workdir = tmp_path_factory.mktemp('enlarger') / 'run'
    changes = {'task': 'super_resolution', 'degradation__factor': 2, 'net__condition': ''}
    config = configs.load('digits', tiny.overrides(**changes, train__steps=2))
    picture = train.run(train.prepare(config, str(workdir)))
    assert Image.open(picture).width > 3 * 8 * 6  # whole, degraded, sample, and so on
    return str(workdir)


def keys(**values):
    return [(f'sample.{key}', str(value)) for key, value in values.items()]


def drawn(run, out, overrides, **options):
    job = sample.prepare(run, overrides, out=str(out), **options)
    sample.run(job)
    return np.load(f'{out}.npz'), grid.read_made(epath.Path(f'{out}.png'))


def test_variations_of_one_image_by_strength(random_run, files, tmp_path):
    request = Request((files['a'],))
    asked = keys(method='sdedit', strength=0.5, steps=4, num=3)
    found, made = drawn(random_run, tmp_path / 'a', asked, images=request)
    assert found['samples'].shape == (3, 8, 8, 1) and found['samples'].std(0).max() > 0
    np.testing.assert_array_equal(
        found['given'], np.asarray(Image.open(files['a']))[None, ..., None].repeat(3, 0)
    )
    assert found['labels'].tolist() == [10] * 3  # the null label
    assert made['images']['files'] == [files['a']] and made['sample']['strength'] == 0.5
    names = [sample.prepare(random_run, asked, images=Request((files[f],))).out.name for f in 'ab']
    assert len(set(names)) == 2


def test_a_label_edited_and_the_way_between(random_run, files, tmp_path):
    asked = keys(method='invert', steps=4)
    one = {'images': Request((files['a'],)), 'labels': ['3']}
    found, _ = drawn(random_run, tmp_path / 'a', asked, **one)
    other, made = drawn(random_run, tmp_path / 'b', asked, source_label='7', **one)
    assert len(found['samples']) == 1 and np.any(found['samples'] != other['samples'])
    assert made['source'] == ['7', None]
    request = Request((files['a'], files['b']))
    between, _ = drawn(
        random_run, tmp_path / 'c', keys(method='interpolate', steps=4, num=3), images=request
    )
    assert len(between['samples']) == 3


def test_a_part_is_drawn_by_mask_or_transparency(random_run, files, tmp_path):
    asked = keys(method='replacement', steps=3)
    by_mask, _ = drawn(
        random_run, tmp_path / 'a', asked, images=Request((files['a'],), None, (files['mask'],))
    )
    by_alpha, _ = drawn(random_run, tmp_path / 'b', asked, images=Request((files['cut'],)))
    np.testing.assert_array_equal(by_mask['samples'], by_alpha['samples'])
    known = np.asarray(Image.open(files['a']))[:, :4, None]
    assert np.abs(by_mask['samples'][0, :, :4].astype(int) - known).max() <= 8  # of 17 levels
    assert np.any(by_mask['samples'][0, :, 4:] != np.asarray(Image.open(files['a']))[:, 4:, None])


def test_examples_are_degraded_and_the_samples_compared(random_run, tmp_path, capsys):
    asked = keys(method='ddnm', task='super_resolution', steps=3) + [('degradation.factor', '2')]
    request = Request((), 'test[:5]', (), True)
    found, made = drawn(random_run, tmp_path / 'a', asked, images=request)
    assert found['samples'].shape == found['given'].shape == (5, 8, 8, 1)
    near = made['nearness']
    assert near['samples']['psnr'] > 5 and near['given']['psnr'] > 5
    assert f'samples PSNR {near["samples"]["psnr"]:.4g}' in capsys.readouterr().err
    again, _ = drawn(random_run, tmp_path / 'b', asked, images=request)
    np.testing.assert_array_equal(found['samples'], again['samples'])


def test_a_trained_task_takes_what_is_left_of_an_image(enlarger, tmp_path):
    request = Request((), 'test[:3]', (), True)
    found, made = drawn(enlarger, tmp_path / 'a', [], images=request)
    assert found['samples'].shape == (3, 8, 8, 1) and set(made['nearness']) == {'samples', 'given'}
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16).save(tmp_path / 'small.png')
    small, made = drawn(
        enlarger, tmp_path / 'b', [], images=Request((str(tmp_path / 'small.png'),))
    )
    assert small['samples'].shape == (1, 8, 8, 1) and 'nearness' not in made
    with pytest.raises(ValueError, match='from noise alone, not from images'):
        export.prepare(enlarger, str(tmp_path / 'a.stablehlo'))


SDEDIT = keys(method='sdedit')
PARTS = keys(method='repaint')


@pytest.mark.parametrize(
    'overrides, request_of, message',
    [
        ([], {'files': 'a'}, '--image needs what is to be made of it'),
        (SDEDIT, {}, "sample.method='sdedit' starts from images"),
        (SDEDIT, {'files': 'a', 'split': 'test'}, 'either --image or --examples'),
        (SDEDIT, {'files': 'a', 'mask': 'mask'}, '--mask is for inpainting'),
        (SDEDIT, {'files': 'a', 'degrade': True}, '--degrade is for what undoes'),
        (SDEDIT, {'files': 'large'}, '16 x 16 pixels and the mode L, and an image must have 8 x 8'),
        (SDEDIT, {'files': 'colour'}, 'the mode RGB, and an image must have 8 x 8 and L or 1'),
        (SDEDIT, {'files': 'broken'}, 'cannot be read as an image'),
        (SDEDIT, {'files': 'missing'}, 'there is no image missing'),
        (SDEDIT, {'split': 'test[:0]'}, 'no|empty'),
        (PARTS, {'files': 'a'}, 'which pixels are to be drawn'),
        (PARTS, {'files': 'a', 'mask': 'large'}, '16 x 16 pixels.*a mask must have 8 x 8'),
        (PARTS, {'files': 'a', 'mask': 'empty'}, 'leaves nothing to draw'),
        (PARTS, {'split': 'test[:2]'}, 'give --degrade'),
        (keys(method='interpolate'), {'files': 'a'}, 'between two images, got 1'),
        ([], {'mask': 'mask'}, '--mask and --degrade are of images'),
    ],
    ids=str,
)
def test_bad_requests_are_one_line(random_run, files, overrides, request_of, message):
    named = {k: (files.get(v, v),) for k, v in request_of.items() if k in ('files', 'mask')}
    request = Request(**(request_of | named))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        sample.prepare(random_run, overrides, images=request)
    assert '\n' not in str(error.value)


def test_a_source_needs_a_way_back_and_a_task_its_image(random_run, enlarger, files):
    with pytest.raises(ValueError, match='go with --method invert'):
        sample.prepare(random_run, SDEDIT, images=Request((files['a'],)), source_label='3')
    with pytest.raises(ValueError, match="a model of task='super_resolution' starts from images"):
        sample.prepare(enlarger, [])
    with pytest.raises(ValueError, match='8 x 8 pixels.*must have 4 x 4'):
        sample.prepare(enlarger, [], images=Request((files['a'],)))
    with pytest.raises(ValueError, match='degradation.factor is what the run was trained with, 2'):
        sample.prepare(enlarger, [('degradation.factor', '4')], images=Request((files['a'],)))
