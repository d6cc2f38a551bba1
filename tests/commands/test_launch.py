"""`jaxdiff launch` as real processes with real signals; the jobs are small programs without JAX."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []

LAUNCH = """
import json, sys
from jaxdiff.commands import launch
launch._PATIENCE = 2
assert 'jax' not in sys.modules
sys.exit(launch.run(**json.loads(sys.argv[1])))
"""

# What every program begins with: its number `me`, `tries`, how often it was started, and a meeting.
HEAD = """
import json, os, pathlib, signal, sys, time
flags = dict(zip(sys.argv[-6::2], sys.argv[-5::2]))
me = int(flags['--process_id'])
with open(f'tries.{me}', 'a') as file:
    file.write(f'{os.getpid()}\\n')
def tried(i):
    path = pathlib.Path(f'tries.{i}')
    return path.exists() and path.read_text().count('\\n')
tries = tried(me)
while any(tried(i) < tries for i in range(int(flags['--num_processes']))):
    time.sleep(0.01)
"""


@pytest.fixture
def start(tmp_path):
    """Starts the launcher on a program; it works in `tmp_path`."""
    launchers = []

    def start(program, processes=2, restarts=3, arguments=(), **environment):
        (tmp_path / 'program.py').write_text(HEAD + program)
        for old in tmp_path.glob('tries.*'):
            old.unlink()
        call = {
            'arguments': list(arguments),
            'processes': processes,
            'restarts': restarts,
            'program': [sys.executable, 'program.py'],
        }
        kept = {k: v for k, v in (os.environ | environment).items() if v is not None}
        launchers.append(
            subprocess.Popen(
                [sys.executable, '-c', LAUNCH, json.dumps(call)],
                cwd=tmp_path,
                env=kept | {'PYTHONPATH': str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        )
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.wait()


@pytest.fixture
def finish(start):
    """Runs it to its end: (exit code, stdout, stderr)."""

    def finish(*args, **kwargs):
        launcher = start(*args, **kwargs)
        stdout, stderr = launcher.communicate(timeout=30)
        return launcher.returncode, stdout, stderr

    return finish


def pids(folder, processes=2):
    """The pids of each try, [processes][tries]."""
    files = [folder / f'tries.{i}' for i in range(processes)]
    return [[int(pid) for pid in file.read_text().split()] for file in files]


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    """Whether it runs; a process that is dead and not yet reaped by init doesn't."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


TELL = """
seen = {'argv': sys.argv[1:], 'gpu': os.environ.get('CUDA_VISIBLE_DEVICES')}
if hasattr(os, 'sched_getaffinity'):
    seen['cores'] = sorted(os.sched_getaffinity(0))
pathlib.Path(f'seen.{me}').write_text(json.dumps(seen))
"""


def seen(folder, processes):
    return [json.loads((folder / f'seen.{i}').read_text()) for i in range(processes)]


def test_each_process_is_told_its_place(finish, tmp_path):
    code, _, stderr = finish(TELL, processes=2, arguments=['train', '--config', 'digits'])
    assert code == 0, stderr
    told = [process['argv'] for process in seen(tmp_path, 2)]
    addresses = set()
    for i, argv in enumerate(told):
        assert argv[:4] == ['train', '--config', 'digits', '--coordinator']
        assert argv[5:] == ['--num_processes', '2', '--process_id', str(i)]
        addresses.add(argv[4])
    (address,) = addresses
    host, port = address.split(':')
    assert host == '127.0.0.1' and 0 < int(port) < 2**16


