"""Samplers, each called with a schedule and run by `jaxdiff.diffusion.sample`."""

from jaxdiff.diffusion.samplers.adaptive import ode_adaptive
from jaxdiff.diffusion.samplers.base import Sampler, State, normal, start
from jaxdiff.diffusion.samplers.consistency import consistency
from jaxdiff.diffusion.samplers.ddim import ddim, euler_ancestral
from jaxdiff.diffusion.samplers.ddpm import ddpm
from jaxdiff.diffusion.samplers.deis import deis
from jaxdiff.diffusion.samplers.dpmpp import dpmpp_1s, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_3m
from jaxdiff.diffusion.samplers.langevin import annealed_langevin, predictor_corrector
from jaxdiff.diffusion.samplers.masked import masked_ancestral, masked_confidence, masked_remask
from jaxdiff.diffusion.samplers.ode import euler, heun, rk4
from jaxdiff.diffusion.samplers.ordinal import ancestral, ordinal_ancestral, uniform_ancestral
from jaxdiff.diffusion.samplers.stochastic import euler_maruyama, heun_stochastic
from jaxdiff.diffusion.samplers.unipc import unipc

__all__ = [
    'Sampler',
    'State',
    'ancestral',
    'annealed_langevin',
    'consistency',
    'ddim',
    'ddpm',
    'deis',
    'dpmpp_1s',
    'dpmpp_2m',
    'dpmpp_2m_sde',
    'dpmpp_2s',
    'dpmpp_3m',
    'euler',
    'euler_ancestral',
    'euler_maruyama',
    'heun',
    'heun_stochastic',
    'masked_ancestral',
    'masked_confidence',
    'masked_remask',
    'normal',
    'ode_adaptive',
    'ordinal_ancestral',
    'predictor_corrector',
    'rk4',
    'start',
    'uniform_ancestral',
    'unipc',
]
