"""Consistency models: a function that jumps along the probability flow, learned from its own jumps.

The consistency function f(x_t, t) is the flow's point at t_min through x_t, so that

    f(x_t, t) = f(x_s, s) on one trajectory,    f(x, t_min) = x.                         (51)

The second holds by construction when f is one DDIM step to t_min from the belief D of any network,

    f(x_t, t) = sigma_min/sigma_t x_t − alpha_min expm1((λ_t − λ_min)/2) D(x_t, t).      (52)

The first is learned: for s just before t on a grid, with gradients through the first term alone,

    L(x0, t, s, eps) = d(f(x_t, t), f⁻(x_s, s)),                                         (53)

where x_s is on the trajectory of x_t either by a teacher and one step of a solver (distillation) or,
in the mean over the data, with the same noise, x_s = alpha_s x0 + sigma_s eps (training). The latter
is a DDIM step with the data itself in the place of its mean, whose error in the loss's gradient
vanishes as the steps shrink.

With EDM's prediction and alpha = 1, (52) has the papers' c_out, sd (sigma − sigma_min) /
sqrt(sigma² + sd²), and c_skip = (sd² + sigma sigma_min) / (sigma² + sd²) in the place of
sd² / ((sigma − sigma_min)² + sd²).

References: Song et al. 2023, arXiv:2303.01469; Song and Dhariwal 2023, arXiv:2310.14189.
"""

import math
from collections.abc import Callable

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr, ndtri

from jaxdiff.diffusion.denoiser import Denoiser
from jaxdiff.diffusion.gaussian import gaussian, marginal
from jaxdiff.diffusion.samplers.base import Sampler
from jaxdiff.diffusion.schedule import Schedule, broadcast, logsnr, time_of_logsnr

Metric = Callable[[Array, Array], Array]  # (x [b, ...], y [b, ...]) -> [b]


def function(denoise: Denoiser, schedule: Schedule, t_min: float) -> Denoiser:
    """The consistency function that a denoiser makes, equation (52); f(x, t_min) = x.

    Raises: ValueError where t_min is not between 0 and 1.
    """
    if not 0 < t_min < 1:
        raise ValueError(f't_min must lie between 0 and 1, got {t_min=}')

    def f(x_t, t):
        end = jnp.full_like(t, t_min)
        (alpha_min, sigma_min), (_, sigma_t) = schedule(end), schedule(t)
        c_0 = -alpha_min * jnp.expm1((logsnr(schedule, t) - logsnr(schedule, end)) / 2)
        kept = broadcast(sigma_min / sigma_t, x_t) * x_t
        return kept + broadcast(c_0, x_t) * denoise(x_t, t)

    return f


def squared(x: Array, y: Array) -> Array:
    """The mean of (x − y)² over an example's components."""
    return jnp.mean((x - y) ** 2, axis=tuple(range(1, x.ndim)))


def pseudo_huber(c: float | None = None) -> Metric:
    """sqrt(‖x − y‖² + c²) − c; without `c` it is 0.00054 sqrt(components).

    References: Song and Dhariwal 2023, arXiv:2310.14189, table 1.
    """
    if c is not None and c <= 0:
        raise ValueError(f'c must be above 0, got {c=}')

    def metric(x, y):
        square = jnp.sum((x - y) ** 2, axis=tuple(range(1, x.ndim)))
        width = 0.00054 * (x.size / len(x)) ** 0.5 if c is None else c
        return square / (jnp.sqrt(square + width**2) + width)

    return metric


def training(
    keys: Array,
    f: Denoiser,
    target: Denoiser,
    x0: Array,
    t: Array,
    s: Array,
    schedule: Schedule,
    metric: Metric = squared,
) -> Array:
    """Equation (53) without a teacher, [b]: x_t and x_s share their noise.

    Args:
      keys: [b], one per example.
      f: the consistency function.
      target: f⁻, the same with averaged parameters (2303.01469) or f itself (2310.14189); no
        gradient passes through it.
      x0: data [b, ...].
      t, s: [b], neighbours on a grid, s < t: `karras_pairs`.

    References: Song et al. 2023, arXiv:2303.01469, algorithm 3.
    """
    x_t, eps = jax.vmap(gaussian(schedule).corrupt)(keys, x0, t)
    x_s = marginal(schedule, x0, eps, s)
    return metric(f(x_t, t), jax.lax.stop_gradient(target(x_s, s)))


def distillation(
    keys: Array,
    f: Denoiser,
    target: Denoiser,
    x0: Array,
    t: Array,
    s: Array,
    schedule: Schedule,
    teacher: Denoiser,
    sampler: Sampler,
    metric: Metric = squared,
) -> Array:
    """Equation (53) with a teacher, [b]: x_s is one step of `sampler` from x_t.

    Args:
      teacher: a denoiser, asked with times [b].
      sampler: a deterministic one, such as `samplers.heun(schedule)`.

    The others are those of `training`.

    References: Song et al. 2023, arXiv:2303.01469, algorithm 2.
    """
    x_t, _ = jax.vmap(gaussian(schedule).corrupt)(keys, x0, t)
    x_s = jax.lax.stop_gradient(solve(keys, sampler, teacher, x_t, t, s))
    return metric(f(x_t, t), jax.lax.stop_gradient(target(x_s, s)))


