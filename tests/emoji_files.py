"""Small packages of emoji, as those that `jaxdiff prepare emoji` brings."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

from jaxdiff.data.emoji import Emoji

TONES = ('1F3FB', '1F3FF')
# code, name in chat programs, label, category, tags
BASES = [
    ('1F534', 'red_circle', 'red circle', 'Symbols', ['circle', 'geometric', 'red']),
    ('2764-FE0F', 'heart', 'red heart', 'Smileys & Emotion', ['143', 'emotion', 'heart', 'love']),
    ('1F434', 'horse', 'horse face', 'Animals & Nature', ['animal', 'face', 'horse']),
    ('1F40E', 'racehorse', 'horse', 'Animals & Nature', ['animal', 'racing']),
    ('1F44B', 'wave', 'waving hand', 'People & Body', ['bye', 'hello', 'hi', 'wave', 'yo']),
    ('1F3C3', 'runner', 'person running', 'People & Body', ['fast', 'marathon', 'race', 'run']),
    ('1F3C3-200D-27A1-FE0F', 'person_running_facing_right', 'person running: facing right',
     'People & Body', ['fast']),
    ('1F1F3-1F1F4', 'flag-no', 'flag: Norway', 'Flags', ['NO', 'flag']),
    ('1F1F8-1F1EF', 'flag-sj', 'flag: Svalbard', 'Flags', ['SJ', 'flag']),
    ('0035-FE0F-20E3', 'five', 'keycap: 5', 'Symbols', ['keycap']),
    ('1F48F', 'couplekiss', 'kiss', 'People & Body', ['babe', 'date', 'love']),
    *((f'1F5{i:02d}', f'clock{i}', f'clock {i}', 'Travel & Places', ['time']) for i in range(20)),
]  # fmt: skip
SAME = {'1f1f8-1f1ef.png': '1f1f3-1f1f4.png'}  # Svalbard's flag is Norway's


def picture(style: str, file: str) -> bytes:
    """A PNG of 64x64, noise of its own, its mode one of those that the packages have."""
    seed = hashlib.sha256(f'{style} {SAME.get(file, file)}'.encode()).digest()
    random = np.random.default_rng(list(seed))
    image = Image.fromarray(random.integers(0, 256, (4, 4, 4)).astype(np.uint8), 'RGBA')
    image = image.resize((64, 64), Image.Resampling.NEAREST)
    mode = ('RGBA', 'LA', 'P')[seed[0] % 3]
    content = io.BytesIO()
    (image.quantize(200) if mode == 'P' else image.convert(mode)).save(content, 'PNG')
    return content.getvalue()


def tables() -> tuple[list[dict], list[dict]]:
    """(emoji.json, emojibase-data's en/data.json)."""
    emoji, words = [], []
    for code, short, label, category, tags in BASES:
        emoji.append(_one(code) | {'short_name': short, 'category': category})
        words.append({'label': label, 'hexcode': code.replace('-FE0F', ''), 'tags': tags})
        if short in ('wave', 'runner', 'person_running_facing_right'):
            tones = {tone: (f'{label}: {_tone(tone)}', code.split('-')) for tone in TONES}
        elif short == 'couplekiss':
            both = ', '.join(map(_tone, TONES))
            tones = {'-'.join(TONES): (f'kiss: person, person, {both}', [code])}
        else:
            continue
        variations = emoji[-1]['skin_variations'] = {}
        words[-1]['skins'] = skins = []
        for tone, (name, (first, *rest)) in tones.items():
            variations[tone] = _one('-'.join([first, tone, *rest]))
            skins.append({'label': name, 'hexcode': '-'.join([first, tone, *rest])})
    return emoji, words


def _one(code):
    return {'unified': code, 'image': f'{code.lower()}.png'}


def _tone(code):
    return {'1F3FB': 'light skin tone', '1F3FF': 'dark skin tone'}[code]


def write(folder, monkeypatch) -> None:
    """Writes the three packages, and has them be the published ones."""
    emoji, words = tables()
    files = [one['image'] for base in emoji for one in _variations(base)]
    packages = []
    for package, style in zip(Emoji.PACKAGES, ('twitter', 'google', None)):
        content = {'LICENSE': f'of {package.name}'.encode()}
        if style:
            content['emoji.json'] = json.dumps(emoji).encode()
            content |= {f'img/{style}/64/{file}': picture(style, file) for file in files}
            content[f'img/{style}/sheets/64.png'] = b'passed over'
        else:
            content['en/data.json'] = json.dumps(words).encode()
        with tarfile.open(folder / package.file, 'w:gz') as archive:
            for name, data in content.items():
                member = tarfile.TarInfo(f'package/{name}')
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        packages.append(published(package, folder))
    monkeypatch.setattr(Emoji, 'PACKAGES', tuple(packages))


def published(package, folder):
    """The package, if the file in the folder were the one that was published."""
    digest = hashlib.sha512((folder / package.file).read_bytes()).digest()
    return package._replace(sha512=base64.b64encode(digest).decode())


def write_wheel(folder, package, content: dict[str, bytes]):
    """Writes a wheel; returns the package as published so."""
    with zipfile.ZipFile(folder / package.file, 'w') as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return published(package, folder)


def _variations(base):
    return [base, *base.get('skin_variations', {}).values()]
