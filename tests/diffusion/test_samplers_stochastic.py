"""Stochastic Gaussian samplers against laws that are known.

The samples of a mixture of three Gaussians are judged with no allowance for a sampler's bias: grid
and number of steps are such that it is smaller than the standard error of 200,000 samples (0.3 % of
a variance), as the closed form for one Gaussian and the fall of the error with the steps show.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, exact, grid, prediction, samplers, schedule
from jaxdiff.diffusion.samplers import Sampler, State
from jaxdiff.evaluation.convergence import MEANS, STDS, WEIGHTS

W, M, V = np.array(WEIGHTS), np.array(MEANS), np.array(STDS) ** 2
N = 200_000
COSINE, VP, FLOW = schedule.cosine(), schedule.vp(), schedule.flow()
VE = schedule.ve(sigma_min=0.01, sigma_max=50.0)
FAST = {'xla_backend_optimization_level': '3'}  # long walks; conftest compiles for few steps


# --- the mixture: its denoiser, its walks and the z scores of its samples ------------------------


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


def walk(make, sampler, denoise, times, n=N, scale=None):
    """n samples [n / 100, 2, 100] from the prior N(0, sigma²) at the grid's start; seed 0."""
    keys = jax.random.split(jax.random.key(0), n // 100)

    def run(keys, times):
        prior = make(times[0])[1] if scale is None else scale
        x_1 = prior * jax.random.normal(jax.random.key(1), (n // 100, 2, 100))
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


def test_the_fast_denoiser_is_the_exact_one():
    x = 2 * jax.random.normal(jax.random.key(0), (5, 2, 7))
    for t in (1.0, 0.5, 0.01):
        expected = exact.mixture(COSINE, WEIGHTS, MEANS, STDS)(x.swapaxes(1, 2).reshape(-1, 2), t)
        found = mixture(COSINE)(x, t).swapaxes(1, 2).reshape(-1, 2)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_judge_accepts_the_truth_and_sees_one_percent():
    rng = np.random.default_rng(0)
    component = rng.choice(3, N, p=W)
    x = M[component] + np.sqrt(V)[component, None] * rng.standard_normal((N, 2))
    x = x.reshape(-1, 100, 2).swapaxes(1, 2)
    assert np.all(np.abs(z_scores(x)) < 4)
    assert np.abs(z_scores(x * 1.01)[2:5]).max() > 4
    assert np.abs(z_scores(x + 0.01)[:2]).min() > 4


def case(name):
    """(schedule, sampler, denoiser, times) of a walk to the data."""
    return {
        'ddpm': lambda: (COSINE, samplers.ddpm(COSINE), mixture(COSINE), even_noise(COSINE, 1500)),
        'ddpm_large': lambda: (
            COSINE,
            samplers.ddpm(COSINE, 'large'),
            mixture(COSINE),
            grid.uniform(1000),
        ),
        'ddpm_learned': lambda: (
            COSINE,
            samplers.ddpm(COSINE, 'learned'),
            mixture_learned(COSINE, 200),
            grid.uniform(200),
        ),
        'ddim_half': lambda: (
            COSINE,
            samplers.ddim(COSINE, 0.5),
            mixture(COSINE),
            grid.uniform(2000),
        ),
        'ddim_one': lambda: (
            COSINE,
            samplers.ddim(COSINE, 1.0),
            mixture(COSINE),
            even_noise(COSINE, 1500),
        ),
        'dpmpp_2m_sde': lambda: (
            COSINE,
            samplers.dpmpp_2m_sde(COSINE),
            mixture(COSINE),
            even_noise(COSINE, 400),
        ),
        'dpmpp_2m_sde_ve': lambda: (
            VE,
            samplers.dpmpp_2m_sde(VE),
            mixture(VE),
            even_noise(VE, 400),
        ),
        'heun_stochastic': lambda: (
            VP,
            samplers.heun_stochastic(VP, churn=40),
            mixture(VP),
            grid.karras(VP, 200, sigma_max=150.0),
        ),
        'heun_stochastic_ve': lambda: (
            VE,
            samplers.heun_stochastic(VE, churn=40),
            mixture(VE),
            grid.karras(VE, 200, sigma_max=50.0),
        ),
        'euler_maruyama': lambda: (
            COSINE,
            samplers.euler_maruyama(COSINE),
            mixture(COSINE),
            grid.uniform(1000),
        ),
        'euler_maruyama_flow': lambda: (
            FLOW,
            samplers.euler_maruyama(FLOW),
            mixture(FLOW),
            grid.uniform(1500),
        ),
        'euler_maruyama_ve': lambda: (
            VE,
            samplers.euler_maruyama(VE),
            mixture(VE),
            grid.uniform(3000),
        ),
    }[name]()
