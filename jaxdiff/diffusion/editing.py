"""Editing images with any model, each way a few lines on samplers and grids.

`sdedit` noises an image part of the way and lets the model sample from there. `invert` walks a
deterministic sampler the other way, to the noise that an image comes from: sampling from it under
another condition edits the image, and from between two of them gives images between.

References:
  Meng et al. 2021, SDEdit, arXiv:2108.01073, algorithm 1.
  Song, Meng and Ermon 2020, DDIM, arXiv:2010.02502, section 4.3 and 5.3.
  Shoemake 1985, Animating Rotation with Quaternion Curves, for (72).
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.gaussian import marginal
from jaxdiff.diffusion.sample import sample
from jaxdiff.diffusion.samplers.base import Sampler, normal
from jaxdiff.diffusion.samplers.multistep import Memory
from jaxdiff.diffusion.schedule import Schedule


def from_strength(times: Array, strength: float) -> Array:
    """The rest of a grid from the time nearest to `strength` of its steps before its end.

    Of n steps there are round(strength · n): 1 is the whole grid, 0 no step at all.

    Raises: ValueError where strength does not lie between 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f'strength must lie between 0 and 1, got {strength=}')
    return times[len(times) - 1 - round(strength * (len(times) - 1)) :]


def sdedit(keys: Array, x0: Array, schedule: Schedule, t: Array) -> Array:
    """Where SDEdit starts: x_t of equation (6) from images [b, ...], a key for each.

    Sampling goes on from there along `from_strength`, whose first time t is.
    """
    return marginal(schedule, x0, normal(keys, x0), t)


def invert(
    denoise: Denoiser, sampler: Sampler, schedule: Schedule, x0: Array, times: Array
) -> Array:
    """The noise x_1 from which a deterministic sampler comes to x0: its steps taken backwards.

    The step from s up to t asks the denoiser at s, where the way down asks at t: the round trip errs
    as the sampler does, by its order, and from sigma = 0 on by the second at most. For there noise
    can't be told from the image, and the way up starts at a tenth of the first step, at alpha x0:
    the flow's noise, d(x / alpha) / d(sigma / alpha), is 0 at the data.

    Args:
      denoise: under the condition that the images are of.
      sampler: of single steps without noise: ddim, euler, heun, rk4, ode_adaptive; where
        alpha(1) > 0 dpmpp_2s too.
      times: those of the way down.

    Raises: ValueError for a sampler that draws noise or remembers earlier steps.
    """
    if len(times) < 2:
        return x0
    keys = jax.vmap(jax.random.key)(jnp.zeros(len(x0), jnp.uint32))  # that nothing draws with
    _check_way_back(keys, sampler, x0, times)
    clean = schedule(times[-1])[1] == 0
    first = jnp.where(clean, _FIRST * times[-2], times[-1])
    x = jnp.where(clean, schedule(first)[0], 1) * x0
    return sample(keys, denoise, sampler, x, times[::-1].at[0].set(first))


# Where the way up starts, as a share of the way down's last step.
_FIRST = 0.1


def _check_way_back(keys, sampler, x0, times):
    def step(keys):
        denoise = lambda x_t, t: x_t
        state = sampler.init(x0, denoise, times)
        if isinstance(state.memory, Memory):
            raise ValueError(
                'a sampler that remembers earlier steps has no way back: take ddim or heun'
            )
        return sampler.step(keys, state, times[0], times[1], denoise).x

    traced = jax.make_jaxpr(step)(keys).jaxpr
    if any(traced.invars[0] is read for line in traced.eqns for read in line.invars):
        raise ValueError('a sampler that draws noise has no way back: take ddim with eta=0 or heun')


def interpolate(a: Array, b: Array, share: Array) -> Array:
    """Between noises a and b [b, ...] along the great circle, by `share` [b] of the way:

    sin((1 − share) φ) / sin φ · a + sin(share φ) / sin φ · b,  φ the angle between them.          (72)

    So that what lies between has the length of noise, as a mean would not.
    """
    axes = tuple(range(1, a.ndim))
    share = share.reshape(-1, *[1] * (a.ndim - 1))

    def dot(u, v):
        return jnp.sum(u * v, axes, keepdims=True)

    cosine = dot(a, b) / jnp.sqrt(dot(a, a) * dot(b, b))
    angle = jnp.arccos(jnp.clip(cosine, -1 + 1e-6, 1 - 1e-6))
    return (jnp.sin((1 - share) * angle) * a + jnp.sin(share * angle) * b) / jnp.sin(angle)
