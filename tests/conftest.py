"""Eight virtual CPU devices, so that what runs on many devices is tested on any machine."""

import os
import pathlib

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
    '--xla_force_host_platform_device_count=8 '
    '--xla_backend_optimization_level=0'  # tests spend their time in compiling
)
os.environ['NPROC'] = '16'  # threads enough for eight devices' collectives on few cores
# Tests, and the processes that they start, share compiled programs.
cache = pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'xla'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '0'

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_configure(config):
    """Prepares the digits once, before the first test or worker could meet them half done."""
    if not hasattr(config, 'workerinput'):
        from jaxdiff import data

        data.load('digits')


@pytest.fixture
def x64():
    """Double precision, where a test is about precision."""
    with jax.enable_x64(True):
        yield
