import io

import numpy as np
import pytest
from PIL import Image

from jaxdiff.data.image import Resized, decode, resize


def encoded(image, form='PNG', **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def test_what_is_transparent_lies_on_white():
    image = Image.new('RGBA', (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    assert decode(encoded(image), 3).tolist() == [[[200, 0, 0], [255, 255, 255]]]
    palette = image.convert('P')
    palette.info['transparency'] = palette.getpixel((1, 0))
    assert decode(encoded(palette), 3)[0, 1].tolist() == [255, 255, 255]


def test_white_shows_through_as_much_as_the_alpha_says():
    """out = (a c + (255 - a) 255) / 255, worked out by hand; 8 bits round within one."""
    pixels = [(200, 0, 100, 51), (10, 250, 255, 128), (0, 0, 0, 204)]
    by_hand = [[244, 204, 224], [132, 252.49, 255], [51, 51, 51]]
    image = Image.new('RGBA', (3, 1))
    image.putdata(pixels)
    found = decode(encoded(image), 3)[0]
    assert np.abs(found - np.array(by_hand)).max() <= 1
    grey = Image.new('LA', (1, 1), (100, 51))  # 255 - (255 - 100) / 5
    assert np.abs(decode(encoded(grey), 3).astype(int) - 224).max() <= 1
    palette = Image.new('P', (2, 1))
    palette.putpalette([200, 0, 100, 10, 20, 30])
    palette.putdata([0, 1])
    found = decode(encoded(palette, transparency=bytes([51, 255])), 3)[0]
    assert np.abs(found - np.array([[244, 204, 224], [10, 20, 30]])).max() <= 1


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'RGB', 'L'])
def test_four_channels_keep_the_transparency(mode):
    image = Image.new('LA', (2, 1), (90, 255))
    image.putpixel((1, 0), (90, 255 if mode in ('RGB', 'L') else 40))
    image = image.convert('RGBA').quantize(4) if mode == 'P' else image.convert(mode)
    alpha = 255 if mode in ('RGB', 'L') else 40
    assert decode(encoded(image), 4).tolist() == [[[90, 90, 90, 255], [90, 90, 90, alpha]]]


def test_grey_and_colour_become_each_other():
    grey = Image.new('L', (3, 2), 77)
    assert decode(encoded(grey), 1).shape == (2, 3, 1)
    assert (decode(encoded(grey), 3) == 77).all() and decode(encoded(grey), 3).shape == (2, 3, 3)
    assert decode(encoded(grey.convert('RGB')), 1).shape == (2, 3, 1)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new('L', (2, 2), value) for value in (10, 200)]
    file = encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    assert (decode(file, 1) == 10).all()


def test_more_than_eight_bits_are_refused():
    deep = Image.fromarray(np.full((2, 2), 40000, np.uint16))
    with pytest.raises(ValueError, match='8 bits.*I;16'):
        decode(encoded(deep), 1)


@pytest.mark.parametrize('shape', [(8, 8, 3), (9, 15, 1), (64, 20, 3), (3, 500, 2)])
def test_any_shape_becomes_a_square(shape):
    for size in (1, 8, 13):
        assert resize(np.full(shape, 99, np.uint8), size).shape == (size, size, shape[2])
        assert (resize(np.full(shape, 99, np.uint8), size) == 99).all()


def test_the_centre_is_kept_and_the_size_of_the_shorter_side():
    image = np.zeros((6, 18, 1), np.uint8)
    image[:, 6:12] = 255
    assert (resize(image, 6) == 255).all()
    assert (resize(image.transpose(1, 0, 2), 6) == 255).all()


def test_the_finest_pattern_shrinks_to_its_mean():
    stripes = np.tile(np.array([0, 255], np.uint8), 64)[None, :, None].repeat(128, 0)
    assert (
        abs(resize(stripes, 16).astype(int) - 127.5).max() < 6
    )  # nearest or point sampling: 127.5


def test_a_resized_source_keeps_the_labels_and_captions():
    source = [{'image': np.zeros((4, 8, 3), np.uint8), 'label': 5, 'text': 'a word'}]
    resized = Resized(source, 2)
    assert len(resized) == 1 and resized[0]['label'] == 5 and resized[0]['image'].shape == (2, 2, 3)
    assert resized[0]['text'] == 'a word'