def solve(
    keys: Array, sampler: Sampler, denoise: Denoiser, x_t: Array, t: Array, s: Array
) -> Array:
    """One step of a sampler for each example [b], from its own t [b] to its own s [b].

    A sampler's step takes one time, so each example is stepped on its own, by `jax.vmap`; all their
    questions reach the denoiser as one batch, so that it may know the examples' conditions.
    """

    # What the denoiser knows, its parameters and conditions, is handed along as arguments: a branch
    # of a sampler's step can't take it in by itself.
    asked = jax.make_jaxpr(denoise)(x_t, t)

    @jax.custom_batching.custom_vmap
    def ask(x, t, *known):
        return jnp.zeros_like(x)  # the shape and dtype of an answer; never computed

    @ask.def_vmap
    def ask_all(size, mapped, x, t, *known):
        x, t = (
            a if there else jnp.broadcast_to(a, (size, *a.shape))
            for a, there in zip((x, t), mapped)
        )
        known = (a[0] if there else a for a, there in zip(known, mapped[2:]))  # all are the same
        (x0,) = jax.core.eval_jaxpr(asked.jaxpr, tuple(known), x, t)
        return x0, True

    def one(key, x, t, s):
        alone = lambda x, t: ask(x[0], t, *asked.consts)[None]
        state = sampler.init(x[None], alone, jnp.stack([t, s]))
        return sampler.step(key[None], state, t, s, alone).x[0]

    return jax.vmap(one)(keys, x_t, t, s)


def karras_pairs(
    u: Array,
    steps: Array,
    schedule: Schedule,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    log_normal: tuple[float, float] | None = None,
) -> tuple[Array, Array]:
    """(t, s), neighbours among the steps + 1 times of `grid.karras(..., to_zero=False)`.

    Each pair is as probable as another or, with `log_normal` = (mean, std) of log noise level, as
    probable as such a level, cut to the grid, is to lie between the two (the paper's are −1.1, 2).

    Args:
      u: [b], uniform on [0, 1).
      steps: of the grid; it may be traced, so that a growing number compiles once.

    References: Karras et al. 2022, arXiv:2206.00364, eq. 5; Song and Dhariwal 2023,
    arXiv:2310.14189, table 1.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    if log_normal is not None:
        mean, std = log_normal
        first, last = (ndtr((jnp.log(x) - mean) / std) for x in (sigma_min, sigma_max))
        level = jnp.exp(mean + std * ndtri(first + u * (last - first)))
        u = (level ** (1 / rho) - low) / (high - low)
    i = jnp.clip(jnp.floor(u * steps), 0, steps - 1)

    def time(i):
        return time_of_logsnr(schedule, -2 * rho * jnp.log(low + (high - low) * (i / steps)))

    return time(i + 1), time(i)


def inverse_gap(schedule: Schedule, t: Array, s: Array) -> Array:
    """1 / (the distance of two noise levels sigma / alpha), [b]: improved training's weight.

    References: Song and Dhariwal 2023, arXiv:2310.14189, table 1.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    return 1 / (sigma_t / alpha_t - sigma_s / alpha_s)


def growing_steps(k: Array, total: int, first: int = 2, last: int = 150) -> Array:
    """Grid steps at training step k of `total`: ⌈sqrt(k/total ((last + 1)² − first²) + first²)⌉ − 1.

    References: Song et al. 2023, arXiv:2303.01469, appendix C (its N counts times, one more).
    """
    square = k / total * ((last + 1) ** 2 - first**2) + first**2
    return jnp.ceil(jnp.sqrt(square)).astype(int) - 1


def doubling_steps(k: Array, total: int, first: int = 10, last: int = 1280) -> Array:
    """Grid steps at training step k of `total`: they double at equal intervals, first … last.

    References: Song and Dhariwal 2023, arXiv:2310.14189, table 1 (its N counts times, one more).
    """
    if not 0 < first <= last:
        raise ValueError(f'first must be above 0 and at most last, got {first=}, {last=}')
    stage = max(int(total // (math.log2(last // first) + 1)), 1)
    return jnp.minimum(first * 2 ** (jnp.asarray(k) // stage), last)


def target_decay(steps: Array, first: int = 2, decay: float = 0.95) -> Array:
    """The decay of the target's moving average: decay^(first / (steps + 1)).

    References: Song et al. 2023, arXiv:2303.01469, appendix C.
    """
    return decay ** (first / (steps + 1))
