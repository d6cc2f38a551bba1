import subprocess

import emoji_files
import pytest

from jaxdiff import cli, data
from jaxdiff.commands import prepare
from jaxdiff.data import packages
from jaxdiff.data.emoji import Emoji


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of small packages; no client may be started."""

    def refuse(*args, **kwargs):
        raise AssertionError('a client was started')

    monkeypatch.setattr(subprocess, 'run', refuse)
    folder = tmp_path / 'files'
    folder.mkdir()
    emoji_files.write(folder, monkeypatch)
    return folder


def command(capsys, *arguments):
    """(exit code, standard output, last line of the standard error stream)."""
    code = 0
    try:
        cli.main(['prepare', *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, (said.err.splitlines() or [''])[-1]


def test_files_that_are_here_become_a_set(files, tmp_path, capsys):
    code, out, _ = command(capsys, 'emoji/rgba', '--dir', tmp_path, '--from', files)
    folder = tmp_path / 'emoji' / 'rgba' / '1.0.0'
    dataset = data.load('emoji/rgba', data_dir=str(tmp_path))
    assert code == 0 and out.startswith(f'{folder}: {len(dataset.source)} train, ')
    for licence in ('CC-BY-4.0', 'Apache-2.0', 'MIT'):
        assert licence in out
    assert dataset.shape == (64, 64, 4) and dataset.captioned


def test_what_a_client_brings_becomes_a_set_once(files, tmp_path, monkeypatch, capsys):
    def copy(wanted, place):
        for package in wanted:
            (place / package.file).write_bytes((files / package.file).read_bytes())

    monkeypatch.setattr(packages, 'bring', copy)
    monkeypatch.setattr('shutil.which', lambda name: '/bin/npm')
    first = command(capsys, 'emoji', '--dir', tmp_path)
    monkeypatch.setattr(packages, 'bring', None)
    monkeypatch.setattr('shutil.which', lambda name: None)  # is needed no more
    assert command(capsys, 'emoji', '--dir', tmp_path)[:2] == first[:2] and first[0] == 0


def test_a_set_without_packages_is_prepared_too(tmp_path, capsys):
    code, out, _ = command(capsys, 'digits', '--dir', tmp_path)
    assert code == 0 and '1442 train, 355 test' in out and 'UCI' in out
    assert len(data.load('digits', data_dir=str(tmp_path)).source) == 1442


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['emojis'], ["'emojis' cannot be prepared", 'digits, emoji, fashion_mnist, mnist5k']),
        (['emoji:9.9.9'], ["'emoji:9.9.9' cannot be prepared"]),
        (['emoji/grey'], ['emoji/rgb or emoji/rgba or emoji/plain']),
        (['emoji'], ['npm is needed', 'nodejs', '--from']),
        (['emoji', '--from', '/nowhere'], ['/nowhere must hold emoji-datasource-twitter-16.0.0']),
        (['digits', '--from', '/nowhere'], ['digits comes in no package', '--from']),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('shutil.which', lambda name: None)
    code, out, line = command(capsys, *arguments, '--dir', tmp_path)
    assert code == 2 and not out and line.startswith('jaxdiff prepare: ')
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_another_file_than_the_published_is_refused(files, tmp_path, capsys):
    file = files / Emoji.PACKAGES[2].file
    file.write_bytes(b'else')
    code, _, line = command(capsys, 'emoji', '--dir', tmp_path / 'sets', '--from', files)
    assert code == 2 and f'{file} is not emojibase-data 17.0.0' in line


def test_a_client_without_a_network_ends_with_three(files, tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, '', 'npm error code ENOTFOUND\nnpm error network\n')
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: failed)
    monkeypatch.setattr('shutil.which', lambda name: '/bin/npm')
    code, out, line = command(capsys, 'emoji', '--dir', tmp_path / 'sets')
    assert code == 3 and not out and 'npm could not bring emoji-datasource-twitter' in line
    assert 'ENOTFOUND npm error network' in line


def test_a_job_says_where_the_set_will_be(files, tmp_path):
    job = prepare.prepare('emoji', str(tmp_path), str(files))
    assert job.folder == tmp_path / 'emoji' / 'rgb' / '1.0.0' and not job.folder.exists()
