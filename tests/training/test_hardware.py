import importlib.util
import os
import subprocess
import sys

import jax
import pytest

from jaxdiff.training import hardware


def test_a_cpus_memory_is_not_known():
    assert hardware.memory(jax.devices()[0]) is None


def test_rings_send_all_but_their_own_part():
    """To reduce and to gather, each once; a permutation sends all."""
    assert hardware.sent({'all-reduce': 100}, 4) == 150
    assert hardware.sent({'all-gather': 100, 'reduce-scatter': 100}, 4) == 150
    assert hardware.sent({'collective-permute': 100}, 4) == 100
    assert hardware.sent({'all-reduce': 100}, 1) == 0
    assert hardware.chip(jax.devices()[0]) is None


def test_without_libtpu_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"isn't installed: pip install 'libtpu==\S+'$"):
        hardware.tpus('v5e:2x2')


TOPOLOGIES = """
from jaxdiff import devices
devices.use_host()
from jaxdiff.training import hardware
for name in ('v5e', 'v5e:3x3', 'v9:2x2', 'v5e:2xa', 'v5e:2x2 '):
    try:
        hardware.tpus(name)
    except ValueError as error:
        print('refused', repr(name) in str(error), chr(10) in str(error))
for name in ('v5e:1x1', 'v5e:16x16', 'v4:2x2x2', 'v5p:4x4x4', 'v6e:2x2'):
    found = hardware.tpus(name)
    print(name, len(found), found[0].device_kind, hardware.memory(found[0]) // 10**9)
"""


def test_tpus_that_are_not_there():
    pytest.importorskip('libtpu')
    done = subprocess.run(
        [sys.executable, '-c', TOPOLOGIES],
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *['refused True False'] * 5,
        'v5e:1x1 1 TPU v5 lite 16',
        'v5e:16x16 256 TPU v5 lite 16',
        'v4:2x2x2 8 TPU v4 33',
        'v5p:4x4x4 64 TPU v5 102',
        'v6e:2x2 4 TPU v6 lite 33',
    ]
