"""jaxdiff: diffusion models in JAX, from the equations to a training job."""

import pathlib

# In a checkout that is not installed, `configs/` stands beside the package and not inside it.
_here = pathlib.Path(__file__).resolve().parent
if not (_here / 'configs').exists() and (_here.parent / 'configs' / 'default.py').exists():
    __path__.append(str(_here.parent))
