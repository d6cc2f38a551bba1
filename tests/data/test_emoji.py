import io
import socket
from collections import defaultdict
from pathlib import Path

import emoji_files
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxdiff import data
from jaxdiff.data.emoji import Emoji, held_out, merge
from jaxdiff.data.prepare import prepare


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A data_dir in which small sets 'emoji/rgb' and 'emoji/rgba' are prepared, offline."""

    def refuse(*args, **kwargs):
        raise AssertionError('the network was asked')

    root = tmp_path_factory.mktemp('emoji')
    files = root / 'files'
    files.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, 'connect', refuse)
        emoji_files.write(files, patch)
        for place, config in (
            ('', 'rgb'),
            ('', 'rgba'),
            ('', 'plain'),
            ('', 'twitter'),
            ('again', 'rgb'),
        ):
            prepare(Emoji, root / place / 'emoji' / config / '1.0.0', config, files)
    return root


def load(root, name='emoji', **options):
    return data.load(name, data_dir=str(root), **options)


def examples(root, split):
    """All features of a split, by TFDS itself."""
    decoders = {'image': tfds.decode.SkipDecoding()}
    return tfds.builder_from_directory(root / 'emoji/rgb/1.0.0').as_data_source(
        split, decoders=decoders
    )


def test_both_styles_of_every_emoji_are_there(root):
    train, test = load(root), load(root, split='test')
    assert train.captioned and train.shape == (64, 64, 3) and len(train.class_names) == 10
    files = sum(1 + len(base.get('skin_variations', {})) for base in emoji_files.tables()[0])
    assert len(train.source) + len(test.source) == 2 * files
    element = load(root, split='train+test').source[0]
    assert element['image'].dtype == np.uint8 and all(element['text'])


def test_no_concept_caption_or_picture_is_on_both_sides(root):
    seen = defaultdict(set)
    for split in ('train', 'test'):
        for example in examples(root, split):
            concept = example['concept'].decode()
            assert held_out(concept) == (split == 'test')
            seen[split].add(concept)
            seen[split].update(text.decode() for text in example['captions'])
        source = load(root, split=split).source
        seen[split].update(source[i]['image'].tobytes() for i in range(len(source)))
    assert seen['train'] and seen['test'] and not seen['train'] & seen['test']


def test_a_concept_has_both_styles_and_all_tones_and_mirror_images(root):
    files = defaultdict(set)
    for split in ('train', 'test'):
        for example in examples(root, split):
            files[example['concept'].decode()].add((example['style'], example['captions'][0]))
    assert {style for style, _ in files['person running']} == {0, 1}
    assert len(files['person running']) == 2 * 2 * 3
    assert {name for _, name in files['flag of Norway']} == {b'flag of Norway', b'flag of Svalbard'}


def test_a_tenth_is_held_out():
    n = 5000
    share = np.mean([held_out(f'concept {i}') for i in range(n)])
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / n)


@pytest.mark.parametrize('name, mode', [('emoji', 'RGB'), ('emoji/rgba', 'RGBA')])
def test_pictures_are_those_of_their_files(root, name, mode):
    emoji, words = emoji_files.tables()
    names = {word['label']: word['hexcode'].lower() for word in words}
    source = load(root, name, split='train+test').source
    checked = set()
    for element in (source[i] for i in range(len(source))):
        code = names.get(element['text'][0])
        style = next(t for t in element['text'] if t.endswith(' style')).split()[-2]
        if not code:
            continue
        file = next(e['image'] for e in emoji if e['image'].replace('-fe0f', '') == f'{code}.png')
        raw = Image.open(io.BytesIO(emoji_files.picture(style, file)))
        checked.add(raw.mode)
        rgba = np.asarray(raw.convert('RGBA'), float)
        if mode == 'RGBA':
            assert np.array_equal(element['image'], rgba)
        else:
            alpha = rgba[..., 3:] / 255
            white = alpha * rgba[..., :3] + (1 - alpha) * 255
            assert np.abs(element['image'] - white).max() <= 1
    assert checked == {'RGBA', 'LA', 'P'}


def test_the_plain_set_is_the_others_without_skin_tones(root):
    for split in ('train', 'test'):
        plain, whole = (
            {e['text'] for e in (source[i] for i in range(len(source)))}
            for source in (
                load(root, name, split=split).source for name in ('emoji/plain', 'emoji')
            )
        )
        assert plain == {texts for texts in whole if not any('skin tone' in t for t in texts)}
        assert split == 'test' or plain < whole


def test_the_set_of_one_style_is_half_of_the_plain_one(root):
    for split in ('train', 'test'):
        one, plain = (
            load(root, name, split=split).source for name in ('emoji/twitter', 'emoji/plain')
        )
        texts = [one[i]['text'] for i in range(len(one))]
        assert 2 * len(one) == len(plain) and any('twitter style' in t for t in texts[0])
        assert not any('google style' in t for caption in texts for t in caption)
        assert len({caption[0] for caption in texts}) == len(one)


def test_preparing_twice_gives_the_same_set(root):
    assert load(root).fingerprint == load(root / 'again').fingerprint
    assert load(root).fingerprint != load(root, split='test').fingerprint
    assert load(root).fingerprint != load(root, 'emoji/rgba').fingerprint


def test_licences_stay_with_the_data(root):
    folder = root / 'emoji' / 'rgb' / '1.0.0'
    for word in ('Twemoji', 'CC-BY-4.0', 'Noto', 'Apache-2.0', 'Cal Henderson', 'Miles Johnson'):
        assert word in (folder / 'LICENSE').read_text()
        assert word in tfds.builder_from_directory(folder).info.redistribution_info.license
    kept = {file.name: file.read_text() for file in (folder / 'licences').iterdir()}
    assert kept == {f'{p.name}.LICENSE': f'of {p.name}' for p in Emoji.PACKAGES}


def test_a_package_that_was_changed_is_refused(root, tmp_path, monkeypatch, refused):
    emoji_files.write(tmp_path, monkeypatch)
    file = tmp_path / Emoji.PACKAGES[1].file
    file.write_bytes(file.read_bytes() + b'\0')
    with refused(ValueError, file, 'emoji-datasource-google', 'SHA-512'):
        prepare(Emoji, tmp_path / 'sets' / 'emoji', 'rgb', tmp_path)
    assert not list(Path(tmp_path / 'sets').iterdir())


def test_concepts_that_share_pictures_in_a_chain_are_one():
    pairs = [('d', b'1'), ('c', b'2'), ('b', b'3'), ('c', b'1'), ('b', b'2'), ('z', b'4')]
    assert merge(pairs) == {'b': 'b', 'c': 'b', 'd': 'b', 'z': 'z'}
    assert merge(reversed(pairs)) == merge(pairs)
