"""The mathematics of diffusion models, on jax.numpy alone.

A *process* turns data into noise, a *denoiser* guesses the data back, a *sampler* walks from noise
to data by asking the denoiser. The equations are numbered through the modules' docstrings.
"""

from jaxdiff.diffusion import (
    denoiser,
    exact,
    gaussian,
    grid,
    guidance,
    loss,
    prediction,
    process,
    samplers,
    schedule,
    times,
)
from jaxdiff.diffusion.sample import run, sample

__all__ = [
    'denoiser',
    'exact',
    'gaussian',
    'grid',
    'guidance',
    'loss',
    'prediction',
    'process',
    'run',
    'sample',
    'samplers',
    'schedule',
    'times',
]
