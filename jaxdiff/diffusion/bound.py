"""The variational bound on −log p(x0), in nats per example, its three parts apart.

With snr = alpha² / sigma², times t_0 > t_1 > … > t_n and the belief x̂ at each x_t it is the sum of

    prior           KL(q(x_{t_0} | x0) ‖ N(0, sigma²))  =  snr(t_0) ‖x0‖² / 2,           (39)
    diffusion       Σ_i E KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)),  t = t_{i−1},  s = t_i,   (40)
    reconstruction  −E log p(x0 | x_{t_n}).                                              (41)

The reverse step p is q(x_s | x_t, x̂), equation (8), its log variance raised by r = nu log(sigma_t² /
sigma_s²) where the belief has a learned variance. In each component

    KL = ½ (r + e^(−r) − 1 + e^(−r) (snr(s) − snr(t)) (x0 − x̂)²),                        (42)

which is ½ (snr(s) − snr(t)) (x0 − x̂)² without one. As the steps shrink, (40) falls towards

    −½ ∫ snr'(t) E ‖x0 − x̂‖² dt  =  ½ ∫ (1 + snr) E ‖x0 − x̂‖² dv,   v = log(1 + snr),    (43)

whose second integrand is flat: for standard normal data it is the same at all v. Data on `levels`
equally spaced values from −1 to 1 are read off at t_n by the discretised Gaussian of mean x̂ and of
standard deviation sigma / alpha, that of x0 around x_t / alpha:

    p(x0 = level k | x_t) = Φ((b_{k+1} − x̂) alpha / sigma) − Φ((b_k − x̂) alpha / sigma),  (44)

b being half-way between levels, and ±∞ at the ends. Continuous data (`levels=None`) have the
density of that Gaussian.

References: Ho et al. 2020, arXiv:2006.11239, eqs. 5 and 13; Kingma et al. 2021, arXiv:2107.00630,
eqs. 11–18; Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr

from jaxdiff.diffusion import denoiser
from jaxdiff.diffusion.denoiser import Denoiser, precise
from jaxdiff.diffusion.gaussian import gaussian
from jaxdiff.diffusion.schedule import Schedule, broadcast, logsnr, time_of_logsnr


class Bound(NamedTuple):
    """The parts of the bound, in nats, [b] each: equations (39), (40) and (41)."""

    prior: Array
    diffusion: Array
    reconstruction: Array

    @property
    def total(self) -> Array:
        """The bound itself: at least −log p(x0) on average over the noise."""
        return self.prior + self.diffusion + self.reconstruction


def discrete(
    keys: Array,
    denoise: Denoiser,
    schedule: Schedule,
    x0: Array,
    times: Array,
    levels: int | None = None,
    u: Array | None = None,
) -> Bound:
    """The bound of a chain of steps, with one draw of the noise per step.

    Args:
      keys: [b], one per example.
      denoise: (x_t, t) -> belief about x0, plain or `Learned`.
      x0: data, [b, ...].
      times: [n + 1], descending, the last of them still with noise: the data are read off there.
        DDPM's own bound has `grid.uniform(1000)[:-1]`.
      levels: how many equally spaced values from −1 to 1 the data take; None for a density.
      u: [b] numbers in [0, 1), from `jaxdiff.diffusion.times`: each example's one random step, and
        `diffusion` an unbiased estimate from it. None sums over all steps.

    Raises: ValueError where there is no step, or no noise at the last time.
    """
    times = falling(schedule, times, x0.dtype)
    denoise, n = precise(denoise), len(times) - 1

    def step(i):
        t, s = times[i], times[i + 1]
        x_t = _corrupt(schedule, keys, i, x0, t)
        return posterior_kl(schedule, x0, denoise(x_t, t), t, s)

    if u is None:
        start = jnp.zeros(len(x0), x0.dtype)
        total, _ = jax.lax.scan(lambda sum, i: (sum + step(i), None), start, jnp.arange(n))
    else:
        total = n * step(jnp.minimum(jnp.floor(u * n).astype(int), n - 1))
    return Bound(
        prior_kl(schedule, x0, times[0]),
        total,
        _reconstruction(keys, n, denoise, schedule, x0, times[-1], levels),
    )


def continuous(
    keys: Array,
    denoise: Denoiser,
    schedule: Schedule,
    x0: Array,
    u: Array,
    levels: int | None = None,
    t_min: float = 1e-5,
    t_max: float = 1.0,
) -> Bound:
    """The bound of infinitely many steps between two times, from one random time per example.

    Args:
      keys: [b], one per example.
      denoise: (x_t, t) -> belief about x0; a learned variance plays no part in the limit.
      x0: data, [b, ...].
      u: [b] numbers in [0, 1), `times.independent` or `times.low_discrepancy`: the times are spread
        evenly in v of equation (43), and `diffusion` is an unbiased estimate of it.
      levels: how many equally spaced values from −1 to 1 the data take; None for a density.

    Raises: ValueError where there is no noise at `t_min` or t_max ≤ t_min.
    """
    t_max, t_min = falling(schedule, np.array([t_max, t_min]), x0.dtype)
    denoise = precise(denoise)
    first, last = (jnp.logaddexp(0, logsnr(schedule, t)) for t in (t_max, t_min))
    v = first + (last - first) * u
    t = time_of_logsnr(schedule, v + jnp.log(-jnp.expm1(-v)))
    belief = denoiser.mean(denoise(_corrupt(schedule, keys, 0, x0, t), t))
    return Bound(
        prior_kl(schedule, x0, t_max),
        (last - first) / 2 * jnp.exp(v) * _sum((x0 - belief) ** 2),
        _reconstruction(keys, 1, denoise, schedule, x0, t_min, levels),
    )


def prior_kl(schedule: Schedule, x0: Array, t: Array = 1.0) -> Array:
    """Equation (39), [b]: what is lost by starting from N(0, sigma²) at t, at sigma's true scale."""
    alpha, sigma = schedule(t)
    return (alpha / sigma) ** 2 / 2 * _sum(x0**2)


