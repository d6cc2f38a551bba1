import numpy as np
import pytest
from etils import epath

from jaxdiff.viz import curves, film, grid


def images(n, h=4, w=6, c=1):
    return np.random.default_rng(0).integers(0, 255, (n, h, w, c)).astype(np.uint8)


def test_each_image_stands_in_its_place():
    x = images(5)
    picture = grid.tile(x, columns=3, zoom=1)
    assert picture.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    np.testing.assert_array_equal(picture[1:5, 8:14, 0], x[1, ..., 0])
    np.testing.assert_array_equal(picture[6:10, 1:7, 2], x[3, ..., 0])
    assert np.all(picture[6:, 15:] == 255)  # the place that stays empty


def test_small_images_are_enlarged_by_whole_factors():
    x = images(1)
    picture = grid.tile(x)
    assert picture.shape[0] >= 48
    np.testing.assert_array_equal(picture[6:-6:12, 6:-6:12, 0][:4, :6], x[0, ..., 0])


def test_transparency_is_laid_on_white():
    x = np.array([[[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 255, 51]]]], np.uint8)
    expected = [[10, 20, 30], [255, 255, 255], [224, 204, 255]]  # a fifth of it
    np.testing.assert_array_equal(grid.to_rgb(x)[0, 0], expected)


def test_colour_and_the_wrong_number_of_channels():
    assert grid.tile(images(2, c=3)).shape[-1] == 3
    with pytest.raises(ValueError, match='1, 3 or 4 channels, got 2'):
        grid.tile(images(2, c=2))


def test_a_picture_says_how_it_was_made(tmp_path):
    path = epath.Path(tmp_path / 'a.png')
    grid.save_png(path, grid.tile(images(1)), {'seed': 3})
    assert grid.read_made(path) == {'seed': 3}


def test_films_and_curves_are_drawn(tmp_path):
    frames = np.stack([images(3)] * 7)
    branch = film.Branch('forward: to noise', frames, np.linspace(0, 1, 7))
    assert film.figure([branch, branch]).shape[0] == 2 * film.figure([branch]).shape[0]
    film.animation(epath.Path(tmp_path / 'a.gif'), [branch], {'seed': 3})
    assert (tmp_path / 'a.gif').stat().st_size > 100
    records = [{'step': i, 'loss': 1 / i, 'grad_norm': 1.0} for i in range(1, 60)]
    curves.draw(epath.Path(tmp_path / 'loss.png'), records, 'a run')
    assert (tmp_path / 'loss.png').stat().st_size > 1000
