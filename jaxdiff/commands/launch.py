"""`jaxdiff launch`: a job of many processes on this machine, started again when one of them dies."""

import contextlib
import ctypes
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

# Exit codes that another try can't change: what the user gave can't work, training stopped itself.
_FINAL = {2, 3}
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TICK = 0.05  # seconds between looks at the processes
_PATIENCE = 10  # seconds for the others to end by themselves, after one has for a final reason
_TAIL = 30  # lines shown of a process that failed
_prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None


class Process(NamedTuple):
    """One process of the job."""

    popen: subprocess.Popen
    output: BinaryIO | None  # what it wrote; None for process 0, which writes to the terminal


def run(
    arguments: list[str],
    processes: int,
    restarts: int = 3,
    program: Sequence[str] = (sys.executable, '-m', 'jaxdiff'),
) -> int:
    """Runs `program` with `arguments` as a job of many processes; returns the job's exit code.

    Each process gets the flags --coordinator, --num_processes and --process_id, and its share of
    the machine: one GPU where there are NVIDIA GPUs, else an equal part of the CPU cores. The
    terminal shows process 0, and the last lines of another one that fails. When a process dies, the
    others would wait for it for ever: they are killed and the job is started again, to go on from
    its last checkpoint. SIGTERM, SIGINT and SIGHUP are passed on to all, and what then ends is not
    started again; a second SIGINT kills all.

    Args:
      restarts: how often the job is started again at most.

    Returns: 0 where all processes ended well; 2 or 3 as soon as one of them ends so, which mean
      that another try can't help; the first failed process's code after a signal; 1 where the
      restarts are used up.

    Raises: ValueError where the machine has fewer GPUs than processes.
    """
    shares = _shares(processes)
    with _signals() as received:
        for attempt in range(restarts + 1):
            job = _start([*program, *arguments], shares)
            try:
                codes = _watch(job, received)
            finally:
                _kill(job)
            failed = {i: code for i, code in enumerate(codes) if code}
            final = {i: code for i, code in failed.items() if code in _FINAL}
            if not failed:
                return 0
            told = failed.get(0) if final or received else None  # by process 0, on the terminal
            _show(job, [i for i, code in (final or failed).items() if i and code != told])
            if final or received:
                code = next(iter((final or failed).values()))
                return code if code > 0 else 128 - code  # as shells say that a signal did it
            how = ', '.join(f'process {i} {_death(code)}' for i, code in failed.items())
            if attempt < restarts:
                then = f'starting the job again ({attempt + 1} of {restarts})'
            else:
                then = f'giving up after {restarts} restart(s)'
            print(f'jaxdiff launch: {how}; {then}', file=sys.stderr, flush=True)
    return 1


def _watch(job, received):
    """Waits for all to end, or for one to fail; the exit codes, None where one still runs."""
    passed, deadline = 0, math.inf
    while True:
        codes = [process.popen.poll() for process in job]
        if any(codes):  # what has a reason ends everywhere by itself; else others may only hang
            patience = _PATIENCE if received or set(codes) & _FINAL else 0
            deadline = min(deadline, time.monotonic() + patience)
        if None not in codes or time.monotonic() >= deadline:
            return codes
        for number in received[passed:]:
            for process in job:
                process.popen.send_signal(number)
        passed = len(received)
        if received.count(signal.SIGINT) > 1:
            _kill(job)
        time.sleep(_TICK)


def _kill(job):
    for process in job:
        process.popen.kill()
    for process in job:
        process.popen.wait()


def _start(command, shares):
    with socket.socket() as free:  # process 0 will listen there
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    flags = ['--coordinator', f'127.0.0.1:{port}', '--num_processes', str(len(shares))]
    job = []
    try:
        for i, (cores, environment) in enumerate(shares):
            output = tempfile.TemporaryFile() if i else None
            popen = subprocess.Popen(
                [*command, *flags, '--process_id', str(i)],
                env=os.environ | environment | {'PYTHONUNBUFFERED': '1'},  # a kill loses no output
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C comes by this process alone, and so once
                preexec_fn=functools.partial(_settle, cores, os.getpid()),
            )
            job.append(Process(popen, output))
    except BaseException:
        _kill(job)
        raise
    return job


def _settle(cores, launcher):
    """What a child does before it becomes the program."""
    if cores:
        os.sched_setaffinity(0, cores)
    if _prctl:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: to die with the launcher, even of kill -9
        if os.getppid() != launcher:  # which has just happened
            os._exit(1)


def _shares(processes):
    """(cores or None, environment) of each process."""
    if gpus := _gpus():
        if processes > len(gpus):
            raise ValueError(
                f'-n {processes}: this machine has {len(gpus)} GPU(s), and each process needs one; '
                'JAX_PLATFORMS=cpu runs on the CPU'
            )
        return [(None, {'CUDA_VISIBLE_DEVICES': gpu}) for gpu in gpus[:processes]]
    if not hasattr(os, 'sched_getaffinity'):
        return [(None, {})] * processes
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // processes)  # equal, because all must have as many devices
    starts = (i * each % len(cores) for i in range(processes))
    return [(set(cores[start : start + each]), {}) for start in starts]


def _gpus():
    """The NVIDIA GPUs that JAX would use, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get('JAX_PLATFORMS', 'cuda').split(',')[0] not in ('', 'cuda', 'gpu'):
        return []
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(',') if gpu.strip() not in ('', '-1')]
    try:
        listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
    except OSError:
        return []
    found = [line for line in listed.stdout.splitlines() if line.startswith('GPU ')]
    return [str(i) for i in range(len(found))] if listed.returncode == 0 else []


@contextlib.contextmanager
def _signals():
    """Yields the list that grows by each signal to be passed on."""
    received, before = [], {}
    try:
        for number in _PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
                before[number] = signal.signal(number, lambda got, _: received.append(got))
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(job, chosen):
    """What these processes wrote last."""
    for i in chosen:
        job[i].output.seek(0)
        for line in job[i].output.read().decode(errors='replace').splitlines()[-_TAIL:]:
            print(f'[process {i}] {line}', file=sys.stderr)


def _death(code):
    return f'died of {signal.Signals(-code).name}' if code < 0 else f'ended with code {code}'
