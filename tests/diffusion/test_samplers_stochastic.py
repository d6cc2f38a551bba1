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
    'ddpm_large': (COSINE, lambda make: samplers.ddpm(make, 'large'), grid.uniform(1000)),
    'ddpm_learned': (COSINE, lambda make: samplers.ddpm(make, 'learned'), grid.uniform(200)),
    'ddim_half': (COSINE, lambda make: samplers.ddim(make, 0.5), grid.uniform(1500)),
    'ddim_one': (COSINE, lambda make: samplers.ddim(make, 1.0), even_noise(COSINE, 1500)),
    'dpmpp_2m_sde': (COSINE, samplers.dpmpp_2m_sde, even_noise(COSINE, 400)),
    'heun_stochastic': (VP, lambda make: samplers.heun_stochastic(make, 20), karras(VP, 300)),
    'euler_maruyama': (COSINE, samplers.euler_maruyama, grid.uniform(1000)),
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
    steps = [10, 20, 40, 80, 160]
    runs = [
        errors(walk(COSINE, samplers.ddpm(COSINE), mixture(COSINE), even_noise(COSINE, n)))
        for n in steps
    ]
    error = np.array([-(e[2] + e[4]) / 2 for e, _ in runs])
    assert np.all(error[1:] < error[:-1] / 1.6), error
    assert np.all(np.abs(error[2:] * steps[2:] / 0.79 - 4) < 1), error * steps


# --- one Gaussian: the law that a sampler reaches, in closed form --------------------------------


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


# --- ddpm with a learned variance ----------------------------------------------------------------


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [COSINE, VP, VE], ids=['cosine', 'vp', 've'])
def test_with_the_right_nu_a_gaussian_is_exact_at_any_number_of_steps(make):
    v, times = 0.36, grid.uniform(4)

    def denoise(x, t):
        alpha, sigma = make(t)
        nu = right_nu(
            make, t, jnp.maximum(t - 1 / 4, 1e-3), v * sigma**2 / true_variance(make, t, v)
        )
        return denoiser.Learned(gaussian(make, v)(x, t), nu)

    found = variances(make, samplers.ddpm(make, 'learned'), times, v, denoise)
    expected = [true_variance(make, s, v) for s in times[1:-1]]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-10)
    assert abs(variances(make, samplers.ddpm(make), times, v)[-2] / expected[-1] - 1) > 0.01


@pytest.mark.usefixtures('x64')
def test_nu_lies_between_the_two_variances():
    """nu = 0 and 1 are the small and large variance, 1/2 their geometric mean."""
    keys, x = jax.random.split(jax.random.key(0), 4), jnp.zeros((4, 3))

    def noise(variance, nu=None):
        """What a step from x = 0 with belief 0 adds, from the same keys."""
        belief = jnp.zeros_like(x)
        denoise = lambda x, t: belief if nu is None else denoiser.Learned(belief, nu + belief)
        state = samplers.start(x, denoise, None)
        return samplers.ddpm(VP, variance).step(keys, state, 0.6, 0.2, denoise).x

    small, large = noise('small'), noise('large')
    np.testing.assert_allclose(noise('learned', 0.0), small, rtol=1e-12)
    np.testing.assert_allclose(noise('learned', 1.0), large, rtol=1e-12)
    np.testing.assert_allclose(noise('learned', 0.5) ** 2, small * large, rtol=1e-12)
    np.testing.assert_array_equal(noise('small', 0.3), small)  # a nu that isn't asked for


@pytest.mark.parametrize('nu', [0.0, 0.5, 1.0])
def test_a_learned_variance_is_sound_where_the_small_one_vanishes(nu):
    denoise = lambda x, t: denoiser.Learned(0.3 * x, jnp.full_like(x, nu))
    x, keys = jnp.ones((2, 3)), jax.random.split(jax.random.key(0), 2)
    sampler, state = samplers.ddpm(COSINE, 'learned'), State(x, 0)
    last = sampler.step(keys, state, 0.1, 0.0, denoise).x
    np.testing.assert_allclose(last, 0.3 * x, rtol=1e-6)  # no noise, the belief
    near = sampler.step(keys, state, 0.1, 1e-12, denoise).x
    sigma_t, sigma_s = np.sin(np.pi / 2 * 0.1), np.pi / 2 * 1e-12
    expected = 0.3 * x + sigma_s ** (1 - nu) * sigma_t**nu * samplers.normal(keys, x)
    np.testing.assert_allclose(near, expected, rtol=1e-5)


def test_a_network_with_two_halves_drives_the_learned_variance():
    net = lambda x, level: jnp.concatenate([x, jnp.full_like(x, 3.0)], -1)  # nu = 2
    denoise = denoiser.from_network(net, prediction.v, COSINE, learned_variance=True)
    sampler, x = samplers.ddpm(COSINE, 'learned'), jnp.ones((2, 4, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    other = lambda x, t: denoiser.Learned(denoise(x, t).x0, 2.0)
    found, expected = (
        diffusion.sample(keys, d, sampler, x, grid.uniform(5)) for d in (denoise, other)
    )
    assert found.shape == x.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_learned_variance_needs_nu():
    sampler = samplers.ddpm(COSINE, 'learned')
    with pytest.raises(ValueError, match='needs a denoiser that returns denoiser.Learned'):
        sampler.step(None, State(jnp.ones((1, 2)), 0), 0.5, 0.4, mixture(COSINE))


# --- euler_maruyama ------------------------------------------------------------------------------


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


# --- heun_stochastic -----------------------------------------------------------------------------


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
