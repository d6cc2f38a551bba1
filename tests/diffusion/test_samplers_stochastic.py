"""Stochastic Gaussian samplers against laws that are known.

The samples of a mixture of three Gaussians are judged with no allowance for a sampler's bias: grid
and number of steps are such that it is smaller than the standard error of 200,000 samples (0.3 % of
a variance), as the closed form for one Gaussian and the fall of the error with the steps show.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture_data import (
    MEANS,
    STDS,
    WEIGHTS,
    M,
    N,
    V,
    W,
    errors,
    even_noise,
    gaussian,
    karras,
    mixture,
    mixture_learned,
    true_variance,
    variances,
    walk,
    z_scores,
)

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, grid, samplers, schedule
from jaxdiff.diffusion.samplers import State

COSINE, VP, FLOW = schedule.cosine(), schedule.vp(), schedule.flow()
VE = schedule.ve(sigma_min=0.01, sigma_max=50.0)


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
    assert np.abs(z_scores(x + 0.02)[:2]).min() > 4


WALKS = {  # name: (schedule, sampler, steps); a denoiser and a grid of their own where they differ
    'ddpm': (COSINE, samplers.ddpm, even_noise(COSINE, 1500)),
    'ddpm_large': (COSINE, lambda make: samplers.ddpm(make, 'large'), grid.uniform(700)),
    'ddpm_learned': (COSINE, lambda make: samplers.ddpm(make, 'learned'), grid.uniform(200)),
    'ddim_half': (COSINE, lambda make: samplers.ddim(make, 0.5), grid.uniform(1500)),
    'ddim_one': (COSINE, lambda make: samplers.ddim(make, 1.0), even_noise(COSINE, 1500)),
    'dpmpp_2m_sde': (COSINE, samplers.dpmpp_2m_sde, even_noise(COSINE, 400)),
    'heun_stochastic': (VP, lambda make: samplers.heun_stochastic(make, 20), karras(VP, 300)),
    'euler_maruyama': (COSINE, samplers.euler_maruyama, grid.uniform(700)),
    've_heun_stochastic': (VE, lambda make: samplers.heun_stochastic(make, 20), karras(VE, 300)),
    've_dpmpp_2m_sde': (VE, samplers.dpmpp_2m_sde, even_noise(VE, 400)),
    've_euler_maruyama': (VE, samplers.euler_maruyama, grid.uniform(3000)),
    'flow_euler_maruyama': (FLOW, samplers.euler_maruyama, grid.uniform(1500)),
}
LONG = ['ddim_one', 've_dpmpp_2m_sde', 've_euler_maruyama', 'flow_euler_maruyama']


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in WALKS]
)
def test_samples_have_the_mixtures_mean_covariance_and_weights(name):
    """Within four standard errors of 200,000 samples, and nothing for the sampler's own error.

    cosine() starts at alpha = 0, where its prior is exact. VP and VE start at sigma / alpha = 150
    and 50, where the data move the prior by less than 1/50 of its width; what is left of that at
    t = 0 is below a tenth of a standard error.
    """
    make, sampler, times = WALKS[name]
    learned = name == 'ddpm_learned'
    denoise = mixture_learned(make, len(times) - 1) if learned else mixture(make)
    z = z_scores(walk(make, sampler(make), denoise, times))
    assert np.all(np.abs(z) < 4), z


def test_the_error_falls_as_steps_are_added():
    """DDPM's covariance against the number of steps: 4 / steps, see `even_noise`, until noise hides it."""
    steps = [10, 40, 160]
    runs = [
        errors(walk(COSINE, samplers.ddpm(COSINE), mixture(COSINE), even_noise(COSINE, n)))
        for n in steps
    ]
    error = np.array([-(e[2] + e[4]) / 2 for e, _ in runs])
    assert np.all(error[1:] < error[:-1] / 3), error
    assert np.all(np.abs(error[1:] * steps[1:] / 0.79 - 4) < 1), error * steps


ORDERS = {
    'ddpm': (samplers.ddpm, 1),
    'ddpm_large': (lambda make: samplers.ddpm(make, 'large'), 1),
    'ddim_half': (lambda make: samplers.ddim(make, 0.5), 1),
    'euler_maruyama': (samplers.euler_maruyama, 1),
    'heun_stochastic': (lambda make: samplers.heun_stochastic(make, churn=8), 2),
}


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [VP, VE, FLOW], ids=['vp', 've', 'flow'])
@pytest.mark.parametrize('name', ORDERS)
def test_the_variance_converges_with_the_samplers_order(name, make):
    sampler, order = ORDERS[name]
    t, s, v = 0.8, 0.2, 0.36
    error = [
        abs(
            variances(make, sampler(make), grid.uniform(n, t, s), v)[-1] - true_variance(make, s, v)
        )
        for n in (64, 128, 256)
    ]
    slopes = np.log2(np.divide(error[:-1], error[1:]))
    assert np.all(slopes >= order - 0.25), (error, slopes)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [COSINE, FLOW], ids=['cosine', 'flow'])
def test_euler_maruyama_converges_from_alpha_zero_to_the_data(make):
    error = [
        abs(variances(make, samplers.euler_maruyama(make), grid.uniform(n), 0.36)[-1] / 0.36 - 1)
        for n in (64, 128, 256)
    ]
    slopes = np.log2(np.divide(error[:-1], error[1:]))
    assert np.all(slopes > 0.75) and error[-1] < 0.02, (error, slopes)


