"""A mixture of three Gaussians, walked to by stochastic samplers and judged; and one Gaussian.

The samples are judged with no allowance for a sampler's bias.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, grid, samplers, schedule
from jaxdiff.evaluation.convergence import MEANS, STDS, WEIGHTS

W, M, V = np.array(WEIGHTS), np.array(MEANS), np.array(STDS) ** 2
N = 200_000
FAST = {'xla_backend_optimization_level': '1'}  # for long walks: conftest's 0 is five times as slow


def posterior(make, x, t):
    """Of each component at x [b, 2, c]: share, mean and variance of x0.

    `exact.mixture` with the coordinates in front of the samples, ten times as fast on a CPU; the
    barriers keep XLA from computing the exponentials once for each of their uses.
    """
    alpha, sigma = make(t)
    density, mean, variance = [], [], []
    for w, m, v in zip(W.tolist(), M[:, :, None].tolist(), V.tolist(), strict=True):
        total, offset = alpha**2 * v + sigma**2, x - alpha * jnp.array(m, x.dtype)
        density.append(w / total * jnp.exp(-jnp.sum(offset**2, 1, keepdims=True) / (2 * total)))
        mean.append(jnp.array(m, x.dtype) + alpha * v / total * offset)
        variance.append(v * sigma**2 / total)
    density = jax.lax.optimization_barrier(density)
    whole = jax.lax.optimization_barrier(1 / sum(density))
    return [d * whole for d in density], mean, variance


def mixture(make):
    def denoise(x, t):
        shares, means, _ = posterior(make, x, t)
        return sum(r * m for r, m in zip(shares, means, strict=True))

    return denoise


def right_nu(make, t, s, variance):
    """nu for which the step's variance is Var[x_s | x_t], by the law of total variance from Var[x0 | x_t]."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = make(t), make(s)
    fresh = 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2
    small = sigma_s**2 * fresh
    return jnp.log1p((alpha_s * fresh) ** 2 * variance / small) / (2 * jnp.log(sigma_t / sigma_s))


def mixture_learned(make, steps):
    """The mixture's belief with the right nu on `grid.uniform(steps)`."""

    def denoise(x, t):
        shares, means, variances = posterior(make, x, t)
        parts = list(zip(shares, means, variances, strict=True))
        x0 = sum(r * m for r, m, _ in parts)
        variance = sum(r * (m**2 + v) for r, m, v in parts) - x0**2
        return denoiser.Learned(x0, right_nu(make, t, jnp.maximum(t - 1 / steps, 1e-6), variance))

    return denoise


def walk(make, sampler, denoise, times, n=N):
    """n samples [n / 100, 2, 100] from the prior N(0, sigma²) at the grid's start; seed 0."""
    keys = jax.random.split(jax.random.key(0), n // 100)

    def run(keys, times):
        x_1 = make(times[0])[1] * jax.random.normal(jax.random.key(1), (n // 100, 2, 100))
        return diffusion.sample(keys, denoise, sampler, x_1, times)

    return np.asarray(jax.jit(run, compiler_options=FAST)(keys, times))


def errors(x, u=0.0):
    """Mean error of x's moments and weights, and their standard errors, [8] each.

    Two means, the three entries of the covariance about the true mean, three weights; the truth is
    the mixture's with noise of standard deviation u. The weight of a component is the mean of its
    share of the density, whose expectation under the mixture is exactly w. A standard error is that
    of the mean of what is averaged, and so a covariance's comes from fourth moments.
    """
    x, v = np.moveaxis(np.float64(x), 1, 0).reshape(2, -1), V + u**2
    mean = W @ M
    covariance = np.einsum('k,ki,kj', W, M, M) - np.outer(mean, mean) + (W @ v) * np.eye(2)
    density = [
        w / k * np.exp(-np.sum((x - m[:, None]) ** 2, 0) / (2 * k))
        for w, m, k in zip(W, M, v, strict=True)
    ]
    d, rows, columns = x - mean[:, None], [0, 0, 1], [0, 1, 1]
    draws = np.concatenate(
        [
            d,
            d[rows] * d[columns] - covariance[rows, columns][:, None],
            density / np.sum(density, 0) - W[:, None],
        ]
    )
    return draws.mean(1), draws.std(1) / x.shape[1] ** 0.5


def z_scores(x):
    error, standard_error = errors(x)
    return error / standard_error


def even_noise(make, steps, spread=0.3):
    """Equal steps in u / sqrt(u² + spread), u = sigma / alpha, then t = 0.

    For N(m, spread) data a step of size dλ in logsnr costs DDPM's small variance
    dλ² spread² u² / (spread + u²)³ of its final relative variance; these steps make the sum least,
    4 / steps.
    """
    x = np.arange(steps, -1, -1) / steps
    with np.errstate(divide='ignore'):
        times = schedule.time_of_logsnr(make, np.log((1 / x**2 - 1) / spread).astype(np.float32))
    return times.at[0].set(1.0).at[-1].set(0.0)


def karras(make, steps):
    """EDM's grid from the schedule's last level, just below which time is found again."""
    alpha, sigma = make(1.0)
    return grid.karras(make, steps, sigma_max=float(sigma / alpha)).at[0].set(1.0)


def variances(make, sampler, times, v, denoise=None):
    """Var[x] after each step, from Var[x_t] = alpha² v + sigma² at the first time; data N(0, v).

    Each step is linear in x and its noise, x_s = a x_t + c z: a and c are read off steps from
    x = 0 and x = 1 with one key, z being that key's normal number.
    """
    keys = jnp.stack([jax.random.key(3)] * 2)
    z = samplers.normal(keys, jnp.zeros((2, 1)))[0, 0]
    denoise = gaussian(make, v) if denoise is None else denoise

    def step(carry, times_):
        state, variance = carry
        x = jnp.array([[0.0], [1.0]])
        state = sampler.step(keys, state._replace(x=x), *times_, denoise)
        noise, slope = state.x[0, 0] / z, state.x[1, 0] - state.x[0, 0]
        variance = slope**2 * variance + noise**2
        return (state, variance), variance

    alpha, sigma = make(times[0])
    first = sampler.init(jnp.zeros((2, 1)), denoise, times)
    return jax.jit(jax.lax.scan, static_argnums=0)(
        step, (first, alpha**2 * v + sigma**2), (times[:-1], times[1:])
    )[1]


def gaussian(make, v):
    """E[x0 | x_t] of data N(0, v)."""

    def denoise(x, t):
        alpha, sigma = make(t)
        return alpha * v / (alpha**2 * v + sigma**2) * x

    return denoise


def true_variance(make, t, v):
    alpha, sigma = make(t)
    return alpha**2 * v + sigma**2
