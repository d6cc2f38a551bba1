"""Many processes as one job: how they find each other, and what they agree on.

Every process of a job runs the same commands in the same order, and each sees all devices. What is
agreed on here is a collective operation: all processes must come to it, from their main threads.
"""

import importlib.util
import json
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# Seconds without a sign of life after which JAX ends the survivors of a dead process.
_HEARTBEAT = 30

# Bytes that a message to all processes is filled up to a multiple of.
_PADDED = 1024

# What srun tells each of its tasks, and where JAX looks for it.
_SLURM = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others of its job; must run before JAX is asked for devices.

    With the three flags they decide alone, and the process uses all devices that it sees. Without
    them the environment decides, as JAX reads it: several tasks of SLURM or Open MPI (on GPUs one
    device each), an indexed Kubernetes job, or the hosts of a Cloud TPU. Where there is no such
    thing, a job of one task and a SLURM shell among them, this process is alone and nothing happens.

    Args:
      coordinator: the address that process 0 listens at, host:port, reachable by all.
      num_processes: how many processes there are.
      process_id: which one this is, 0 … num_processes − 1.

    Raises: ValueError on flags that can't work, or where a package to find the others is missing.
    """
    flags = {
        '--coordinator': coordinator,
        '--num_processes': num_processes,
        '--process_id': process_id,
    }
    missing = [name for name, value in flags.items() if value is None]
    if not missing:
        _check(coordinator, num_processes, process_id)
        job = {
            'coordinator_address': coordinator,
            'num_processes': num_processes,
            'process_id': process_id,
            'cluster_detection_method': 'deactivate',
        }
    elif len(missing) < len(flags):
        raise ValueError(f'{", ".join(flags)} go together: {" and ".join(missing)} missing')
    else:
        job = _cluster()
    if job is None:
        return
    try:
        jax.distributed.initialize(**job, heartbeat_timeout_seconds=_HEARTBEAT)
    except ValueError as error:
        if job or 'coordinator_address' not in str(error):
            raise
        return  # a TPU machine that belongs to no cluster
    sys.excepthook = _fail
    # Gloo, from C++, writes to the standard output, which is for the paths of what was made.
    sys.stdout = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    barrier('joined')  # at once: later one may be busy for longer than Gloo waits, see below


def _check(coordinator, num_processes, process_id):
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f'--coordinator must be host:port, such as 10.0.0.1:1234, got {coordinator!r}'
        )
    if num_processes < 1:
        raise ValueError(f'--num_processes must be at least 1, got {num_processes}')
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f'--process_id must lie between 0 and {num_processes - 1}, got {process_id}'
        )


def _cluster():
    """What to tell JAX of the cluster that started this process, None where it is alone."""
    env = os.environ
    if 'OMPI_COMM_WORLD_SIZE' in env:  # before SLURM: mpirun may run inside its jobs
        if int(env['OMPI_COMM_WORLD_SIZE']) == 1:
            return None
        if 'OMPI_MCA_orte_hnp_uri' in env:
            return {'cluster_detection_method': 'ompi'}
        _need('mpi4py', 'mpi4py', 'Open MPI 5')
        return {'cluster_detection_method': 'mpi4py'}
    if all(name in env for name in _SLURM):
        # A shell by salloc is one task, whose job may have room for many.
        tasks = [env[name] for name in ('SLURM_NTASKS', 'SLURM_STEP_NUM_TASKS') if name in env]
        several = min(map(int, tasks)) > 1
        return {'cluster_detection_method': 'slurm'} if several else None
    if 'tpu' in (jax.config.jax_platforms or '').split(','):  # JAX says so where it finds TPUs
        hosts = env.get('TPU_PROCESS_ADDRESSES') or env.get('TPU_WORKER_HOSTNAMES') or ','
        slices = int(env.get('MEGASCALE_NUM_SLICES') or 1)
        return {} if ',' in hosts or slices > 1 else None
    if 'KUBERNETES_SERVICE_HOST' in env and 'JOB_COMPLETION_INDEX' in env:
        _need('kubernetes', "'jax[k8s]'", 'an indexed Kubernetes job')
        return {}
    return None


def _need(package, requirement, place):
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f'the processes of {place} find each other by the package {package}: pip install '
            f'{requirement}, or give --coordinator, --num_processes and --process_id'
        )


def leave(code: int) -> None:
    """Ends this process with an exit code other than 0, in a job of many at once.

    A Python process that ends takes leave of the others first, who may stand in a collective
    operation that waits for this one: after five minutes JAX would abort them all.
    """
    if not jax.distributed.is_initialized():
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(*error):
    sys.__excepthook__(*error)
    leave(1)


def primary() -> bool:
    """Whether this is process 0, which alone writes logs and pictures."""
    return jax.process_index() == 0


def agree(value: Any) -> Any:
    """Process 0's value, of JSON, in all processes."""
    if jax.process_count() == 1:
        return value
    text = json.dumps(value).encode() if primary() else b''
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    room = np.zeros(-(-size // _PADDED) * _PADDED, np.uint8)  # few sizes: each is a program
    room[: len(text)] = np.frombuffer(text, np.uint8)
    room = np.asarray(multihost_utils.broadcast_one_to_all(room), np.uint8)
    return json.loads(room[:size].tobytes())


def all_true(ok: bool) -> bool:
    """Whether it is true in all processes."""
    if jax.process_count() == 1:
        return ok
    return bool(np.all(multihost_utils.process_allgather(np.int32(bool(ok)))))


def barrier(name: str) -> None:
    """Waits, as long as it takes, until all processes are at the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def compile_together(program: Any, *args: Any) -> Any:
    """Compiles a jitted program, in all processes before any of them goes on to run it.

    Returns: the compiled program, which refuses arguments of other shapes or placements.

    On CPUs, processes that exchange for the first time in a program wait 30 seconds for each other,
    and one may compile for longer what another finds in a cache; JAX's own is process 0's alone.
    """
    compiled = program.lower(*args).compile()
    if jax.process_count() > 1:
        barrier('compiled')
    return compiled