@pytest.mark.usefixtures('x64')
def test_euler_maruyama_is_the_papers_step():
    """dx = −beta/2 x dt + sqrt(beta) dW has the reverse drift −beta/2 x − beta score (VP, eq. 33)."""
    t, s, x = 0.6, 0.57, jnp.linspace(-1, 2, 6).reshape(2, 3)
    keys = jax.random.split(jax.random.key(0), 2)
    found = samplers.euler_maruyama(VP).step(keys, State(x, 0), t, s, gaussian(VP, 0.36)).x
    beta, score = 0.1 + 19.9 * t, -x / true_variance(VP, t, 0.36)
    drift = -beta / 2 * x - beta * score
    expected = x + (s - t) * drift + np.sqrt(beta * (t - s)) * samplers.normal(keys, x)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize('make', [COSINE, FLOW], ids=['cosine', 'flow'])
def test_euler_maruyama_forgets_where_alpha_is_zero(make):
    x, keys = jnp.array([[3.0, -4.0]]), jax.random.split(jax.random.key(0), 1)
    denoise = lambda x, t: jnp.full_like(x, 0.3)
    found = samplers.euler_maruyama(make).step(keys, State(x, 0), 1.0, 0.9, denoise).x
    alpha, sigma = make(0.9)
    np.testing.assert_allclose(found, alpha * 0.3 + sigma * samplers.normal(keys, x), rtol=1e-6)


def algorithm_2(denoise, y, levels, z, churn, s_min, s_max, noise):
    """Karras et al. 2022, algorithm 2, as printed; `denoise(y, u)`, z [steps, ...]."""
    steps = len(levels) - 1
    for i in range(steps):
        gamma = min(churn / steps, 2**0.5 - 1) if s_min <= levels[i] <= s_max else 0
        u = levels[i] + gamma * levels[i]
        y_hat = y + np.sqrt(u**2 - levels[i] ** 2) * noise * z[i]
        d = (y_hat - denoise(y_hat, u)) / u
        y = y_hat + (levels[i + 1] - u) * d
        if levels[i + 1] != 0:
            d_next = (y - denoise(y, levels[i + 1])) / levels[i + 1]
            y = y_hat + (levels[i + 1] - u) * (d + d_next) / 2
    return y


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('churn', [3.0, 40.0])  # below and above the cap of gamma, at 12 steps
@pytest.mark.parametrize('make', [schedule.edm(), VP, FLOW], ids=['edm', 'vp', 'flow'])
def test_heun_stochastic_is_the_papers_algorithm(make, churn):
    settings = dict(churn=churn, s_min=0.05, s_max=4.0, noise=1.007)
    times, y = grid.karras(make, 12, sigma_min=0.02, sigma_max=9.0), jnp.linspace(-9, 9, 8)
    y = y.reshape(4, 2)
    keys = jax.random.split(jax.random.key(0), 4)
    z = [samplers.normal(jax.vmap(jax.random.fold_in, (0, None))(keys, i), y) for i in range(12)]
    alphas, sigmas = make(times)
    means, stds = np.array([[0.3, -0.2], [-1.0, 0.5]]), [0.5, 0.3]
    unit = exact.mixture(schedule.edm(1.0), [0.4, 0.6], means, stds)
    expected = algorithm_2(unit, y, np.asarray(sigmas / alphas), z, **settings)
    denoise = exact.mixture(make, [0.4, 0.6], means, stds)
    sampler = samplers.heun_stochastic(make, **settings)
    walked, _ = diffusion.run(keys, denoise, sampler, y * alphas[0], times)
    np.testing.assert_allclose(walked.x, expected, atol=1e-7)
    assert walked.nfe == 2 * 12 - 1


@pytest.mark.usefixtures('x64')
def test_without_churn_heun_stochastic_is_heun():
    keys, x = jax.random.split(jax.random.key(0), 3), jnp.linspace(-1, 1, 6).reshape(3, 2)
    times, denoise = grid.uniform(6, 0.9), gaussian(VP, 0.36)
    heun = diffusion.run(keys, denoise, samplers.heun(VP), x, times, lambda s: s.x)
    none = samplers.heun_stochastic(VP, churn=0)
    np.testing.assert_array_equal(
        diffusion.run(keys, denoise, none, x, times, lambda s: s.x)[1], heun[1]
    )
    outside = samplers.heun_stochastic(VP, churn=40, s_min=1e3)  # levels that aren't raised
    state, frames = diffusion.run(keys, denoise, outside, x, times, lambda s: s.x)
    np.testing.assert_allclose(frames, heun[1], rtol=1e-12)
    assert state.nfe == heun[0].nfe == 11


def test_the_level_is_not_raised_above_the_schedules_last():
    """From t = 1 no noise is added, and the walk is as good as without."""
    make, asked = schedule.edm(5.0), []
    denoise = lambda x, t: (jax.debug.callback(lambda t: asked.append(float(t)), t), 0.2 * x)[1]
    keys, x = jax.random.split(jax.random.key(0), 1), jnp.ones((1, 2))
    sampler = samplers.heun_stochastic(make, churn=4)
    diffusion.sample(keys, denoise, sampler, x, jnp.array([1.0, 0.9, 0.5, 0.2, 0.0]))
    jax.effects_barrier()
    # gamma = sqrt(2) − 1: 0.9 is raised as far as 1, 0.5 and 0.2 by sqrt(2)
    expected = [1.0, 0.9, 1.0, 0.5, 0.5 * 2**0.5, 0.2, 0.2 * 2**0.5]
    np.testing.assert_allclose(asked, expected, rtol=1e-6)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: samplers.heun_stochastic(VP, churn=-1), 'churn must be 0 or more'),
        (lambda: samplers.heun_stochastic(VP, s_min=2, s_max=1), 's_min must lie between'),
        (lambda: samplers.heun_stochastic(VP, noise=0), 'noise must be positive'),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
