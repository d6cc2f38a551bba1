import shutil

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data


def load(path, **options):
    return data.load(path=str(path), **options)


def test_sub_folders_name_the_classes(draw, tmp_path):
    noise = {}
    for name in ('dog/1.png', 'dog/deeper/2.PNG', 'cat/x.bmp', 'ant/y.png'):
        noise[name] = draw(tmp_path / name)
    (tmp_path / 'cat' / 'notes.txt').write_text('passed over')
    draw(tmp_path / 'cat' / '._x.png')
    draw(tmp_path / '.trash' / 'z.png')
    dataset = load(tmp_path)
    assert dataset.class_names == ('ant', 'cat', 'dog')
    assert dataset.shape == (4, 6, 3) and dataset.levels == 256 and dataset.name == str(tmp_path)
    order = ['ant/y.png', 'cat/x.bmp', 'dog/1.png', 'dog/deeper/2.PNG']
    for i, (name, label) in enumerate(zip(order, (0, 1, 2, 2))):
        assert np.array_equal(dataset.source[i]['image'], noise[name])
        assert dataset.source[i]['label'] == label
    assert len(dataset.source) == 4


def test_images_of_the_folder_itself_are_unlabelled(draw, tmp_path):
    draw(tmp_path / 'a.png')
    draw(tmp_path / 'b.jpg')
    draw(tmp_path / 'c.webp')
    draw(tmp_path / 'd.gif', mode='L')
    dataset = load(tmp_path)
    assert dataset.class_names == () and len(dataset.source) == 4
    assert dataset.source[0].keys() == {'image'}


def test_a_set_is_grey_where_every_image_is(draw, tmp_path):
    noise = draw(tmp_path / 'a.png', mode='L')
    assert load(tmp_path).shape == (4, 6, 1)
    assert np.array_equal(load(tmp_path).source[0]['image'], noise)
    draw(tmp_path / 'b.png', mode='RGBA')
    assert load(tmp_path).shape == (4, 6, 3)


def test_a_folder_without_images_is_refused(tmp_path, refused):
    (tmp_path / 'a.txt').write_text('a')
    with refused(ValueError, tmp_path, 'no images', '.png', '.webp'):
        load(tmp_path)


def test_half_labelled_is_refused(draw, tmp_path, refused):
    draw(tmp_path / 'a.png')
    draw(tmp_path / 'cat' / 'b.png')
    with refused(ValueError, tmp_path, 'a.png', 'cat/b.png', 'sub-folders'):
        load(tmp_path)


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n' + b'x' * 50])
def test_a_broken_header_is_named(draw, tmp_path, refused, content):
    draw(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(content)
    with refused(ValueError, tmp_path / 'b.png', 'cannot be read'):
        load(tmp_path)


def test_a_truncated_image_is_named(draw, tmp_path, refused):
    draw(tmp_path / 'a.png', (60, 60))
    (tmp_path / 'b.png').write_bytes((tmp_path / 'a.png').read_bytes()[:3000])
    with refused(ValueError, tmp_path / 'b.png', 'truncated'):
        load(tmp_path)


def test_sixteen_bits_are_refused(tmp_path, refused):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / 'deep.png')
    with refused(ValueError, tmp_path / 'deep.png', '8 bits'):
        load(tmp_path)


def test_the_fingerprint_is_of_names_and_contents(draw, tmp_path, monkeypatch):
    draw(tmp_path / 'one' / 'a' / 'x.png')
    shutil.copytree(tmp_path / 'one', tmp_path / 'two')
    first = load(tmp_path / 'one').fingerprint
    assert load(tmp_path / 'two').fingerprint == first and len(first) == 16
    (tmp_path / 'two' / 'a').rename(tmp_path / 'two' / 'b')
    assert load(tmp_path / 'two').fingerprint != first
    Image.new('RGB', (6, 4), 'red').save(tmp_path / 'one' / 'a' / 'x.png')
    assert load(tmp_path / 'one').fingerprint != first
    monkeypatch.setattr('jaxdiff.data.folder.CONTENT_BYTES', 0)
    assert load(tmp_path / 'one').fingerprint != first
