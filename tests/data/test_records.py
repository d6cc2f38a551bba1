import json
import shutil
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxdiff import data
from jaxdiff.data.digits import png
from jaxdiff.data.prepare import prepare


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Ten images with more features than are used."""

    name = 'cifar10'
    VERSION = tfds.core.Version('3.0.2')
    CHANGE = 0
    FEATURES = {
        'image': tfds.features.Image(shape=(4, 6, 3)),
        'label': tfds.features.ClassLabel(names=['cat', 'dog']),
        'id': tfds.features.Text(),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            'train': self._generate_examples(range(8)),
            'test': self._generate_examples(range(8, 10)),
        }

    def _generate_examples(self, values):
        for i in values:
            yield i, {name: self.value(name, i) for name in self.FEATURES}

    def value(self, name, i):
        if name == 'image':
            return Image.new('RGB', (6, 4), (i, 2 * i, 3 * i + self.CHANGE))
        return i % 2 if name == 'label' else str(i)


class Ragged(Tiny, skip_registration=True):
    name = 'ragged'
    FEATURES = {'image': tfds.features.Image(shape=(None, None, 3))}

    def value(self, name, i):
        return Image.new('L' if i % 2 else 'RGB', (6 + i, 4))


class Deep(Tiny, skip_registration=True):
    name = 'deep'
    FEATURES = {'image': tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16)}

    def value(self, name, i):
        return png(np.zeros((4, 4), np.uint16))


class Text(Tiny, skip_registration=True):
    name = 'words'
    FEATURES = {'id': tfds.features.Text()}


def captions(i):
    """Of the i-th example of a set with several; they needn't be equally many."""
    return [f'{i}é', 'b', 'c'][: i % 4]


CAPTIONED = {
    'text': (tfds.features.Text(), lambda i: f'{i} é', lambda i: (f'{i} é',)),
    'caption': (tfds.features.Text(), str, lambda i: (str(i),)),
    'texts': (tfds.features.Sequence(tfds.features.Text()), captions, lambda i: tuple(captions(i))),
    'captions': (
        tfds.features.Sequence({'id': np.int64, 'text': tfds.features.Text()}),
        lambda i: [{'id': i, 'text': text} for text in captions(i)],
        lambda i: tuple(captions(i)),
    ),
}


@pytest.mark.parametrize('key', CAPTIONED)
def test_captions_are_read(root, key, monkeypatch):
    feature, write, expected = CAPTIONED[key]

    class Captioned(Tiny, skip_registration=True):
        name = 'captioned'
        FEATURES = Tiny.FEATURES | {key: feature}

        def value(self, name, i):
            return write(i) if name == key else super().value(name, i)

    make(Captioned, root / 'a')
    dataset = load('captioned', root / 'a')
    assert dataset.captioned and dataset.class_names == ('cat', 'dog')
    for i in range(8):
        element = dataset.source[i]
        assert element['text'] == (expected(int(element['image'][0, 0, 0])) or '')
    assert (
        load('captioned', root / 'a', image_size=2).source[0]['text'] == dataset.source[0]['text']
    )
    monkeypatch.setattr(
        Captioned,
        'value',
        lambda self, name, i: Tiny.value(self, name, i) if name != key else write(i + 4),
    )
    make(Captioned, root / 'b')
    assert load('captioned', root / 'b').fingerprint != dataset.fingerprint


def test_other_features_are_no_captions(root):
    class Mute(Tiny, skip_registration=True):
        name = 'mute'
        FEATURES = Tiny.FEATURES | {'text': tfds.features.Scalar(np.int64)}

        def value(self, name, i):
            return i if name == 'text' else super().value(name, i)

    make(Mute, root)
    assert not load('mute', root).captioned and 'text' not in load('mute', root).source[0]


