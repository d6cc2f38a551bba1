"""Training runs as a user starts them: by the command line, in real processes."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import jax
import numpy as np
import tiny

from jaxdiff import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
STATE = ('params', 'ema', 'profiles', 'optimizer', 'health')


def arguments(workdir, *flags, **changes):
    """The arguments of `jaxdiff train` for a tiny run whose number of steps may be raised."""
    given = tiny.flags(optimizer__decay='constant', **changes)
    return ['train', '--config', 'digits', '--workdir', str(workdir), *flags, *given]


def here(*arguments):
    """Runs the command line in this process: its exit code."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code
    return 0


def start(*arguments, program=('-m', 'jaxdiff'), before=(), environment=None, **popen):
    """Starts `python -m jaxdiff`, or another program; `before` is a command to start it by."""
    return subprocess.Popen(
        [*before, sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def finish(*arguments, **options):
    """Runs it to its end: (exit code, stdout, stderr)."""
    return end(start(*arguments, **options))


def succeed(*arguments, **options):
    """Runs it to its good end: stderr."""
    code, _, stderr = finish(*arguments, **options)
    assert code == 0, stderr
    return stderr


def end(process):
    """Waits for a process: (exit code, stdout, stderr)."""
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def wait_for(condition, process):
    """Waits while a process runs; AssertionError with what it wrote where it ends before."""
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def children(pid):
    """{--process_id: pid} of a launcher's processes."""
    found = {}
    for status in pathlib.Path('/proc').glob('[0-9]*/stat'):
        try:
            parent = int(status.read_text().rpartition(')')[2].split()[1])
            command = (status.parent / 'cmdline').read_text()
        except OSError:  # it has just ended
            continue
        if parent == pid and (number := re.search('--process_id\0(\\d+)', command)):
            found[int(number[1])] = int(status.parent.name)
    return found


def done(workdir):
    """How many steps have a record in the run's log."""
    path = workdir / 'metrics.jsonl'
    return path.read_bytes().count(b'\n') if path.exists() else 0


def curve(workdir, name='loss'):
    """[(step, value)] of a run's log."""
    records = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [(record['step'], record[name]) for record in records]


def steps_in(workdir, kind='checkpoints'):
    """The steps of the run's checkpoints."""
    return sorted(int(p.name) for p in (workdir / kind).iterdir() if p.name.isdecimal())


def assert_same_end(one, other):
    """Two runs ended bit for bit the same, and so did their curves."""
    (step, whole), (again, broken) = tiny.newest(one), tiny.newest(other)
    assert step == again
    for item in STATE:
        assert (item in whole) == (item in broken)
        if item in whole:
            jax.tree.map(np.testing.assert_array_equal, whole[item], broken[item])
    assert curve(one) == curve(other)
    assert [s for s, _ in curve(other)] == list(range(1, step + 1))


def norm(items):
    """Of all real numbers of a state as `tiny.newest` reads it."""
    leaves = (
        np.asarray(x, np.float64)
        for item in ('params', 'ema', 'optimizer')
        for x in jax.tree.leaves(items[item])
        if np.issubdtype(x.dtype, np.floating)
    )
    return float(np.sqrt(sum(np.sum(x**2) for x in leaves)))


def apart(one, other):
    """The distance of two states, each as `tiny.newest` reads it."""
    items = ('params', 'ema', 'optimizer')
    return norm({i: jax.tree.map(np.subtract, one[i], other[i]) for i in items})
