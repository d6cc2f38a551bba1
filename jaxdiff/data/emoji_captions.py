"""What a person would type to get an emoji: its captions, from the tables of names and tags."""

import re
from collections.abc import Iterator
from typing import NamedTuple

TONES = {
    '1F3FB': 'light skin tone',
    '1F3FC': 'medium-light skin tone',
    '1F3FD': 'medium skin tone',
    '1F3FE': 'medium-dark skin tone',
    '1F3FF': 'dark skin tone',
}
FACING_RIGHT = '-200D-27A1-FE0F'  # ends the code of an emoji that is another one's mirror image
LONG = 64  # characters; a caption longer than its name and style is kept to them
TAGS = 3


class Drawn(NamedTuple):
    """One emoji, or one of its skin tones, which each style draws."""

    file: str  # of its picture
    concept: str  # the name of the emoji whose variation it is
    category: str
    name: str  # 'waving hand, light skin tone'
    alias: str  # as chat programs call it: 'wave, light skin tone'; '' where that is no other name
    tags: tuple[str, ...]  # more words, none of them in the name
    toned: bool = False  # whether it is a variation in skin tone


def drawn(emoji: list[dict], words: list[dict]) -> Iterator[Drawn]:
    """Every emoji and each of its skin tones.

    Args:
      emoji: emoji-datasource's emoji.json.
      words: emojibase-data's en/data.json, whose labels and tags are those of Unicode's CLDR.
    """
    known = {_code(skin): (skin, word) for word in words for skin in (word, *word.get('skins', ()))}
    names = {_name(word['label']) for word in words}
    for base in emoji:
        origin = base['unified'].removesuffix(FACING_RIGHT)
        concept = _name(known[_plain(origin)][0]['label'])
        alias = _alias(base, known[_plain(base['unified'])][0]['label'])
        if alias in names:  # chat programs call a horse's face a horse
            alias = ''
        for tones, one in {'': base, **base.get('skin_variations', {})}.items():
            skin, word = known[_plain(one['unified'])]
            name = _name(skin['label'])
            other = _name(': '.join([alias, *_tones(tones)])) if alias else ''
            tags = _tags(word, name, other)
            yield Drawn(one['image'], concept, base['category'], name, other, tags, bool(tones))


def captions(drawn: Drawn, style: str) -> tuple[str, ...]:
    """The captions of an emoji in a style such as 'twitter'; the first is its name, none is twice."""
    names = [drawn.name] + [drawn.alias] * bool(drawn.alias)
    found = [caption for name in names for caption in (name, f'{name}, {style} style')]
    found.append(_with_tags(drawn.name, drawn.tags, ''))
    drawing = _with_tags(f'a drawing of {drawn.name}', drawn.tags[TAGS:], f', {style} style')
    if len(drawing) <= LONG:
        found.append(drawing)
    return tuple(dict.fromkeys(found))


def _with_tags(name, tags, end):
    for tag in tags[:TAGS]:
        if len(name) + len(tag) + len(end) + 2 <= LONG:
            name = f'{name}, {tag}'
    return name + end


def _name(label):
    label = re.sub('[“”]', '"', label).replace('’', "'")
    label = re.sub(r'(\S+) skin tone, (\S+) skin tone', r'\1 and \2 skin tones', label)
    return label.replace('flag: ', 'flag of ').replace('keycap: ', 'keycap ').replace(': ', ', ')


def _tones(codes):
    return [', '.join(TONES[code] for code in codes.split('-'))] if codes else []


def _alias(base, label):
    if label.startswith('flag: '):
        return _name(f'{label.removeprefix("flag: ")} flag')
    word = re.fullmatch('[a-z_-]{3,}', base['short_name'])  # neither 'v' nor 'u55b6'
    return re.sub('[_-]', ' ', word[0]) if word else ''


def _tags(word, name, alias):
    used = set(re.findall(r'[\w-]+', f'{name} {alias}'.lower()))
    plain = (tag for tag in word.get('tags', ()) if tag.isalpha() and tag.islower())
    return tuple(tag for tag in plain if tag not in used)


def _code(word):
    return _plain(word['hexcode'])


def _plain(code):
    return code.replace(
        '-FE0F', ''
    )  # which asks for colour, and which the tables write or leave out
