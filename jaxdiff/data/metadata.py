"""What metadata.jsonl or metadata.csv says of the images in a folder.

The convention is that of Hugging Face's imagefolder: a line for each image, with its path in
`file_name`, its caption in `text` and its class in `label`.
"""

import csv
import json
import posixpath
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

NAMES = ('metadata.jsonl', 'metadata.csv')
CLASSES = 2**16


class Metadata(NamedTuple):
    """Of each file, in the order of the files; () where the column is missing."""

    texts: tuple[str | tuple[str, ...], ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]


def find(root: Path) -> Path | None:
    """The folder's file of metadata, where it has one; ValueError where it has two."""
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise ValueError(f'{root} must have one of {" and ".join(NAMES)}, it has both')
    return found[0] if found else None


def read(file: Path, images: Collection[str]) -> Metadata:
    """The captions and labels of the images.

    `text` is a string, in .jsonl also a list of some: captions of one image. `label` is a whole
    number from 0 on, which then is the class's name too, or a name; names are numbered in their
    alphabetical order. Other columns are passed over.

    Args:
      images: their paths below the folder, each of which must have one line.

    Raises: ValueError, naming the line, where a line is broken, has no file_name, names a file that
      isn't there or was named before, or has other columns than the first; where an image has no
      line.
    """
    rows, columns = {}, None
    for place, row in (_csv if file.suffix == '.csv' else _jsonl)(file):
        name = row.get('file_name')
        if not isinstance(name, str) or not name:
            raise ValueError(f'{place} must have a file_name, it has {", ".join(row) or "nothing"}')
        name = posixpath.normpath(name)
        if name not in images:
            raise ValueError(
                f'{place} names {name}, which is no image in {file.parent}: put it there, or remove '
                'the line'
            )
        if name in rows:
            raise ValueError(f'{place} names {name}, which a line above does too: keep one of them')
        here = {column for column in ('text', 'label') if column in row}
        columns = here if columns is None else columns
        if here != columns or not here:
            raise ValueError(
                f'{place} must have {" and ".join(sorted(columns)) or "text or label"}, '
                f'{"as the lines above do, " * bool(columns)}it has {", ".join(row)}'
            )
        rows[name] = place, row
    for image in images:
        if image not in rows:
            raise ValueError(f'{image} has no line in {file}: add one, or remove the image')
    ordered = [rows[image] for image in images]
    texts = tuple(_text(place, row['text']) for place, row in ordered if 'text' in row)
    return Metadata(texts, *_labels([(p, row['label']) for p, row in ordered if 'label' in row]))


def _jsonl(file) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(_content(file).split('\n'), 1):
        if not line.strip():
            continue
        place = f'{file} line {number}'
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f'{place} must be a JSON object: {error}') from None
        if not isinstance(row, dict):
            raise ValueError(f'{place} must be a JSON object, it is {line.strip()[:40]}')
        yield place, row


def _csv(file) -> Iterator[tuple[str, dict]]:
    reader = csv.reader(_content(file).splitlines(keepends=True), strict=True)
    try:
        header = next(reader, [])
        for row in reader:
            place = f'{file} line {reader.line_num}'
            if row and len(row) != len(header):
                raise ValueError(
                    f'{place} must have the {len(header)} columns of the first line, it has '
                    f'{len(row)}: put quotes around what has commas'
                )
            if row:
                named = dict(zip(header, row))
                yield (
                    place,
                    named | {'label': _number(named['label'])} if 'label' in named else named,
                )
    except csv.Error as error:
        raise ValueError(f'{file} line {reader.line_num} is broken: {error}') from None


def _number(label):
    return int(label) if label.isdecimal() else label


def _content(file):
    try:
        return file.read_text('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{file} must be UTF-8: {error}') from None


def _text(place, text):
    texts = text if isinstance(text, list) else [text]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'the text of {place} must be a string or a list of some, it is {text!r}')
    return text if isinstance(text, str) else tuple(texts)


def _labels(labels):
    """(the number of each, the classes' names) of [(place, label)]."""
    kind = type(labels[0][1]) if labels else int
    for place, label in labels:
        if type(label) is not kind or kind not in (int, str) or label == '':
            raise ValueError(
                f'the label of {place} must be a number or a name, like all others, it is {label!r}'
            )
        if kind is int and not 0 <= label < CLASSES:
            raise ValueError(
                f'the label of {place} must lie between 0 and {CLASSES - 1}, it is {label}'
            )
    values = [label for _, label in labels]
    if kind is int:
        return tuple(values), tuple(map(str, range(max(values, default=-1) + 1)))
    names = sorted(set(values))
    number = {name: i for i, name in enumerate(names)}
    return tuple(number[name] for name in values), tuple(names)
