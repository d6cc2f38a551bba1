"""The commit that is noted: of a checkout, and of what was installed from one."""

import json
import os
import shutil
import subprocess

import pytest

from jaxdiff import manifest

pytestmark = pytest.mark.skipif(not shutil.which('git'), reason='no git')
ID = 'a4cb9c0bb127b2511d881a7ab2e77239561f71da'


def commit():
    return manifest.commit.__wrapped__()  # as it is now


def git(folder, *asked):
    """In that folder, whatever the environment and the user's settings say."""
    who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    environment = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
    environment |= {'GIT_CONFIG_GLOBAL': os.devnull, 'GIT_CONFIG_SYSTEM': os.devnull}
    how = {'capture_output': True, 'text': True, 'check': True, 'env': environment}
    return subprocess.run(['git', '-C', folder, *who, *asked], **how).stdout.strip()


def package(folder):
    (folder / 'jaxdiff').mkdir(parents=True)
    for name in ('manifest.py', 'cli.py'):
        (folder / 'jaxdiff' / name).write_text(f'# {name}\n')
    return folder


@pytest.fixture
def checkout(tmp_path):
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
    monkeypatch.setenv('GIT_DIR', '/nowhere')  # of another repository, as within its hook
    head = git(checkout, 'rev-parse', 'HEAD')
    assert len(head) == 40 and commit() == head
    (checkout / 'notes').write_text('of no matter')
    assert commit() == head
    (checkout / 'jaxdiff' / 'new.py').write_text('# more')
    assert commit() == f'{head}+'
    (checkout / 'jaxdiff' / 'new.py').unlink()
    (checkout / 'jaxdiff' / 'cli.py').write_text('# changed')
    assert commit() == f'{head}+'


def test_a_checkout_within_another_repository(tmp_path, monkeypatch):
    folder = package(tmp_path / 'larger' / 'within')
    git(folder.parent, 'init', '-q')
    git(folder.parent, 'add', '.')
    git(folder.parent, 'commit', '-qm', 'all')
    monkeypatch.setattr(manifest, '__file__', str(folder / 'jaxdiff' / 'manifest.py'))
    head = git(folder, 'rev-parse', 'HEAD')
    assert commit() == head
    (folder / 'jaxdiff' / 'cli.py').write_text('# changed')
    assert commit() == f'{head}+'


def test_that_of_an_installed_folder_is_its_checkouts(checkout, site):
    assert commit() is None  # of a wheel from somewhere
    origin(site, checkout.as_uri(), dir_info={})
    head, index = git(checkout, 'rev-parse', 'HEAD'), (checkout / '.git' / 'index').read_bytes()
    (site / 'jaxdiff' / 'configs').mkdir()
    (site / 'jaxdiff' / 'configs' / 'digits.py').write_text('# where setup.cfg puts it')
    assert commit() == head
    (checkout / 'jaxdiff' / 'cli.py').write_text('# changed since')
    assert commit() == head  # which is not what runs
    assert (checkout / '.git' / 'index').read_bytes() == index  # it was only looked at
    git(checkout, 'commit', '-qam', 'more')
    assert commit() == git(checkout, 'rev-parse', 'HEAD') + '+'
    shutil.rmtree(checkout / '.git')
    assert commit() is None


def test_that_of_an_installed_repository_is_the_one_pip_fetched(site, tmp_path, monkeypatch):
    fetched = {'vcs': 'git', 'commit_id': ID}
    origin(site, 'https://github.com/someone/jaxdiff', vcs_info=fetched)
    assert commit() == ID
    elsewhere = package(tmp_path / 'elsewhere') / 'jaxdiff' / 'manifest.py'
    monkeypatch.setattr(manifest, '__file__', str(elsewhere))
    assert commit() is None  # of other code than was installed


def test_that_of_a_file_from_elsewhere_is_not_known(site):
    origin(site, 'https://example.org/jaxdiff-0.1.0-py3-none-any.whl', archive_info={})
    assert commit() is None
