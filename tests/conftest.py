"""Eight virtual CPU devices, so that what runs on many devices is tested on any machine."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
os.environ['NPROC'] = '16'  # threads enough for eight devices' collectives on few cores

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision, where a test is about precision."""
    with jax.enable_x64(True):
        yield
