import csv
import json

import numpy as np
import pytest

from jaxdiff import data


def load(path, **options):
    return data.load(path=str(path), **options)


def jsonl(folder, rows):
    (folder / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')


def table(folder, rows):
    with (folder / 'metadata.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(draw, tmp_path):
    """Three images, one of them in a sub-folder."""
    for name in ('a.png', 'b.png', 'sub/c.png'):
        draw(tmp_path / name)
    return tmp_path


ROWS = [
    {'file_name': 'sub/c.png', 'text': 'the "third", with é', 'label': 'dog'},
    {'file_name': 'a.png', 'text': 'the first\none', 'label': 'cat'},
    {'file_name': './b.png', 'text': '', 'label': 'dog'},
]


@pytest.mark.parametrize('write', [jsonl, table])
def test_captions_and_labels_belong_to_their_images(folder, write, draw):
    write(folder, ROWS)
    dataset = load(folder)
    assert dataset.captioned and dataset.class_names == ('cat', 'dog')
    assert dataset.shape == (4, 6, 3) and len(dataset.source) == 3
    elements = [dataset.source[i] for i in range(3)]
    assert [e['text'] for e in elements] == ['the first\none', '', 'the "third", with é']
    assert [e['label'] for e in elements] == [0, 1, 1]
    for element, name in zip(elements, ('a.png', 'b.png', 'sub/c.png')):
        assert np.array_equal(element['image'], draw(folder / name))
    assert [load(folder, image_size=4).source[i]['text'] for i in range(3)] == [
        e['text'] for e in elements
    ]


@pytest.mark.parametrize('write', [jsonl, table])
def test_whole_numbers_are_labels_as_they_are(folder, write):
    write(folder, [{'file_name': row['file_name'], 'label': 2 * i} for i, row in enumerate(ROWS)])
    dataset = load(folder)
    assert dataset.class_names == ('0', '1', '2', '3', '4') and not dataset.captioned
    assert [dataset.source[i]['label'] for i in range(3)] == [2, 4, 0]
    assert 'text' not in dataset.source[0]


def test_a_line_may_have_several_captions_and_no_label(folder):
    jsonl(folder, [{'file_name': row['file_name'], 'text': ['a', 'b']} for row in ROWS])
    dataset = load(folder)
    assert dataset.class_names == () and dataset.source[0]['text'] == ('a', 'b')
    assert dataset.source[0].keys() == {'image', 'text'}


def test_other_columns_and_empty_lines_are_passed_over(folder):
    jsonl(folder, [row | {'width': i} for i, row in enumerate(ROWS)])
    plain = (folder / 'metadata.jsonl').read_text()
    (folder / 'metadata.jsonl').write_text('\ufeff\n' + plain.replace('\n', '\n\n'))
    assert load(folder).source[0]['text'] == 'the first\none'


def test_the_fingerprint_is_of_the_captions_too(folder):
    prints = {load(folder / 'sub').fingerprint}
    for text in ('x', 'y'):
        jsonl(folder / 'sub', [{'file_name': 'c.png', 'text': text}])
        prints.add(load(folder / 'sub').fingerprint)
    assert len(prints) == 3


def change(i, **changes):
    rows = [dict(row) for row in ROWS]
    rows[i] |= changes
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


@pytest.mark.parametrize(
    'rows, words',
    [
        (change(1, file_name=None), ['metadata.jsonl line 2', 'file_name', 'text, label']),
        (change(1, file_name='z.png'), ['line 2', 'z.png', 'no image']),
        (change(1, file_name='../a.png'), ['line 2', '../a.png', 'no image']),
        (change(1, file_name='b.png'), ['line 3', 'b.png', 'above']),
        (ROWS[:2], ['b.png has no line in', 'metadata.jsonl']),
        (change(2, text=None), ['line 3', 'label and text', 'file_name, label']),
        (change(1, label=None), ['line 2', 'label and text', 'file_name, text']),
        ([{'file_name': 'a.png', 'caption': 'x'}], ['line 1', 'text or label', 'caption']),
        (change(2, label=3), ['line 3', 'label', 'like all others', '3']),
        (change(2, label=True), ['label', 'True']),
        (change(2, label=''), ['label', "''"]),
        (change(1, text=7), ['line 2', 'text', '7']),
        (change(1, text=[]), ['line 2', 'text', '[]']),
        (change(1, text=['a', None]), ['line 2', 'text', 'None']),
        ([7], ['line 1', 'JSON object', '7']),
    ],
)
def test_a_line_that_does_not_fit_is_named(folder, rows, words, refused):
    jsonl(folder, rows)
    with refused(ValueError, *words):
        load(folder)


def test_labels_have_bounds(folder, refused):
    for label in (-1, 2**16):
        jsonl(folder, [{'file_name': row['file_name'], 'label': label} for row in ROWS])
        with refused(ValueError, 'line 2', 'between 0 and 65535', label):
            load(folder)


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('metadata.jsonl', b'{"file_name": "a.png",\n', ['line 1', 'JSON object']),
        ('metadata.jsonl', b'\xff\xfe', ['metadata.jsonl', 'UTF-8']),
        ('metadata.jsonl', b'', ['a.png has no line']),
        ('metadata.csv', b'file_name,text\na.png,one, two\n', ['line 2', '2 columns', 'has 3']),
        ('metadata.csv', b'file_name,text\na.png,"one" two\n', ['line 2', 'broken']),
        ('metadata.csv', b'name,text\na.png,one\n', ['line 2', 'file_name', 'name, text']),
        ('metadata.csv', b'', ['a.png has no line']),
    ],
)
def test_a_broken_file_is_named(folder, name, content, words, refused):
    (folder / name).write_bytes(content)
    with refused(ValueError, *words):
        load(folder)


def test_two_files_of_metadata_are_refused(folder, refused):
    jsonl(folder, ROWS)
    table(folder, ROWS)
    with refused(ValueError, folder, 'metadata.jsonl', 'metadata.csv', 'both'):
        load(folder)