@pytest.mark.skipif(not CORES, reason='no CPU affinity here')
@pytest.mark.parametrize('processes', sorted({1, 2, len(CORES) + 1}))
def test_cores_are_dealt_evenly(finish, tmp_path, processes):
    assert finish(TELL, processes=processes)[0] == 0
    cores = [process['cores'] for process in seen(tmp_path, processes)]
    each = max(1, len(CORES) // processes)
    assert all(len(mine) == each and set(mine) <= set(CORES) for mine in cores)
    if processes <= len(CORES):
        assert len({core for mine in cores for core in mine}) == each * processes


def test_gpus_are_dealt_one_each(finish, tmp_path):
    smi = tmp_path / 'nvidia-smi'
    smi.write_text('#!/bin/sh\necho "GPU 0: A (UUID: GPU-1)"\necho "GPU 1: A (UUID: GPU-2)"\n')
    smi.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    found = {'PATH': path, 'JAX_PLATFORMS': None, 'CUDA_VISIBLE_DEVICES': None}

    def gpus(processes, **environment):
        code, _, stderr = finish(TELL, processes, **(found | environment))
        assert code == 0, stderr
        return [process['gpu'] for process in seen(tmp_path, processes)]

    assert gpus(2) == ['0', '1']
    assert gpus(1, CUDA_VISIBLE_DEVICES='5,3') == ['5']
    assert gpus(2, CUDA_VISIBLE_DEVICES='5,GPU-3') == ['5', 'GPU-3']
    assert gpus(3, JAX_PLATFORMS='cpu') == [None] * 3
    assert gpus(3, CUDA_VISIBLE_DEVICES='') == [''] * 3
    code, _, stderr = finish(TELL, 3, **found)
    assert code == 1 and 'ValueError: -n 3: this machine has 2 GPU(s)' in stderr


def test_the_terminal_shows_process_0(finish):
    code, stdout, stderr = finish("print(f'out {me}'); print(f'err {me}', file=sys.stderr)")
    assert (code, stdout, stderr) == (0, 'out 0\n', 'err 0\n')


def test_one_may_end_well_before_the_others(finish, tmp_path):
    code, _, stderr = finish('time.sleep(0.5 * me)', processes=3)
    assert (code, stderr) == (0, '')
    assert [len(tried) for tried in pids(tmp_path, 3)] == [1, 1, 1]


@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_restarts_the_job(finish, tmp_path, victim):
    # The survivor hangs, as in a collective operation, and ignores what is polite.
    hang = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if tries == 1:
    if me == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""
    start = time.monotonic()
    code, _, stderr = finish(hang)
    assert code == 0, stderr
    assert time.monotonic() - start < 20
    assert stderr.count('\n') == 1
    assert f'process {victim} died of SIGKILL; starting the job again (1 of 3)' in stderr
    tried = pids(tmp_path)
    assert [len(mine) for mine in tried] == [2, 2]
    assert not any(alive(pid) for mine in tried for pid in mine)


def test_restarts_are_bounded(finish, tmp_path):
    program = "print(f'reason {tries}'); time.sleep(me); sys.exit(me)"
    code, stdout, stderr = finish(program, restarts=2)
    assert code == 1
    assert [len(mine) for mine in pids(tmp_path)] == [3, 3]
    for attempt in (1, 2, 3):
        assert f'[process 1] reason {attempt}\n' in stderr
    assert 'process 1 ended with code 1; giving up after 2 restart(s)' in stderr
    assert stdout.count('reason') == 3


@pytest.mark.parametrize(
    'code, other',
    [(2, 'sys.exit(2)'), (3, 'sys.exit(3)'), (2, 'os.abort()'), (3, 'time.sleep(60)')],
)
def test_what_another_try_cannot_help_is_not_restarted(finish, tmp_path, code, other):
    program = f"""
if me == 1:
    print('what is wrong')
    sys.exit({code})
if {'abort' in other}:  # as one that notices that another is gone
    try:
        while True:
            os.kill(int(pathlib.Path('tries.1').read_text()), 0)
            time.sleep(0.01)
    except ProcessLookupError:
        pass
{other}
"""
    got, _, stderr = finish(program)
    assert got == code
    assert [len(mine) for mine in pids(tmp_path)] == [1, 1]
    # Unless process 0 has told the user already.
    assert ('[process 1] what is wrong' in stderr) == ('exit' not in other)
    assert 'again' not in stderr


COUNT = """
got = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: got.append(number))
pathlib.Path(f'ready.{me}').touch()
while not got:
    time.sleep(0.01)
time.sleep(0.3)
pathlib.Path(f'got.{me}').write_text(json.dumps(got))
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on_once(start, tmp_path, number):
    launcher = start(COUNT)
    wait_for(lambda: all((tmp_path / f'ready.{i}').exists() for i in range(2)))
    os.killpg(launcher.pid, number)  # as a terminal does
    assert launcher.wait(timeout=20) == 0
    assert [json.loads((tmp_path / f'got.{i}').read_text()) for i in range(2)] == [[number]] * 2
    assert [len(mine) for mine in pids(tmp_path)] == [1, 1]


def test_what_a_signal_ended_is_not_started_again(start, tmp_path):
    launcher = start("pathlib.Path(f'ready.{me}').touch(); time.sleep(60)")
    wait_for(lambda: all((tmp_path / f'ready.{i}').exists() for i in range(2)))
    launcher.terminate()
    assert launcher.wait(timeout=20) == 128 + signal.SIGTERM
    assert [len(mine) for mine in pids(tmp_path)] == [1, 1]


def test_a_second_interrupt_kills(start, tmp_path):
    program = "signal.signal(signal.SIGINT, lambda *_: pathlib.Path(f'got.{me}').touch())\n"
    launcher = start(program + "pathlib.Path(f'ready.{me}').touch()\nwhile True: time.sleep(1)")
    for mark in ('ready', 'got'):
        wait_for(lambda: all((tmp_path / f'{mark}.{i}').exists() for i in range(2)))
        launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=20) != 0
    assert not any(alive(pid) for mine in pids(tmp_path) for pid in mine)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells children of such a death')
def test_no_process_outlives_a_killed_launcher(start, tmp_path):
    launcher = start("pathlib.Path(f'ready.{me}').touch(); time.sleep(60)")
    wait_for(lambda: all((tmp_path / f'ready.{i}').exists() for i in range(2)))
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(alive(pid) for mine in pids(tmp_path) for pid in mine))
