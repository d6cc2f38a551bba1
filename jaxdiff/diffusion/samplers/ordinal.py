"""Ancestral sampling of any process: the reverse chain with its posterior under the belief."""

import jax

from jaxdiff.diffusion.categorical import uniform
from jaxdiff.diffusion.ordinal import ordinal
from jaxdiff.diffusion.process import Process
from jaxdiff.diffusion.samplers.base import Sampler, State, start
from jaxdiff.diffusion.schedule import Schedule


def ancestral(process: Process) -> Sampler:
    """x_s ~ q(x_s | x_t, x0 ~ belief), one draw of the process's posterior a step.

    For discrete processes and tokens that are independent given x_t it is the exact reverse chain,
    in any number of steps; else its error falls with them.

    References: Austin et al. 2021, arXiv:2107.03006, section 2.
    """

    def step(keys, state, t, s, denoise):
        belief = denoise(state.x, t)
        x = jax.vmap(process.posterior, (0, 0, 0, None, None))(keys, state.x, belief, t, s)
        return State(x.astype(state.x.dtype), state.nfe + 1)

    return Sampler(start, step)


def ordinal_ancestral(
    schedule: Schedule, size: int, alpha_min: float = 1e-3, rates=None
) -> Sampler:
    """`ancestral` of the ordinal process; the arguments are those of `diffusion.ordinal.ordinal`."""
    return ancestral(ordinal(schedule, size, alpha_min, rates))


def uniform_ancestral(schedule: Schedule, size: int) -> Sampler:
    """`ancestral` of the uniform process (equation (58) is one formula for both)."""
    return ancestral(uniform(schedule, size))