@pytest.fixture
def root(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the network was asked')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    return tmp_path


def make(builder, root):
    folder = root / builder.name / str(builder.VERSION)
    prepare(builder, folder)
    return folder


def load(name, root, **options):
    return data.load(name, data_dir=str(root), **options)


def test_a_prepared_set_is_read(root):
    make(Tiny, root)
    for name in ('cifar10', 'cifar10:3.0.2', 'cifar10:3.*.*'):
        dataset = load(name, root, split='train+test')
        assert dataset.name == name and dataset.shape == (4, 6, 3) and dataset.levels == 256
        assert dataset.class_names == ('cat', 'dog') and len(dataset.source) == 10
        for i in range(10):
            element = dataset.source[i]
            r, g, b = element['image'][0, 0].tolist()
            assert (g, b) == (2 * r, 3 * r) and element['label'] == r % 2


def test_the_default_folder_is_tfdss_own(root, monkeypatch):
    make(Tiny, root)
    monkeypatch.setenv('TFDS_DATA_DIR', str(root))
    assert len(data.load('cifar10').source) == 8


def test_slices_are_splits(prepared):
    whole = load('digits', prepared)
    half = load('digits', prepared, split='train[:50%]')
    assert len(half.source) == 721
    for i in (0, 300, 720):
        assert np.array_equal(half.source[i]['image'], whole.source[i]['image'])
    assert (
        len(
            {
                load('digits', prepared, split=s).fingerprint
                for s in ('train', 'test', 'train[:50%]')
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    'split', ['valid', 'train[', 'train[:0]', 'train[5:3]', 'train[:9999]', '']
)
def test_an_unknown_split_is_refused(prepared, refused, split):
    with refused(ValueError, 'digits', repr(split), 'train (1442), test (355)', 'train[:50%]'):
        load('digits', prepared, split=split)


def test_images_of_several_sizes_need_a_size(root, refused):
    make(Ragged, root)
    with refused(ValueError, 'ragged', 'several sizes', 'image_size'):
        load('ragged', root)
    dataset = load('ragged', root, image_size=4)
    assert dataset.shape == (4, 4, 3) and dataset.class_names == ()
    assert data.batches(dataset, 8, 0)[0]['image'].shape == (8, 4, 4, 3)


def test_other_features_are_refused(root, refused):
    make(Deep, root)
    with refused(ValueError, 'deep', 'uint8', 'uint16'):
        load('deep', root)
    make(Text, root)
    with refused(ValueError, 'words', "'image'", 'id'):
        load('words', root)


def test_tfrecord_is_refused_with_what_converts_it(root, refused):
    folder = make(Tiny, root)
    info = json.loads((folder / 'dataset_info.json').read_text())
    (folder / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': 'tfrecord'}))
    command = f'tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record'
    with refused(ValueError, 'cifar10', 'tfrecord', 'tensorflow', command):
        load('cifar10', root)
    converted = {'fileFormat': 'tfrecord', 'alternativeFileFormats': ['array_record']}
    (folder / 'dataset_info.json').write_text(json.dumps(info | converted))
    assert len(load('cifar10', root).source) == 8


def test_what_is_not_prepared_is_refused_with_what_prepares_it(root, refused):
    command = (
        "tfds.builder('cifar10', file_format='array_record', "
        f"data_dir='{root}').download_and_prepare()"
    )
    with refused(FileNotFoundError, 'cifar10 is not prepared', root, 'python -c', command):
        load('cifar10', root)
    with refused(FileNotFoundError, 'digits:9.9.9', root, 'digits:1.0.0'):
        load('digits:9.9.9', root)
    for name in ('emoji', 'emoji/rgba', 'mnist5k'):
        with refused(FileNotFoundError, f'jaxdiff prepare {name} --dir {root}'):
            load(name, root)


def test_an_unknown_name_is_refused_with_its_neighbours(root, refused):
    with refused(ValueError, "'digit'", root, 'digits'):
        load('digit', root)
    with refused(ValueError, "'cifar_10'", 'cifar10'):
        load('cifar_10', root)
    with refused(ValueError, "'qqqqqqqq'", 'digits', 'fashion_mnist'):
        load('qqqqqqqq', root)
    with refused(ValueError, "'emoji/grey'", 'emoji/rgb or emoji/rgba'):
        load('emoji/grey', root)
    with refused(ValueError, "'digits/8x8'", 'it must be digits'):
        load('digits/8x8', root)
    with refused(ValueError, "'a b'", 'mnist:3.0.1'):
        load('a b', root)


def test_the_fingerprint_is_of_the_examples_and_not_of_the_place(root, prepared, monkeypatch):
    first = load('digits', prepared).fingerprint
    shutil.copytree(prepared, root / 'copied')
    assert load('digits', root / 'copied').fingerprint == first
    assert load('digits', root / 'anew').fingerprint == first
    for place, change in (('a', 0), ('b', 1)):
        monkeypatch.setattr(Tiny, 'CHANGE', change)
        make(Tiny, root / place)
    assert load('cifar10', root / 'a').fingerprint != load('cifar10', root / 'b').fingerprint


def test_broken_files_are_named(root, prepared, refused):
    shutil.copytree(prepared, root / 'copied')
    (shard,) = (root / 'copied').glob('digits/*/digits-train*')
    content = bytearray(shard.read_bytes())
    content[70000] ^= 255
    shard.write_bytes(content)
    with refused(ValueError, shard.parent, 'broken'):
        load('digits', root / 'copied')
    shard.unlink()
    with refused(FileNotFoundError, shard):
        load('digits', root / 'copied')