def posterior_kl(schedule: Schedule, x0: Array, belief: Any, t: Array, s: Array) -> Array:
    """KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)), s < t, equation (42), [b].

    `Learned(x0, ones)` gives the bound of DDPM's 'large' variance.
    """
    fall = logsnr(schedule, t) - logsnr(schedule, s)
    (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    distance = broadcast(-((alpha_s / sigma_s) ** 2) * jnp.expm1(fall), x0)
    kl = distance * (x0 - denoiser.mean(belief)) ** 2
    if isinstance(belief, denoiser.Learned):
        r = belief.nu * broadcast(2 * jnp.log(sigma_t / sigma_s), x0)
        kl = jnp.exp(-r) * kl + r + jnp.expm1(-r)
    return _sum(kl) / 2


def reconstruction(x0: Array, mean: Array, std: Array, levels: int | None = None) -> Array:
    """−log p(x0 | x_t) for a Gaussian belief about x0, [b]: equation (44), or its density.

    Args:
      x0: data, [b, ...]; with `levels` each component stands for the level nearest to it.
      mean: [b, ...].
      std: a scalar or [b].

    Raises: ValueError for fewer than two levels.
    """
    std = broadcast(std, x0)
    if levels is None:
        return _sum(((x0 - mean) / std) ** 2 / 2 + jnp.log(std) + jnp.log(2 * jnp.pi) / 2)
    if levels < 2:
        raise ValueError(f'levels must be 2 or more, got {levels=}')
    k = jnp.clip(jnp.round((x0 + 1) / 2 * (levels - 1)), 0, levels - 1)
    low = jnp.where(k > 0, ((2 * k - 1) / (levels - 1) - 1 - mean) / std, -jnp.inf)
    high = jnp.where(k < levels - 1, ((2 * k + 1) / (levels - 1) - 1 - mean) / std, jnp.inf)
    return -_sum(_log_interval(low, high))


def falling(schedule: Schedule, times: Array, dtype: Any) -> Array:
    """The times as an array [n + 1]; those that are known must fall and end with sigma > 0."""
    if jnp.ndim(times) != 1 or len(times) < 2:
        raise ValueError(f'times must be a vector of two or more, got shape {jnp.shape(times)}')
    if not isinstance(times, jax.core.Tracer):
        times = np.asarray(times)
        if np.any(np.diff(times) >= 0):
            raise ValueError(f'times must fall, got {times}')
        with jax.ensure_compile_time_eval():
            sigma = schedule(times[-1])[1]
        if not isinstance(sigma, jax.core.Tracer) and not np.asarray(sigma) > 0:
            raise ValueError(f'there must be noise left at the last time, got t = {times[-1]}')
    return jnp.asarray(times, dtype)


def _log_interval(low, high):
    """log(Φ(high) − Φ(low)), taken in the lower tail, where it doesn't cancel."""
    flip = low + high > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    upper = log_ndtr(high)
    return upper + jnp.log(-jnp.expm1(log_ndtr(low) - upper))


def _reconstruction(keys, i, denoise, schedule, x0, t, levels):
    alpha, sigma = schedule(t)
    belief = denoise(_corrupt(schedule, keys, i, x0, t), t)
    return reconstruction(x0, denoiser.mean(belief), sigma / alpha, levels)


def _corrupt(schedule, keys, i, x0, t):
    """x_t with noise of its own for each example and step; i and t are scalars or [b]."""
    folded = jax.vmap(jax.random.fold_in, (0, 0 if jnp.ndim(i) else None))(keys, i)
    draw = jax.vmap(gaussian(schedule).corrupt, (0, 0, 0 if jnp.ndim(t) else None))
    return draw(folded, x0, t)[0]


def _sum(x):
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
