"""The README's figures for the digits, measured again as it says."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(*command):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': str(ROOT)},  # the checkout, installed or not
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_digits(tmp_path, monkeypatch):
    monkeypatch.delenv('XLA_FLAGS')  # as a user: one device a core
    run('-m', 'jaxdiff', 'train', '--config', 'digits', '--workdir', tmp_path / 'run')
    files = [tmp_path / f'{seed}.npz' for seed in range(3)]
    for seed, file in enumerate(files):
        options = ['--num', 500, '--steps', 50, '--sampler', 'ddim', '--batch-size', 250]
        run('-m', 'jaxdiff', 'sample', '--workdir', tmp_path / 'run', '--seed', seed,
            '--out', file.with_suffix(''), *options)  # fmt: skip
    lines = run('experiments/quality.py', 'digits', *files).splitlines()[-3:]
    for line in lines:
        sure, agreement, least, most = map(float, re.findall(r'\d\.\d{3}', line))
        assert sure >= 0.85 and agreement >= 0.9, line
        assert 0.04 <= least and most <= 0.18, line
