"""jaxdiff: diffusion models in JAX, from the equations to a training job."""

import importlib.util
import pathlib
import sys

# In a checkout `configs/` stands beside the package; installed, it is inside as `jaxdiff.configs`.
_here = pathlib.Path(__file__).resolve().parent
_beside = _here.parent / 'configs' / '__init__.py'
if not (_here / 'configs').exists() and _beside.exists():
    _spec = importlib.util.spec_from_file_location('jaxdiff.configs', _beside)
    configs = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(configs)
