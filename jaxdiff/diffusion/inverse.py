"""Inverse problems: samples of x0 given y = A x0 + noise · eps, by any model of x0.

Five ways. Three are denoisers or samplers that know y, made of ones that don't:

`pigdm` corrects the belief as if x0 given x_t were Gaussian with the covariance C,

    E[x0 | x_t, y] = x0 + C Aᵀ (A C Aᵀ + noise² I)⁻¹ (y − A x0),                           (67)

with C = sigma² / (alpha² + sigma²) I (the covariance of white data) or, by Tweedie's formula of the
second order, which is exact where x0 is Gaussian,

    C = Cov(x0 | x_t) = sigma² / alpha · ∂E[x0 | x_t] / ∂x_t.                              (68)

`ddnm` puts what was measured into the belief, and leaves the rest of it,

    x0 + A⁺ (y − A x0),                                                                    (69)

and `dps` goes down the gradient of the distance after each step of a sampler,

    x_s ← x_s − scale · ∇_{x_t} |y − A x0(x_t)|.                                            (70)

Where parts of x0 are known as they are, so that A is a mask, `replacement` puts them, noised, into
what a sampler has reached,

    x_s ← known · (alpha_s y + sigma_s eps) + (1 − known) · x_s,                           (71)

and `repaint` besides goes back by the chain, (7), along `grid.repaint`, so that the rest comes to
agree with them. The last four are biased: how much is measured in `experiments/restoration`.

References:
  Song et al. 2023, Pseudoinverse-Guided Diffusion Models (ΠGDM), ICLR; its r_t² is C's.
  Boys et al. 2023, Tweedie Moment Projected Diffusions, arXiv:2310.06721, for (68).
  Wang et al. 2022, Denoising Diffusion Null-Space Model (DDNM), arXiv:2212.00490, eq. 13.
  Chung et al. 2022, Diffusion Posterior Sampling (DPS), arXiv:2209.14687, algorithm 1.
  Song et al. 2021, arXiv:2011.13456, appendix I.2; Lugmayr et al. 2022, RePaint, arXiv:2201.09865.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxdiff.diffusion.denoiser import Denoiser, mean, on_mean
from jaxdiff.diffusion.gaussian import gaussian, marginal
from jaxdiff.diffusion.operators import Operator
from jaxdiff.diffusion.samplers.base import Sampler, normal
from jaxdiff.diffusion.samplers.multistep import Memory
from jaxdiff.diffusion.schedule import Schedule, coefficients

# Below this noise, in units of the measurement, equation (67) is solved as with it: a network's
# Jacobian is no covariance, and without noise float32 can't invert what it gives.
_LEAST_NOISE = 1e-3
# Conjugate gradients stop at a direction along which a Jacobian gives less than this share of the most
# it gives: that is more of the network's errors than of a covariance.
_SMALLEST = 0.01


def pigdm(
    denoise: Denoiser,
    schedule: Schedule,
    operator: Operator,
    y: Array,
    noise: float = 0.0,
    covariance: str = 'isotropic',
    iterations: int = 8,
) -> Denoiser:
    """The belief about x0 that knows y: equation (67).

    The linear system is solved by conjugate gradients, for each example by itself. By a network's
    Jacobian they stop at a direction along which it gives less than a hundredth of the most, or
    less than nothing: going on would divide by the network's errors. The best solution on the way
    is taken.

    Args:
      operator: A.
      y: what was measured, [b, ...].
      noise: the measurement's standard deviation; less than 0.001 counts as that.
      covariance: 'isotropic', or 'jacobian' for (68), at the cost of a forward and a backward
        derivative of the denoiser in each iteration.
      iterations: of conjugate gradients; as many as y has components are exact but for rounding.

    At alpha = 0, where (68) can't be told, the belief is left as it is. A walk from there errs by the
    first step's length, whatever its sampler's order; one from `schedule.t_max` keeps the order,
    and errs by what the prior leaves out there.
    """
    if covariance not in ('isotropic', 'jacobian'):
        raise ValueError(f"covariance must be 'isotropic' or 'jacobian', got {covariance=}")
    noise = max(noise, _LEAST_NOISE)

    def informed(x_t, t):
        c = coefficients(schedule, t, x_t)
        if covariance == 'jacobian':

            def asked(x):
                belief = denoise(x, t)
                return mean(belief), belief

            x0, push, belief = jax.linearize(asked, x_t, has_aux=True)
            pull = jax.linear_transpose(push, x_t)
            size = c.sigma**2 / jnp.where(c.alpha == 0, jnp.inf, c.alpha)
            # Its symmetric part, since a network's Jacobian need not be symmetric.
            spread = lambda v: size / 2 * (push(v) + pull(v)[0])
        else:
            belief = denoise(x_t, t)
            x0 = mean(belief)
            spread = lambda v: c.sigma**2 / (c.alpha**2 + c.sigma**2) * v
        adjoint = jax.linear_transpose(operator.apply, x0)
        system = lambda u: operator.apply(spread(adjoint(u)[0])) + noise**2 * u
        share = _SMALLEST if covariance == 'jacobian' else 0.0
        apart = y - operator.apply(x0)
        weights = _conjugate_gradients(system, apart, iterations, noise**2 / 2, share)
        return on_mean(lambda x0: x0 + spread(adjoint(weights)[0]), belief)

    return informed


def ddnm(denoise: Denoiser, operator: Operator, y: Array) -> Denoiser:
    """The belief with what was measured, without noise, put in: equation (69).

    The last step of a sampler takes the belief as it is, so that A x0 = y.
    """

    def informed(x_t, t):
        return on_mean(lambda x0: x0 + operator.pinv(y - operator.apply(x0)), denoise(x_t, t))

    return informed


def dps(sampler: Sampler, operator: Operator, y: Array, scale: float = 1.0) -> Sampler:
    """The sampler with a step down the gradient of the distance after each of its own: (70).

    `nfe` counts one evaluation besides the sampler's own, which has a gradient.
    """

    def step(keys, state, t, s, denoise):
        def distance(x_t):
            apart = y - operator.apply(mean(denoise(x_t, t)))
            squares = jnp.sum(jnp.square(apart), tuple(range(1, apart.ndim)))
            return jnp.sum(jnp.sqrt(jnp.maximum(squares, jnp.finfo(apart.dtype).tiny)))

        slope = jax.grad(distance)(state.x)
        after = sampler.step(keys, state, t, s, denoise)
        return after._replace(x=after.x - scale * slope, nfe=after.nfe + 1)

    return Sampler(sampler.init, step)


def replacement(sampler: Sampler, schedule: Schedule, y: Array, known: Array) -> Sampler:
    """The sampler with what is known, noised, in place of what it has reached there: (71).

    Args:
      y: images, [b, h, w, c]; what they hold where nothing is known is of no account.
      known: 1 where they are known, else 0, [h, w, 1] or [b, h, w, 1].
    """

    def step(keys, state, t, s, denoise):
        own, fresh = jax.vmap(jax.random.split, out_axes=1)(keys)
        after = sampler.step(own, state, t, s, denoise)
        noised = marginal(schedule, y, normal(fresh, y), s)
        return after._replace(x=jnp.where(known > 0, noised, after.x))

    return Sampler(sampler.init, step)


def repaint(sampler: Sampler, schedule: Schedule, y: Array, known: Array) -> Sampler:
    """RePaint: `replacement`, for times that also go back, along the chain: see `grid.repaint`.

    Raises: ValueError, when it begins, for a sampler that remembers earlier steps.
    """
    down, back = replacement(sampler, schedule, y, known), gaussian(schedule).transition

    def init(x_1, denoise, times):
        state = sampler.init(x_1, denoise, times)
        if isinstance(state.memory, Memory):
            raise ValueError(
                'RePaint goes back and forth, which a sampler that remembers earlier steps cannot: '
                'take one of single steps, such as ddpm or ddim'
            )
        return state

    def step(keys, state, t, s, denoise):
        def up(state):
            return state._replace(x=jax.vmap(back, (0, 0, None, None))(keys, state.x, t, s))

        return jax.lax.cond(s > t, up, lambda state: down.step(keys, state, t, s, denoise), state)

    return Sampler(init, step)


def _conjugate_gradients(system, b, iterations, least=0.0, share=0.0):
    """Solves system(u) = b for each example, [b, ...], from 0 on, and returns its best u.

    An example stays as it is when it is solved, and when it meets a direction along which the system
    is below `least`, or below `share` of the largest that it has met.
    """

    def dot(u, v):
        return jnp.sum(u * v, tuple(range(1, u.ndim)), keepdims=True)

    def ratio(a, b):
        return a / jnp.where(b > 0, b, 1)

    def step(_, carry):
        u, residual, direction, square, largest, best, nearest = carry
        image, length = system(direction), dot(direction, direction)
        bend = ratio(dot(direction, image), length)
        largest = jnp.maximum(largest, bend)
        sound = (bend > 0) & (bend >= jnp.maximum(least, share * largest))
        size = jnp.where(sound, ratio(square, bend * length), 0)
        u, residual = u + size * direction, residual - size * image
        now = dot(residual, residual)
        direction = jnp.where(sound, residual + ratio(now, square) * direction, direction)
        best = jnp.where(now < nearest, u, best)
        return u, residual, direction, now, largest, best, jnp.minimum(now, nearest)

    zero, square = jnp.zeros_like(b), dot(b, b)
    start = zero, b, b, square, jnp.zeros_like(square), zero, square
    with jax.default_matmul_precision('highest'):
        return jax.lax.fori_loop(0, iterations, step, start)[-2]
