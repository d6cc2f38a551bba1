"""What pip installs, from a copy of the checkout: a wheel and an editable install."""

import pathlib
import shutil
import subprocess
import sys

import absl
import ml_collections
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHECK = """
import importlib.util, pathlib
import jaxdiff.configs, jaxdiff.config
assert jaxdiff.config.load('digits').data.name == 'digits'
assert importlib.util.find_spec('configs') is None, 'a global package configs'
print(pathlib.Path(jaxdiff.configs.__path__[0]).resolve())
"""


def run(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def checkout(tmp_path):
    """A copy, so that nothing is built in the real one."""
    target = tmp_path / 'checkout'
    target.mkdir()
    for name in ('jaxdiff', 'configs'):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture
def python(tmp_path):
    """A new environment with what reading a config needs, and nothing else."""
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv'], check=True)
    (site,) = (tmp_path / 'venv').glob('lib/python*/site-packages')
    for module in (absl, ml_collections, yaml):
        folder = pathlib.Path(module.__path__[0])
        (site / folder.name).symlink_to(folder)
    return tmp_path / 'venv' / 'bin' / 'python'


@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_configs_belong_to_the_package(kind, checkout, python, tmp_path):
    build = f'from setuptools import build_meta; build_meta.build_{kind}({str(tmp_path)!r})'
    run(sys.executable, '-c', build, cwd=checkout)  # as pip does, without a network
    (wheel,) = tmp_path.glob('*.whl')
    run(
        sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', wheel, cwd=tmp_path
    )
    done = subprocess.run([python, '-c', CHECK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = checkout / 'configs' if kind == 'editable' else python.parents[1]
    assert pathlib.Path(done.stdout.strip()).is_relative_to(expected)
    assert (python.parent / 'jaxdiff').exists()  # the command


def test_every_room_is_packaged(checkout):
    """setup.cfg lists the packages: none may be missing."""
    listed = (ROOT / 'setup.cfg').read_text().split()
    for path in (ROOT / 'jaxdiff').rglob('__init__.py'):
        assert '.'.join(path.parent.relative_to(ROOT).parts) in listed


def test_a_checkout_works_without_an_installation(checkout, python):
    done = subprocess.run([python, '-c', CHECK], cwd=checkout, capture_output=True, text=True)
    assert 'global package configs' in done.stderr  # only since `configs` lies in this folder
    alone = CHECK.replace("assert importlib.util.find_spec('configs') is None", 'assert True')
    done = subprocess.run([python, '-c', alone], cwd=checkout, capture_output=True, text=True)
    assert pathlib.Path(done.stdout.strip()) == checkout / 'configs', done.stderr
