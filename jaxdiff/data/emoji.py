"""Emoji with captions as a TFDS data set, from two packages of pictures and one of words."""

import hashlib
import io
import json
from collections.abc import Iterable

import tensorflow_datasets as tfds

from jaxdiff.data import image, packages
from jaxdiff.data.digits import png
from jaxdiff.data.emoji_captions import captions, drawn

STYLES = ('twitter', 'google')
CATEGORIES = (
    'Smileys & Emotion',
    'People & Body',
    'Component',
    'Animals & Nature',
    'Food & Drink',
    'Travel & Places',
    'Activities',
    'Objects',
    'Symbols',
    'Flags',
)
PACKAGES = (  # with the digests that `npm view NAME@VERSION dist.integrity` shows
    packages.Package(
        'npm',
        'emoji-datasource-twitter',
        '16.0.0',
        'emoji-datasource-twitter-16.0.0.tgz',
        '7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==',
        ('package/LICENSE',),
    ),
    packages.Package(
        'npm',
        'emoji-datasource-google',
        '16.0.0',
        'emoji-datasource-google-16.0.0.tgz',
        'ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==',
        ('package/LICENSE',),
    ),
    packages.Package(
        'npm',
        'emojibase-data',
        '17.0.0',
        'emojibase-data-17.0.0.tgz',
        'Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==',
        ('package/LICENSE',),
    ),
)


class Emoji(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Emoji 16.0 of 64x64 pixels in two styles, Twitter's and Google's, each with two to six captions.

    On white ('emoji', or 'emoji/rgb'), or with their transparency ('emoji/rgba'); 'emoji/plain' is on
    white and without the variations in skin tone, which are most of the others; 'emoji/twitter' has
    of these the style of Twitter, one picture of a name. Classes are the categories. About a tenth of
    the concepts is in 'test': both styles, all skin tones and the mirror image of an emoji are one
    concept, and so are emoji that share a picture. So no caption and no picture of 'test' is in
    'train', which has most of the words, in other combinations.
    """

    VERSION = tfds.core.Version('1.0.0')
    LEVELS = 256
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name='rgb', description='on white'),
        tfds.core.BuilderConfig(name='rgba', description='with transparency'),
        tfds.core.BuilderConfig(name='plain', description='on white, without skin tones'),
        tfds.core.BuilderConfig(name='twitter', description='of plain, the style of Twitter'),
    ]
    PACKAGES = PACKAGES
    ATTRIBUTION = """\
Pictures in the style 'twitter': Twemoji, copyright Twitter, Inc and other contributors, CC-BY-4.0 \
(https://creativecommons.org/licenses/by/4.0/); drawn in 64x64 by emoji-datasource-twitter 16.0.0
Pictures in the style 'google': Noto Emoji, copyright Google LLC, Apache-2.0 \
(https://www.apache.org/licenses/LICENSE-2.0); drawn in 64x64 by emoji-datasource-google 16.0.0
Names and categories: emoji-data (emoji-datasource), copyright 2013 Cal Henderson, MIT licence
Labels and tags: emojibase-data 17.0.0, copyright 2017-2019 Miles Johnson, MIT licence
Changed here: pictures of 'rgb' are laid on white; captions are put together from names and tags"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'run jaxdiff prepare emoji'

    def _info(self):
        channels = self._channels()
        features = {
            'image': tfds.features.Image(shape=(64, 64, channels)),
            'label': tfds.features.ClassLabel(names=CATEGORIES),
            'captions': tfds.features.Sequence(tfds.features.Text()),
            'style': tfds.features.ClassLabel(names=STYLES),
            'concept': tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            homepage='https://github.com/iamcal/emoji-data',
            license=self.ATTRIBUTION,
        )

    def _channels(self):
        return 4 if self.builder_config.name == 'rgba' else 3

    def _split_generators(self, dl_manager):
        *styles, words = [
            packages.check(package, dl_manager.manual_dir) for package in self.PACKAGES
        ]
        pictures = {style: _pictures(file, style) for style, file in zip(STYLES, styles)}
        all_drawn = list(drawn(_json(styles[0], 'emoji.json'), _json(words, 'en/data.json')))
        same = merge(
            (one.concept, image.decode(io.BytesIO(files[one.file]), 3).tobytes())
            for files in pictures.values()
            for one in all_drawn
        )
        splits = {'train': [], 'test': []}
        for one in all_drawn:
            if one.toned and self.builder_config.name in ('plain', 'twitter'):
                continue
            one = one._replace(concept=same[one.concept])
            splits['test' if held_out(one.concept) else 'train'].append(one)
        return {
            split: self._generate_examples(pictures, members) for split, members in splits.items()
        }

    def _generate_examples(self, pictures, members):
        channels = self._channels()
        if self.builder_config.name == 'twitter':
            pictures = {'twitter': pictures['twitter']}
        for style, files in pictures.items():
            for one in members:
                pixels = image.decode(io.BytesIO(files[one.file]), channels)
                yield (
                    f'{style}/{one.file}',
                    {
                        'image': png(pixels),
                        'label': one.category,
                        'captions': list(captions(one, style)),
                        'style': style,
                        'concept': one.concept,
                    },
                )


def merge(pictures: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Makes concepts that share a picture one, of pairs (concept, picture).

    Returns: of each concept, the alphabetically first one among those it is one with.
    """
    parent, owner = {}, {}

    def first(concept):
        while parent.setdefault(concept, concept) != concept:
            concept = parent[concept]
        return concept

    for concept, picture in pictures:
        one, other = sorted((first(concept), first(owner.setdefault(picture, concept))))
        parent[other] = one
    return {concept: first(concept) for concept in parent}


def held_out(concept: str) -> bool:
    """Whether a concept is in 'test': one in ten, by SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(concept.encode()).digest()[:8]) % 10 == 0


def _pictures(file, style):
    folder = f'package/img/{style}/64/'
    found = packages.members(file, lambda name: name.startswith(folder))
    return {name.removeprefix(folder): content for name, content in found.items()}


def _json(file, name):
    (content,) = packages.members(file, f'package/{name}'.__eq__).values()
    return json.loads(content)
