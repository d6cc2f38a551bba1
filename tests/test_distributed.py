"""How processes find each other and agree, in real processes; clusters by their environments."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import pytest

from jaxdiff import distributed

ROOT = pathlib.Path(__file__).resolve().parents[1]

WORKER = """
import os, sys, time
from jaxdiff import distributed

coordinator, process_id = sys.argv[1], int(sys.argv[2])
distributed.initialize(coordinator, 2, process_id)

import jax
import jax.numpy as jnp

assert jax.process_count() == 2 and jax.device_count() == 4 and jax.local_device_count() == 2
assert distributed.primary() == (process_id == 0)
"""


@pytest.fixture
def pair(tmp_path):
    """Starts two processes of two devices each on a program: the two."""
    started = []

    def pair(program):
        (tmp_path / 'program.py').write_text(WORKER + program)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            coordinator = f'127.0.0.1:{free.getsockname()[1]}'
        flags = '--xla_force_host_platform_device_count=2'
        for i in (0, 1):
            process = subprocess.Popen(
                [sys.executable, tmp_path / 'program.py', coordinator, str(i)],
                cwd=tmp_path,
                env=os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
        return started

    yield pair
    for process in started:
        process.kill()
        process.wait()


def test_two_processes_compute_and_agree(pair):
    processes = pair("""
total = jax.pmap(lambda x: jax.lax.psum(x, 'all'), 'all')(
    jnp.arange(2.0) + 2 * process_id
)
assert total.addressable_shards[0].data.item() == 0 + 1 + 2 + 3

mine = 2**40 + 7 - 100 * process_id
for value in (mine, -mine, process_id):
    agreed = distributed.agree(value)
    assert type(agreed) is int and agreed == {mine: 2**40 + 7, -mine: -(2**40) - 7}.get(value, 0)
assert distributed.all_true(True) is True
assert distributed.all_true(process_id == 0) is False
assert distributed.all_true(process_id == 1) is False

waited = time.time()
time.sleep(1.5 * process_id)
distributed.barrier('here')
assert time.time() - waited > 1
print('fine')
""")
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, outputs
        assert output.endswith('fine\n')


def test_a_process_that_fails_is_gone_at_once_with_its_reason(pair):
    fails, leaves = "raise KeyError('reason')", "print('told'); distributed.leave(3)"
    for program, code, reason in ((fails, 1, "KeyError: 'reason'"), (leaves, 3, 'told')):
        other, process = pair(f"""
distributed.barrier('both are here')
if process_id == 1:
    {program}
distributed.barrier('which the other never reaches')
""")[-2:]
        output = process.communicate(timeout=60)[0]
        assert process.returncode == code
        assert reason in output
        other.kill()


def test_survivors_of_a_kill_end_by_themselves(pair):
    survivor, victim = pair("""
distributed.barrier('both are here')
if process_id == 1:
    os.kill(os.getpid(), 9)
