"""The mathematics of diffusion models, on jax.numpy alone.

A *process* turns data into noise, a *denoiser* guesses the data back, a *sampler* walks from noise
to data by asking the denoiser. The equations are numbered through the modules' docstrings.
"""

from jaxdiff.diffusion import (
    bound,
    categorical,
    consistency,
    degradation,
    denoiser,
    editing,
    exact,
    gaussian,
    grid,
    guidance,
    importance,
    inverse,
    learned,
    likelihood,
    loss,
    operators,
    ordinal,
    prediction,
    process,
    progressive,
    samplers,
    schedule,
    times,
    token_bound,
    variational,
)
from jaxdiff.diffusion.sample import run, sample

__all__ = [
    'bound',
    'categorical',
    'consistency',
    'degradation',
    'denoiser',
    'editing',
    'exact',
    'gaussian',
    'grid',
    'guidance',
    'importance',
    'inverse',
    'learned',
    'likelihood',
    'loss',
    'operators',
    'ordinal',
    'prediction',
    'process',
    'progressive',
    'run',
    'sample',
    'samplers',
    'schedule',
    'times',
    'token_bound',
    'variational',
]
