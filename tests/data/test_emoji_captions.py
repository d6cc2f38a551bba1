import emoji_files
import pytest

from jaxdiff.data.emoji_captions import LONG, captions, drawn


@pytest.fixture(scope='module')
def everything():
    """Each emoji by its picture's file."""
    return {one.file: one for one in drawn(*emoji_files.tables())}


def test_the_captions_of_a_circle(everything):
    assert captions(everything['1f534.png'], 'twitter') == (
        'red circle',
        'red circle, twitter style',
        'red circle, geometric',
        'a drawing of red circle, twitter style',
    )


def test_a_skin_tone_is_a_variation_of_its_emoji(everything):
    wave = everything['1f44b-1f3ff.png']
    assert wave.concept == 'waving hand' and wave.category == 'People & Body'
    assert captions(wave, 'google') == (
        'waving hand, dark skin tone',
        'waving hand, dark skin tone, google style',
        'wave, dark skin tone',
        'wave, dark skin tone, google style',
        'waving hand, dark skin tone, bye, hello, hi',
        'a drawing of waving hand, dark skin tone, yo, google style',
    )


def test_two_skin_tones_are_both_named(everything):
    kiss = everything['1f48f-1f3fb-1f3ff.png']
    assert kiss.name == 'kiss, person, person, light and dark skin tones'
    assert kiss.alias == 'couplekiss, light and dark skin tones' and kiss.concept == 'kiss'


def test_a_mirror_image_is_its_emojis_concept(everything):
    right = everything['1f3c3-1f3fb-200d-27a1-fe0f.png']
    assert right.name == 'person running, facing right, light skin tone'
    assert right.concept == 'person running'


def test_labels_become_words(everything):
    assert captions(everything['1f1f3-1f1f4.png'], 'twitter')[::2] == (
        'flag of Norway',
        'Norway flag',
        'a drawing of flag of Norway, twitter style',
    )
    assert everything['0035-fe0f-20e3.png'].name == 'keycap 5'
    assert everything['2764-fe0f.png'].tags == ('emotion', 'love')


def test_a_caption_is_of_one_emoji_alone(everything):
    """Chat programs call the horse's face a horse, which is another emoji's name."""
    assert everything['1f434.png'].alias == ''
    owner = {}
    for one in everything.values():
        for caption in captions(one, 'twitter'):
            assert owner.setdefault(caption, one.name) == one.name


def test_captions_are_distinct_and_short_beyond_their_name(everything):
    for one in everything.values():
        found = captions(one, 'google')
        assert found[0] == one.name and len(set(found)) == len(found)
        plain = [f'{name}, google style' for name in (one.name, one.alias)]
        assert all(len(caption) <= LONG or caption in plain for caption in found[1:])
