"""Samplers, each called with a schedule and run by `jaxdiff.diffusion.sample`."""

from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.ddim import ddim
from jaxdiff.diffusion.samplers.ddpm import ddpm
from jaxdiff.diffusion.samplers.dpmpp import dpmpp_1s, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_3m
from jaxdiff.diffusion.samplers.ode import euler, heun, rk4

__all__ = [
    'Sampler',
    'State',
    'ddim',
    'ddpm',
    'dpmpp_1s',
    'dpmpp_2m',
    'dpmpp_2m_sde',
    'dpmpp_2s',
    'dpmpp_3m',
    'euler',
    'heun',
    'normal',
    'rk4',
    'start',
]
