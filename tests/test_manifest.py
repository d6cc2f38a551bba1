"""The commit that is noted: of a checkout, and of what was installed from one."""

import json
import shutil
import subprocess

import pytest

from jaxdiff import manifest

ID = 'a4cb9c0bb127b2511d881a7ab2e77239561f71da'


def git(folder, *asked):
    who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    done = subprocess.run(
        ['git', '-C', folder, *who, *asked], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def package(folder):
    (folder / 'jaxdiff').mkdir(parents=True)
    for name in ('manifest.py', 'cli.py'):
        (folder / 'jaxdiff' / name).write_text(f'# {name}\n')
    return folder


@pytest.fixture
def checkout(tmp_path):
    if not shutil.which('git'):
        pytest.skip('no git')
    folder = package(tmp_path / 'a checkout')
    (folder / 'jaxdiff' / 'README.md').write_text('which is not installed')
    git(folder, 'init', '-q')
    git(folder, 'add', '.')
    git(folder, 'commit', '-qm', 'all')
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The code as pip leaves it, within a checkout's own environment."""
    folder = package(tmp_path / 'a checkout' / '.venv' / 'site')
    about = folder / 'jaxdiff-0.1.0.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text('Metadata-Version: 2.4\nName: jaxdiff\nVersion: 0.1.0\n')
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(manifest, '__file__', str(folder / 'jaxdiff' / 'manifest.py'))
    return folder


def origin(site, url, **more):
    text = json.dumps({'url': url} | more)
    (site / 'jaxdiff-0.1.0.dist-info' / 'direct_url.json').write_text(text)


def test_a_checkouts_and_whether_it_was_changed(checkout, monkeypatch):
    monkeypatch.setattr(manifest, '__file__', str(checkout / 'jaxdiff' / 'manifest.py'))
    head = git(checkout, 'rev-parse', 'HEAD')
    assert len(head) == 40 and manifest.commit() == head
    (checkout / 'notes').write_text('of no matter')
    assert manifest.commit() == head
    (checkout / 'jaxdiff' / 'cli.py').write_text('# changed')
    assert manifest.commit() == f'{head}+'


def test_that_of_an_installed_folder_is_its_checkouts(checkout, site):
    assert manifest.commit() is None  # of a wheel from somewhere
    origin(site, checkout.as_uri(), dir_info={})
    head = git(checkout, 'rev-parse', 'HEAD')
    assert manifest.commit() == head
    (checkout / 'jaxdiff' / 'cli.py').write_text('# changed since')
    assert manifest.commit() == head  # which is not what runs
    git(checkout, 'commit', '-qam', 'more')
    assert manifest.commit() == git(checkout, 'rev-parse', 'HEAD') + '+'
    status = git(checkout, 'status', '--porcelain', '--untracked-files=no')
    assert not status  # it was only looked at
    shutil.rmtree(checkout / '.git')
    assert manifest.commit() is None


def test_that_of_an_installed_repository_is_the_one_pip_fetched(site):
    fetched = {'vcs': 'git', 'commit_id': ID}
    origin(site, 'https://github.com/someone/jaxdiff', vcs_info=fetched)
    assert manifest.commit() == ID


def test_that_of_a_file_from_elsewhere_is_not_known(site):
    origin(site, 'https://example.org/jaxdiff-0.1.0-py3-none-any.whl', archive_info={})
    assert manifest.commit() is None
