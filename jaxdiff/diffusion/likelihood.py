"""The log density of data under the probability flow, and bits per dimension.

The probability-flow ODE carries x0 to x_1 one to one, so that with p_1 the density it starts from

    log p(x0) = log p_1(x_1) + log |det ∂x_1/∂x0|.                                        (45)

It is solved in z = x_t / hypot(alpha, sigma) = cos φ x0 + sin φ eps, whose angle φ = atan2(sigma,
alpha) runs from almost 0 (data) to at most π/2 (noise) for every schedule alike. With x̂ the belief,

    dz/dφ            = (cos φ z − x̂) / sin φ,                                             (46)
    d log|det| / dφ  = the trace of its Jacobian = (D cos φ − tr ∂x̂/∂z) / sin φ,          (47)

which are finite at alpha = 0 and, where the data have a smooth density, as φ → 0. The fourth-order
Runge–Kutta method takes equal steps in φ^(1/3), finer towards the data. Started at z = cos φ x0,
it gives the density at x0 of the data with noise of standard deviation sigma / alpha of `t_min`.

References: Song et al. 2021, arXiv:2011.13456, eq. 39 and appendix D.2; Grathwohl et al. 2019,
arXiv:1810.01367 (Hutchinson's estimate); Theis et al. 2016, arXiv:1511.01844 (dequantisation).
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdiff.diffusion.bound import falling, prior_kl, reconstruction
from jaxdiff.diffusion.denoiser import Denoiser, mean_only, precise
from jaxdiff.diffusion.schedule import Schedule, time_of_logsnr

Trace = Callable[[Callable[[Array], Array], Array], tuple[Array, Array]]  # (f, x) -> f(x), trace


class Density(NamedTuple):
    """log p(x0) in nats and its parts, [b] each: equation (45).

    `prior_kl` is KL(q(x_1 | x0) ‖ N(0, sigma_1²)). Its mean over data is at least the KL from the
    data's own law of x_1 to that prior: the nats that an exact flow loses by the prior alone.
    """

    log_prob: Array
    log_prior: Array  # log p_1(x_1)
    log_det: Array  # log |det ∂x_1/∂x0|
    prior_kl: Array
    x_1: Array  # [b, ...]


class Estimate(NamedTuple):
    """A mean over data and its standard error."""

    mean: Array
    standard_error: Array


def exact_trace(f: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """f(x) and the trace of ∂f/∂x per example, by as many products as an example has components.

    Each example's f(x) must depend on that example alone.
    """
    y, push = jax.linearize(f, x)
    size = x[0].size

    def entry(i):
        tangent = jnp.zeros((len(x), size), x.dtype).at[:, i].set(1)
        return push(tangent.reshape(x.shape)).reshape(len(x), size)[:, i]

    return y, jnp.sum(jax.lax.map(entry, jnp.arange(size), batch_size=min(size, 64)), axis=0)


def hutchinson(
    keys: Array, probes: int = 1, law: Literal['rademacher', 'gaussian'] = 'rademacher'
) -> Trace:
    """Hutchinson's unbiased estimate, the mean of eᵀ ∂f/∂x e over random `probes` with E eeᵀ = I.

    The probes are the same all along the flow, and each example's come from its own key [b].

    Raises: ValueError for no probes or an unknown law.
    """
    laws = {'rademacher': jax.random.rademacher, 'gaussian': jax.random.normal}
    if probes < 1 or law not in laws:
        raise ValueError(f'probes must be 1 or more and law in {list(laws)}, got {probes=}, {law=}')

    def trace(f, x):
        y, push = jax.linearize(f, x)
        draw = jax.vmap(lambda key: laws[law](key, (probes, *x.shape[1:]), x.dtype), out_axes=1)
        return y, jnp.mean(jax.vmap(lambda e: _sum(e * push(e)))(draw(keys)), axis=0)

    return trace


def log_density(
    denoise: Denoiser,
    schedule: Schedule,
    x0: Array,
    trace: Trace = exact_trace,
    steps: int = 100,
    t_min: float = 1e-5,
    t_max: float = 1.0,
    prior_logp: Callable[[Array], Array] | None = None,
) -> Density:
    """The probability flow's log density of `x0` [b, ...], equation (45); one `lax.scan`.

    Args:
      trace: `exact_trace`, or `hutchinson(keys)` for many dimensions.
      steps: of the Runge–Kutta method, each with four evaluations of the denoiser.
      t_min, t_max: the flow's ends, there must be noise at the first.
      prior_logp: log density of x at t_max, [b, ...] -> [b]; N(0, sigma²) unless given.

    Raises: ValueError for no steps, no noise at `t_min` or t_max ≤ t_min.
    """
    if steps < 1:
        raise ValueError(f'steps must be 1 or more, got {steps=}')
    ask = precise(mean_only(denoise))
    norm, angles, times, speeds = _path(schedule, steps, t_min, t_max, x0.dtype)

    def slope(z, k):
        t, cos, gain = times[k], jnp.cos(angles[k]), speeds[k] / jnp.sin(angles[k])
        scale = jnp.hypot(*schedule(t))
        return trace(lambda z: gain * (cos * z - ask(scale * z, t)), z)

    def step(carry, k):
        z, log_det = carry
        d_1, l_1 = slope(z, k)
        d_2, l_2 = slope(z + d_1 / 2, k + 1)
        d_3, l_3 = slope(z + d_2 / 2, k + 1)
        d_4, l_4 = slope(z + d_3, k + 2)
        z = z + (d_1 + 2 * d_2 + 2 * d_3 + d_4) / 6
        return (z, log_det + (l_1 + 2 * l_2 + 2 * l_3 + l_4) / 6), None

    cos = jnp.cos(angles[0])
    start = cos * x0, jnp.full(len(x0), x0[0].size * jnp.log(norm * cos))
    (z, log_det), _ = jax.lax.scan(step, start, jnp.arange(0, 2 * steps, 2))
    x_1 = norm * z
    if prior_logp is None:
        prior_logp = lambda x: -reconstruction(x, jnp.zeros_like(x), schedule(times[-1])[1])
    log_prior = prior_logp(x_1)
    return Density(log_prior + log_det, log_prior, log_det, prior_kl(schedule, x0, times[-1]), x_1)


def dequantized(
    keys: Array,
    log_prob: Callable[[Array, Array], Array],
    x0: Array,
    width: float,
    draws: int = 1,
    importance_weighted: bool = False,
) -> Array:
    """Log density of discrete data, in nats [b], each value spread evenly over its `width`.

    With u uniform on [−½, ½) in each of D components and m draws of it,

        log P(x0) − D log width  =  log E p(x0 + width u)                                  (48)
                                ≥  E mean_m log p(x0 + width u),

    and the logarithm of the mean over the draws (`importance_weighted`) lies between the two.
    `bits_per_dim` adds the offset D log width.

    Args:
      keys: [b], one per example.
      log_prob: (keys [b], x [b, ...]) -> [b], for instance of `log_density`.
      width: between two neighbouring values, `level_width(levels)`.
    """
    if draws < 1:
        raise ValueError(f'draws must be 1 or more, got {draws=}')

    def draw(i):
        noise, inner = jnp.moveaxis(
            jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys), 1, 0
        )
        uniform = lambda key: jax.random.uniform(key, x0.shape[1:], x0.dtype, -0.5, 0.5)
        return log_prob(inner, x0 + width * jax.vmap(uniform)(noise))

    found = jax.lax.map(draw, jnp.arange(draws))
    if importance_weighted:
        return jax.nn.logsumexp(found, axis=0) - jnp.log(draws)
    return jnp.mean(found, axis=0)


def level_width(levels: int) -> float:
    """The distance between two of `levels` equally spaced values from −1 to 1.

    Data that `codecs.pixels(levels, dequantize=True)` has spread have the width 2 / levels instead.
    """
    return 2 / (levels - 1)


def bits_per_dim(nats: Array, shape: tuple[int, ...], width: float | None = None) -> Estimate:
    """The mean over data of −log₂ p(x0) / D, and its standard error.

    Args:
      nats: [b], −log of a probability (a bound's `total`) or, with `width`, of a density
        (−`log_prob`).
      shape: of the data, [b, ...]: D components each.
      width: of a value of discrete data whose density this is; adds −log₂ width to every example.

    The standard error, from the spread over examples, holds for independent ones; it is NaN for a
    single one. Times from `times.low_discrepancy` make the truth smaller.
    """
    scale = jnp.log(2.0) * math.prod(shape[1:])
    bits = nats / scale - (0.0 if width is None else math.log2(width))
    spread = jnp.std(bits, ddof=1) if len(bits) > 1 else jnp.full((), jnp.nan)
    return Estimate(jnp.mean(bits), spread / len(bits) ** 0.5)


def _path(schedule, steps, t_min, t_max, dtype):
    """hypot(alpha, sigma) at t_max, and at 2 · steps + 1 points φ, t and Δφ as φ^(1/3) steps."""
    ends = falling(schedule, np.array([t_max, t_min]), dtype)[::-1]
    alpha, sigma = schedule(ends)
    first, last = jnp.cbrt(jnp.arctan2(sigma, alpha))
    roots = first + (last - first) * jnp.linspace(0, 1, 2 * steps + 1, dtype=dtype)
    angles = roots**3
    inner = angles[1:-1]
    logsnr = 2 * jnp.log(jnp.cos(inner) / jnp.sin(inner))
    times = jnp.concatenate([ends[:1], time_of_logsnr(schedule, logsnr), ends[1:]])
    return jnp.hypot(alpha, sigma)[1], angles, times, 3 * roots**2 * (last - first) / steps


def _sum(x):
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