distributed.barrier('which the other never reaches')
""")
    victim.wait(timeout=60)
    start = time.monotonic()
    survivor.communicate(timeout=60)
    assert survivor.returncode != 0
    assert time.monotonic() - start < 45


def test_one_process_agrees_with_itself():
    assert distributed.primary()
    assert distributed.agree(2**40) == 2**40
    assert distributed.all_true(True) and not distributed.all_true(False)
    distributed.barrier('alone')
    with pytest.raises(SystemExit) as left:
        distributed.leave(3)
    assert left.value.code == 3


@pytest.mark.parametrize(
    'flags, message',
    [
        (('host:1', None, None), '--num_processes and --process_id missing'),
        ((None, 2, 0), '--coordinator missing'),
        (('host:1', 2, None), '--process_id missing'),
        (('host', 2, 0), 'must be host:port'),
        ((':1234', 2, 0), 'must be host:port'),
        (('host:port', 2, 0), 'must be host:port'),
        (('host:70000', 2, 0), 'must be host:port'),
        (('host:1', 0, 0), '--num_processes must be at least 1, got 0'),
        (('host:1', 2, 2), '--process_id must lie between 0 and 1, got 2'),
        (('host:1', 2, -1), '--process_id must lie between 0 and 1, got -1'),
    ],
)
def test_flags_that_cannot_work(flags, message, plain):
    with pytest.raises(ValueError, match=message):
        distributed.initialize(*flags)
    assert plain == []


@pytest.fixture
def plain(monkeypatch):
    """A machine that is in no cluster; what JAX is told, in place of being started."""
    for name in list(os.environ):
        if name.startswith(('SLURM_', 'OMPI_', 'TPU_', 'MEGASCALE_', 'KUBERNETES_', 'JOB_')):
            monkeypatch.delenv(name)
    told = []
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)  # to be put back
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **kwargs: told.append(kwargs))
    return told


def test_a_plain_machine_is_alone(plain, monkeypatch):
    monkeypatch.setenv('KUBERNETES_SERVICE_HOST', '10.0.0.1')  # a pod, but of no indexed job
    distributed.initialize(None, None, None)
    assert plain == []


def test_flags_decide_alone(plain, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    distributed.initialize('[::1]:1234', 2, 1)
    (told,) = plain
    assert told['coordinator_address'] == '[::1]:1234'
    assert (told['num_processes'], told['process_id']) == (2, 1)
    assert told['cluster_detection_method'] == 'deactivate'
    assert 10 <= told['heartbeat_timeout_seconds'] <= 60


SLURM = {
    'SLURM_JOB_ID': '7',
    'SLURM_STEP_NODELIST': 'node[1-4]',
    'SLURM_NTASKS': '4',
    'SLURM_STEP_NUM_TASKS': '4',
    'SLURM_PROCID': '1',
    'SLURM_LOCALID': '0',
}
MPI = {'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '0'}
MPI4 = MPI | {'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1:34911'}


@pytest.mark.parametrize(
    'environment, method',
    [
        (SLURM, 'slurm'),
        ({k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NUM_TASKS'}, 'slurm'),
        (SLURM | {'SLURM_NTASKS': '1', 'SLURM_STEP_NUM_TASKS': '1'}, None),
        (SLURM | {'SLURM_STEP_NUM_TASKS': '1'}, None),  # the shell of salloc -n 4
        ({'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'}, None),  # without srun
        (MPI4, 'ompi'),
        (MPI4 | {'OMPI_COMM_WORLD_SIZE': '1'}, None),
        (SLURM | {'SLURM_NTASKS': '2'} | MPI4, 'ompi'),  # mpirun in a SLURM job
        (SLURM | MPI4 | {'OMPI_COMM_WORLD_SIZE': '1'}, None),
    ],
)
def test_clusters_by_their_environment(plain, monkeypatch, environment, method):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialize(None, None, None)
    assert [told['cluster_detection_method'] for told in plain] == ([method] if method else [])
    # JAX's own detection finds what it is told to use.
    if method:
        assert _jax_finds(method)


def _jax_finds(method):
    from jax._src.clusters import ClusterEnv

    (cluster,) = [kind for kind in ClusterEnv._cluster_types if kind.name == method]
    return cluster.is_env_present() and cluster.get_process_count() == 4


@pytest.mark.parametrize(
    'environment, package, requirement',
    [
        (MPI, 'mpi4py', 'mpi4py'),
        (
            {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '1'},
            'kubernetes',
            r"'jax\[k8s\]'",
        ),
    ],
)
def test_clusters_that_need_a_package(plain, monkeypatch, environment, package, requirement):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = []
    monkeypatch.setattr(distributed.importlib.util, 'find_spec', found.append)
    with pytest.raises(ValueError, match=f'pip install {requirement}, or give --coordinator'):
        distributed.initialize(None, None, None)
    assert found == [package] and plain == []
    monkeypatch.setattr(distributed.importlib.util, 'find_spec', lambda name: name)
    distributed.initialize(None, None, None)
    assert len(plain) == 1


@pytest.mark.parametrize(
    'environment, joins',
    [
        ({}, True),  # Google's compute engine, whose metadata JAX asks
        ({'TPU_WORKER_HOSTNAMES': 'host-0,host-1'}, True),
        ({'TPU_WORKER_HOSTNAMES': 'host-0'}, False),
        ({'TPU_PROCESS_ADDRESSES': 'local'}, False),
        ({'TPU_WORKER_HOSTNAMES': 'host-0', 'MEGASCALE_NUM_SLICES': '2'}, True),
    ],
)
def test_the_hosts_of_a_tpu(plain, monkeypatch, environment, joins):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialize(None, None, None)
    assert plain == []  # JAX_PLATFORMS=cpu, as in all tests
    before = jax.config.jax_platforms
    try:
        jax.config.update('jax_platforms', 'tpu,cpu')  # as JAX does where it finds TPUs
        distributed.initialize(None, None, None)
    finally:
        jax.config.update('jax_platforms', before)
    assert len(plain) == joins


def test_a_tpu_machine_in_no_cluster_is_alone():
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'TPU_SKIP_MDS_QUERY': '1'}
    program = """
import jax
from jaxdiff import distributed
jax.config.update('jax_platforms', 'tpu,cpu')
distributed.initialize(None, None, None)
assert not jax.distributed.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
