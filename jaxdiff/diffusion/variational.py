"""Training losses that are variational bounds; `bound` has the same bounds for evaluation.

The hybrid loss trains a learned variance beside the simple loss, on a chain of T steps:

    L = L_simple + lambda T KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)),   t = k / T,  s = (k − 1) / T,  (17)

the KL as equation (42), in bits per component, without a gradient to the mean. At k = 1 its place
is taken by −log2 p(x0 | x_t), the discretised Gaussian (44), whose log variance the network picks
between log sigma_t² and that of the posterior one step later, since the posterior's own is zero.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff.diffusion.bound import Bound, posterior_kl, prior_kl, reconstruction
from jaxdiff.diffusion.denoiser import Learned
from jaxdiff.diffusion.gaussian import gaussian, marginal, posterior_moments
from jaxdiff.diffusion.loss import Weighting, denoising, likelihood
from jaxdiff.diffusion.prediction import Prediction, determinant, target
from jaxdiff.diffusion.samplers.base import normal
from jaxdiff.diffusion.schedule import Schedule, broadcast, coefficients


def hybrid(
    keys: Array,
    predict: Callable[[Array, Array], Array],
    x0: Array,
    t: Array,
    schedule: Schedule,
    prediction: Prediction,
    steps: int,
    weight: float = 1e-3,
    weighting: Weighting | None = None,
    levels: int | None = None,
) -> Array:
    """The learned-variance loss of improved DDPM, equation (17), [b].

    Its mean over t uniform on the grid is the simple loss plus `weight` times the chain's bound in
    bits per component, less the prior's term. The simple loss alone trains the mean.

    Args:
      keys: [b], one per example.
      predict: (x_t, t) -> y, its last axis twice x0's; the second half r means nu = (r + 1) / 2, as
        `denoiser.from_network(learned_variance=True)` reads it.
      x0: data, [b, ...].
      t: [b], on the grid 1 / steps, 2 / steps, …, 1, from `times.discrete`.
      weight: lambda.
      weighting: of the simple loss.
      levels: how many equally spaced values from −1 to 1 the data take; None for a density.

    Raises: ValueError for fewer than two steps.

    References: Nichol and Dhariwal 2021, arXiv:2102.09672, eqs. 15 and 16.
    """
    if steps < 2:
        raise ValueError(f'a learned variance needs a chain of 2 steps or more, got {steps=}')
    x_t, eps = jax.vmap(gaussian(schedule).corrupt)(keys, x0, t)
    coef = coefficients(schedule, t, x0)
    y, r = jnp.split(predict(x_t, t), 2, axis=-1)
    error = y - target(prediction, coef, x0, eps)
    w = 1.0 if weighting is None else weighting(prediction, coef)
    simple = jnp.mean(w * error**2, axis=tuple(range(1, x0.ndim)))

    d = determinant(prediction, coef)
    away = jnp.where(d != 0, -coef.sigma / jnp.where(d != 0, d, 1), 0) * error  # of x0
    belief = Learned(x0 + jax.lax.stop_gradient(away), (r + 1) / 2)
    k = jnp.round(t * steps)
    first, k = broadcast(k == 1, x0), jnp.maximum(k, 2)
    later, earlier = k / steps, (k - 1) / steps
    _, small = posterior_moments(schedule, x0, x0, later, earlier)
    std = coef.sigma**belief.nu * small ** ((1 - belief.nu) / 2)
    # Unused branches keep to numbers whose gradients are finite.
    end = reconstruction(x0, jnp.where(first, belief.x0, x0), jnp.where(first, std, 1), levels)
    middle = posterior_kl(schedule, x0, belief, later, earlier)
    nats = jnp.where(first.reshape(-1), end, middle)
    return simple + weight * steps * nats / (np.log(2) * x0[0].size)


def continuous(
    keys: Array,
    predict: Callable[[Array, Array], Array],
    x0: Array,
    t: Array,
    schedule: Schedule,
    prediction: Prediction,
    levels: int | None = None,
    t_min: float = 0.0,
) -> Bound:
    """The continuous-time bound in nats, its parts [b], each an unbiased estimate from one draw.

    The diffusion part is equation (11) at one uniform time. The data are read off the noisy x at
    t_min itself, N(x / alpha, sigma² / alpha²), which needs no second question to the network, and
    lets a learned schedule find its first noise level.

    Args:
      keys: [b], one per example.
      predict: as in `loss.denoising`; for a learned schedule it must be told logsnr, not t.
      x0: data, [b, ...].
      t: [b], uniform on [t_min, 1).
      levels: how many equally spaced values from −1 to 1 the data take; None for a density.
      t_min: where the data are read off; there must be noise, as in a learned schedule at 0.

    References: Kingma et al. 2021, arXiv:2107.00630, eqs. 11 and 17.
    """
    noise, end = jax.vmap(jax.random.split, out_axes=1)(keys)
    error = denoising(noise, predict, x0, t, schedule, prediction, likelihood())
    start = jnp.asarray(t_min, x0.dtype)
    alpha, sigma = schedule(start)
    x = marginal(schedule, x0, normal(end, x0), start)
    return Bound(
        prior_kl(schedule, x0, jnp.ones_like(start)),
        (1 - t_min) * x0[0].size * error,
        reconstruction(x0, x / alpha, sigma / alpha, levels),
    )
