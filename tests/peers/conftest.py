"""Peers of which only a part is needed."""

import importlib
import sys
import types

import pytest

from jaxdiff.text.packages import file_of


@pytest.fixture(scope='module')
def fidelity():
    """The package without its first file, which imports every extractor, and torchvision for some."""
    module = file_of('torch_fidelity', 'feature_extractor_inceptionv3.py')
    if module is None:
        pytest.skip('needs the package torch-fidelity')
    package = types.ModuleType('torch_fidelity')
    package.__path__ = [str(module.parent)]
    sys.modules['torch_fidelity'] = package
    yield lambda name: importlib.import_module(f'torch_fidelity.{name}')
    for name in [name for name in sys.modules if name.split('.')[0] == 'torch_fidelity']:
        del sys.modules[name]
