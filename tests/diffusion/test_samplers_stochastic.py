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
FAST = {'xla_backend_optimization_level': '1'}  # for long walks: conftest's 0 is five times as slow


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
    other = lambda x, t: denoiser.Learned(denoise(x, t).x0, jnp.full_like(x, 2.0))
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


# --- Langevin: predictor_corrector and annealed_langevin -----------------------------------------

STAY = Sampler(samplers.start, lambda keys, state, t, s, denoise: state)
SHAKE = Sampler(  # adds N(0, 1), so that noise shared with the corrector would show
    samplers.start,
    lambda keys, state, t, s, denoise: state._replace(x=state.x + samplers.normal(keys, state.x)),
)


def chain(v, u, r, steps, start):
    """Variance after Langevin's steps y ← y + e score + sqrt(2e) z, e = 2 (r u)², on N(0, v + u²).

    The score is −y / (v + u²), so that the chain is autoregressive with slope 1 − e / (v + u²).
    """
    total, e = v + u**2, 2 * (r * u) ** 2
    slope2, settled = (1 - e / total) ** (2 * steps), total / (1 - e / (2 * total))
    return slope2 * start + (1 - slope2) * settled


def variance_of(make, sampler, times, v, scale):
    """Of 200,000 samples x of N(0, v) data from N(0, scale²), and four of its standard errors."""
    keys = jax.random.split(jax.random.key(0), N // 100)
    x_1 = scale * jax.random.normal(jax.random.key(1), (N // 100, 100))
    run = lambda keys: diffusion.sample(keys, gaussian(make, v), sampler, x_1, times)
    variance = float(np.mean(np.float64(jax.jit(run, compiler_options=FAST)(keys)) ** 2))
    return variance, 4 * variance * (2 / N) ** 0.5


@pytest.mark.parametrize(
    'make, predictor, r, steps',
    [
        (VE, STAY, 0.16, 1),
        (VP, STAY, 0.4, 3),
        (FLOW, SHAKE, 0.4, 3),
        (COSINE, STAY, 0.8, 40),  # settled: 1.2 times too wide
        (COSINE, STAY, 0.4, 40),
    ],
    ids=['ve-1', 'vp-3', 'flow-shaken-3', 'settled-0.8', 'settled-0.4'],
)
def test_the_corrector_is_the_langevin_chain_of_the_closed_form(make, predictor, r, steps):
    t, v = 0.4, 0.36
    alpha, sigma = map(float, make(t))
    sampler = samplers.predictor_corrector(make, predictor, steps, r)
    found, tolerance = variance_of(make, sampler, jnp.array([t, t]), v, scale=0.0)
    start = 1 / alpha**2 if predictor is SHAKE else 0
    expected = alpha**2 * chain(v, sigma / alpha, r, steps, start)
    assert abs(found - expected) < tolerance
    if steps == 40:  # equation (36)
        u2 = (sigma / alpha) ** 2
        assert expected == pytest.approx(alpha**2 * (v + u2) / (1 - r**2 * u2 / (v + u2)), rel=1e-3)


@pytest.mark.parametrize('make', [VE, VP], ids=['ve', 'vp'])
def test_annealed_langevin_is_the_papers_algorithm_on_a_gaussian(make):
    """alpha_i = epsilon sigma_i² / sigma_L², x ← x + alpha_i / 2 score + sqrt(alpha_i) z, level by level."""
    v, inner, levels = 0.36, 5, np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    times = schedule.time_of_logsnr(make, -2 * jnp.log(jnp.asarray(levels, jnp.float32)))
    epsilon = 0.05
    variance = v + levels[0] ** 2
    for u in levels[1:]:
        a, total = epsilon * u**2 / levels[-1] ** 2, v + u**2
        for _ in range(inner):
            variance = (1 - a / 2 / total) ** 2 * variance + a
    sampler = samplers.annealed_langevin(make, inner, snr=epsilon**0.5 / (2 * levels[-1]))
    scale = float(make(times[0])[0]) * (v + levels[0] ** 2) ** 0.5
    found, tolerance = variance_of(make, sampler, times, v, scale)
    alpha = float(make(times[-1])[0])
    assert abs(found - alpha**2 * variance) < tolerance
    assert abs(variance / total - 1) > 0.05  # not yet settled: the inner steps count
    data, tolerance = variance_of(make, sampler, jnp.append(times, 0.0), v, scale)  # the last step
    assert abs(data - variance * (v / total) ** 2) < tolerance


def bias(make, sampler, times, n=50_000):
    """Size of the error in mean, covariance and weights of y = x / alpha at the last level."""
    alpha, sigma = map(float, make(times[-1]))
    error, _ = errors(walk(make, sampler, mixture(make), times, n) / alpha, sigma / alpha)
    return np.sum(error**2) ** 0.5


def falls(biases):
    return all(later < earlier / 2 for earlier, later in zip(biases, biases[1:], strict=False))


CORRECTED = lambda n, r: samplers.predictor_corrector(COSINE, corrections=n, snr=r)
COARSE = grid.uniform(12, 1.0, 0.3)


def test_more_corrections_bring_the_mixtures_law():
    """From 0.19 with twelve coarse steps of DDPM alone; 50,000 samples' own noise is 0.011."""
    found = [bias(COSINE, CORRECTED(n, 0.25), COARSE) for n in (0, 4, 16)]
    assert falls(found) and found[-1] < 0.03, found


@pytest.mark.slow
def test_smaller_corrections_bring_the_mixtures_law():
    """Each time with as many as it takes to settle: their own bias falls as r²."""
    found = [bias(COSINE, CORRECTED(n, r), COARSE) for n, r in ((4, 0.8), (16, 0.4), (64, 0.2))]
    assert falls(found) and found[-1] < 0.03, found


EDM = schedule.edm(5.0)
ANNEALED = lambda n, r: samplers.annealed_langevin(EDM, n, r)
LEVELS = jnp.array([5, 3, 1.8, 1.1, 0.7, 0.5]) / 5


def test_more_inner_steps_bring_the_mixtures_law():
    found = [bias(EDM, ANNEALED(n, 0.25), LEVELS) for n in (4, 16, 64)]
    assert falls(found) and found[-1] < 0.05, found


@pytest.mark.slow
def test_smaller_inner_steps_bring_the_mixtures_law():
    """Each time with as many as it takes to settle: their own bias falls as r²."""
    found = [bias(EDM, ANNEALED(n, r), LEVELS) for n, r in ((19, 0.8), (75, 0.4), (300, 0.2))]
    assert falls(found) and found[-1] < 0.03, found


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['predictor_corrector', 'annealed_langevin'])
def test_in_y_the_walk_is_one_on_every_schedule(name):
    """Levels sigma / alpha alone decide y = x / alpha: EDM, VP and the straight path agree."""
    sampler = {
        'predictor_corrector': lambda make: samplers.predictor_corrector(make, corrections=2),
        'annealed_langevin': lambda make: samplers.annealed_langevin(make, 3),
    }[name]
    keys, y = jax.random.split(jax.random.key(0), 4), jnp.linspace(-9, 9, 8).reshape(4, 2)
    found = []
    for make in (schedule.edm(), VP, FLOW):
        times = grid.karras(make, 8, sigma_min=0.02, sigma_max=9.0)
        denoise = exact.mixture(make, WEIGHTS, MEANS, STDS)
        found.append(diffusion.sample(keys, denoise, sampler(make), make(times[0])[0] * y, times))
    np.testing.assert_allclose(found[1], found[0], atol=1e-8)
    np.testing.assert_allclose(found[2], found[0], atol=1e-8)


def test_without_corrections_the_predictor_is_alone():
    predictor = samplers.heun(VP)
    assert samplers.predictor_corrector(VP, predictor, corrections=0) is predictor


SAMPLERS = {  # and evaluations in five steps to sigma = 0, the last of which has no correction
    'ddpm_learned': (lambda make: samplers.ddpm(make, 'learned'), 5),
    'euler_maruyama': (samplers.euler_maruyama, 5),
    'heun_stochastic': (samplers.heun_stochastic, 9),
    'predictor_corrector': (samplers.predictor_corrector, 5 + 4),
    'pc_of_heun': (lambda make: samplers.predictor_corrector(make, samplers.heun(make), 2), 9 + 8),
    'pc_of_2m': (lambda make: samplers.predictor_corrector(make, samplers.dpmpp_2m(make)), 5 + 4),
    'annealed_langevin': (lambda make: samplers.annealed_langevin(make, 3), 4 * 3 + 1),
}


@pytest.mark.parametrize('name', SAMPLERS)
def test_conformance(name):
    """Finite from the schedule's start, in float32; evaluations counted; no sample knows its neighbours."""
    make, evaluations = SAMPLERS[name][0], SAMPLERS[name][1]
    process = VP if 'heun' in name else COSINE  # Heun's walk in sigma can't start at alpha = 0
    belief = gaussian(process, 0.36)
    learned = lambda x, t: denoiser.Learned(belief(x, t), jnp.full_like(x, 0.3))
    asked = []

    def denoise(x, t):
        jax.debug.callback(lambda: asked.append(1))
        return learned(x, t) if name == 'ddpm_learned' else belief(x, t)

    keys, x_1 = (
        jax.random.split(jax.random.key(7), 6),
        jax.random.normal(jax.random.key(0), (6, 2, 2)),
    )
    walk = jax.jit(
        lambda keys, x_1: diffusion.run(
            keys, denoise, make(process), x_1, grid.uniform(5), lambda state: state.x
        )
    )
    state, frames = walk(keys, x_1)
    jax.effects_barrier()
    assert state.nfe == len(asked) == evaluations
    assert frames.shape == (5, 6, 2, 2) and frames.dtype == x_1.dtype
    assert np.all(np.isfinite(frames))
    alone, _ = walk(keys[4:5], x_1[4:5])
    np.testing.assert_allclose(alone.x[0], state.x[4], atol=1e-5)
    np.testing.assert_array_equal(
        diffusion.sample(keys, denoise, make(process), x_1, grid.uniform(0)), x_1
    )


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: samplers.ddpm(VP, 'huge'), "'small', 'large' or 'learned'"),
        (lambda: samplers.heun_stochastic(VP, churn=-1), 'churn must be 0 or more'),
        (lambda: samplers.heun_stochastic(VP, s_min=2, s_max=1), 's_min must lie between'),
        (lambda: samplers.heun_stochastic(VP, noise=0), 'noise must be positive'),
        (lambda: samplers.predictor_corrector(VP, corrections=-1), 'corrections must be 0 or more'),
        (lambda: samplers.predictor_corrector(VP, snr=1.0), 'snr must lie between 0 and 1'),
        (lambda: samplers.annealed_langevin(VP, inner=0), 'inner must be 1 or more'),
        (lambda: samplers.annealed_langevin(VP, snr=0), 'snr must lie between 0 and 1'),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
