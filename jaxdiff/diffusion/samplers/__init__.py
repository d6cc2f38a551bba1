"""Samplers, each called with a schedule and run by `jaxdiff.diffusion.sample`."""

from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.samplers.ddpm import ddpm

__all__ = ['Sampler', 'State', 'ddim', 'ddpm', 'normal', 'start']
