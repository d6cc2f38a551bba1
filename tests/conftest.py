"""Eight virtual CPU devices, so that what runs on many devices is tested on any machine."""

import gc
import importlib.metadata
import os
import pathlib

os.environ['JAX_PLATFORMS'] = 'cpu'
flags = [
    '--xla_force_host_platform_device_count=8',
    # Tests spend their time in compiling small programs.
    '--xla_backend_optimization_level=0',
    '--xla_cpu_parallel_codegen_split_count=1',
]
if importlib.metadata.version('jaxlib').startswith('0.10.'):  # later ones end at a flag they lost
    flags.append('--xla_cpu_use_fusion_emitters=false')  # the older ones compile faster
os.environ['XLA_FLAGS'] = ' '.join(flags)
os.environ['NPROC'] = '16'  # threads enough for eight devices' collectives on few cores
# Tests, and the processes that they start, share compiled programs.
cache = pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'xla'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '0'

gc.set_threshold(100_000, 50, 100)  # tracing makes many objects, of which few are garbage

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_configure(config):
    """Prepares the digits once, before the first test or worker could meet them half done."""
    if not hasattr(config, 'workerinput'):
        from jaxdiff import data

        data.load('digits')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps neighbours on one worker, so that what a file's tests share is made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == 'load' else None


@pytest.fixture
def x64():
    """Double precision, where a test is about precision."""
    with jax.enable_x64(True):
        yield
