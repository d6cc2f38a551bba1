import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdiff.diffusion import gaussian, schedule

SCHEDULES = {'cosine': schedule.cosine(), 'ddpm_linear': schedule.ddpm_linear()}


@pytest.fixture(params=SCHEDULES)
def make(request):
    return SCHEDULES[request.param]


@pytest.mark.usefixtures('x64')
def test_the_chains_steps_compose_to_the_marginal(make):
    times = np.linspace(0, 1, 101)
    scale, variance = 1.0, 0.0
    for s, t in zip(times[:-1], times[1:]):
        step, noise = gaussian.transition_moments(make, 1.0, s, t)
        scale, variance = scale * step, variance * step**2 + noise
        alpha, sigma = make(t)
        np.testing.assert_allclose([scale, variance], [alpha, sigma**2], atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_posterior_is_bayes_rule(make):
    """q(x_s | x_t, x0) ∝ q(x_t | x_s) q(x_s | x0), by quadrature."""
    x0, x_t, s, t = 0.7, -0.4, 0.35, 0.6
    grid = np.linspace(-8, 8, 40001)
    alpha, sigma = make(s)
    mean_t, variance_t = gaussian.transition_moments(make, grid, s, t)
    density = stats.norm.pdf(grid, alpha * x0, sigma) * stats.norm.pdf(x_t, mean_t, variance_t**0.5)
    density /= density.sum()
    mean = (grid * density).sum()
    variance = ((grid - mean) ** 2 * density).sum()
    found = gaussian.posterior_moments(make, x_t, x0, t, s)
    np.testing.assert_allclose(found, (mean, variance), rtol=1e-8)


@pytest.mark.usefixtures('x64')
def test_the_posterior_averaged_over_x_t_is_the_marginal(make):
    x0, s, t = 0.7, 0.35, 0.6
    (alpha_s, sigma_s), (alpha_t, sigma_t) = make(s), make(t)
    mean, variance = gaussian.posterior_moments(make, alpha_t * x0, x0, t, s)
    slope = gaussian.posterior_moments(make, 1.0, 0.0, t, s)[0]
    np.testing.assert_allclose(mean, alpha_s * x0, rtol=1e-12)
    np.testing.assert_allclose(variance + slope**2 * sigma_t**2, sigma_s**2, rtol=1e-12)


def test_the_posterior_at_the_ends(make):
    x_t, x0 = jnp.array([0.3, -1.0]), jnp.array([0.5, 0.1])
    mean, variance = gaussian.posterior_moments(make, x_t, x0, 0.4, 0.0)
    np.testing.assert_array_equal(mean, x0)
    assert variance == 0
    mean, variance = gaussian.posterior_moments(schedule.cosine(), x_t, x0, 1.0, 0.5)
    alpha, sigma = schedule.cosine()(0.5)  # from alpha = 0 the posterior is the marginal
    np.testing.assert_allclose(mean, alpha * x0, rtol=1e-5)
    np.testing.assert_allclose(variance, sigma**2, rtol=1e-6)


def test_variances_stay_positive_between_close_times_in_single_precision(make):
    s = jnp.linspace(0.1, 0.9, 500, dtype=jnp.float32)
    moments = jax.vmap(lambda s, t: gaussian.transition_moments(make, jnp.float32(1), s, t))
    for step in (2**-23, 2**-20, 0.05):
        assert np.all(moments(s, s + jnp.float32(step))[1] >= 0)
    s, t = np.float32(0.5), np.float32(0.5) + np.float32(2**-12)
    single = gaussian.transition_moments(make, jnp.float32(1), s, t)[1]
    with jax.enable_x64(True):
        (alpha_s, sigma_s), (alpha_t, sigma_t) = make(np.float64(s)), make(np.float64(t))
        exact = sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2
    assert float(single) == pytest.approx(float(exact), rel=1e-3)


def test_the_process_draws_what_its_moments_say(make):
    process, n = gaussian.gaussian(make), 200_000
    keys = jax.random.split(jax.random.key(0), 4)
    x0 = jnp.full(n, 0.8)
    x_s, eps = process.corrupt(keys[0], x0, 0.3)
    alpha, sigma = make(0.3)
    np.testing.assert_allclose(x_s, alpha * x0 + sigma * eps, rtol=1e-6)
    x_t = process.transition(keys[1], x_s, 0.3, 0.7)
    alpha_t, sigma_t = make(0.7)
    again = process.posterior(keys[2], x_t, x0, 0.7, 0.3)
    x_1 = process.prior(keys[3], (n,))
    for x, mean, std in (
        (eps, 0, 1),
        (x_t, alpha_t * 0.8, sigma_t),
        (again, alpha * 0.8, sigma),
        (x_1, 0, make(1.0)[1]),
    ):
        assert abs(x.mean() - mean) < 4 * std / n**0.5
        assert abs(x.std() - std) < 4 * std / (2 * n) ** 0.5


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('i', [1, 2, 500, 1000])
def test_the_reverse_mean_in_ddpms_own_letters(i):
    """Ho et al. 2020, eq. 11: (x_t − β / sqrt(1 − ᾱ) eps) / sqrt(1 − β), with the factor on eps.

    Without that factor the data would not come back in the first step.
    """
    betas = np.linspace(1e-4, 0.02, 1000)
    bar = np.cumprod(1 - betas)[i - 1]
    x_t, eps, beta = 0.7, -0.4, betas[i - 1]
    x0 = (x_t - np.sqrt(1 - bar) * eps) / np.sqrt(bar)
    found, _ = gaussian.posterior_moments(schedule.ddpm_linear(), x_t, x0, i / 1000, (i - 1) / 1000)
    expected = (x_t - beta / np.sqrt(1 - bar) * eps) / np.sqrt(1 - beta)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    if i == 1:
        np.testing.assert_allclose(expected, x0, rtol=1e-9)
        assert abs((x_t - beta * eps) / np.sqrt(1 - beta) - x0) > 1e-3
