import functools

import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import products
from scipy import stats
from scipy.integrate import quad

from jaxdiff.diffusion import bound, denoiser, exact, gaussian, grid, schedule, times

pytestmark = pytest.mark.usefixtures('x64')
SCHEDULES = {
    'vp': schedule.vp(),
    've': schedule.ve(sigma_min=0.05, sigma_max=5.0),
    'flow': schedule.flow(),
}
MIXTURE = [0.5, 0.3, 0.2], [[-1.0, 0.3], [0.8, 0.9], [0.4, -1.1]], [0.5, 0.4, 0.6]
LEVELS = np.linspace(-1, 1, 17)
SHARES = np.array([20, 9, 3, 1, 1, 2, 4, 7, 9, 6, 3, 1, 1, 3, 8, 12, 10]) / 100
DIMS = 2


def keys(n):
    return jax.random.split(jax.random.key(7), n)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=('levels', 't_min', 't_max'))
def continuous(denoise, make, x0, **given):
    """The continuous bound with times of low discrepancy, for 20 groups of examples apart."""
    size = len(x0) // 20
    draw = lambda key: times.low_discrepancy(key, jnp.arange(size), size)
    u = jax.vmap(draw)(jax.random.split(jax.random.key(3), 20)).ravel()
    return bound.continuous(keys(len(x0)), denoise, make, x0, u, **given)


def groups(x):
    """The means of the groups that share their times: these are independent."""
    return np.asarray(x).reshape(20, -1).mean(1)


def gaussian_points(n):
    return gaussian_data.MEAN + gaussian_data.STD * jax.random.normal(jax.random.key(0), (n, DIMS))


def single(make):
    """The Gaussian data's denoiser, of scalar times and of batches of them."""
    return exact.mixture(make, [1.0], [[gaussian_data.MEAN] * DIMS], [gaussian_data.STD])


def error(x):
    """The standard error of a mean."""
    return float(np.std(x, ddof=1) / len(x) ** 0.5)


def kl(q, p):
    """KL(q ‖ p) of two SciPy normals, by quadrature over twelve standard deviations."""
    f = lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x))
    return quad(f, q.mean() - 12 * q.std(), q.mean() + 12 * q.std(), epsabs=1e-12, limit=200)[0]


def snr(make, t):
    return float(jnp.exp(schedule.logsnr(make, t)))


@pytest.mark.parametrize('nu', [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize('name', SCHEDULES)
def test_a_steps_term_is_the_divergence_of_two_gaussians(name, nu):
    make, t, s = SCHEDULES[name], 0.6, 0.5
    x0, x_t, belief = np.array([[0.7, -0.4]]), np.array([[0.2, 0.9]]), np.array([[0.5, 0.3]])
    mean, small = gaussian.posterior_moments(make, x_t, x0, t, s)
    guess, _ = gaussian.posterior_moments(make, x_t, belief, t, s)
    large = gaussian.transition_moments(make, x_t, s, t)[1]
    raised = small if nu is None else large**nu * small ** (1 - nu)
    law = lambda m, variance: stats.norm(float(m), float(variance.squeeze()) ** 0.5)
    expected = sum(kl(law(mean[0, i], small), law(guess[0, i], raised)) for i in range(2))
    given = belief if nu is None else denoiser.Learned(belief, jnp.full_like(belief, nu))
    found = bound.posterior_kl(make, x0, given, t, s)
    np.testing.assert_allclose(found, [expected], rtol=1e-7)


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_priors_term_is_the_divergence_at_its_true_scale(name):
    make, x0 = SCHEDULES[name], np.array([[0.7, -0.4], [1.0, 0.2]])
    t = 0.5
    alpha, sigma = map(float, make(t))
    laws = [[stats.norm(alpha * x, sigma) for x in row] for row in x0]
    expected = [sum(kl(q, stats.norm(0, sigma)) for q in row) for row in laws]
    np.testing.assert_allclose(bound.prior_kl(make, x0, t), expected, rtol=1e-7)
    assert min(expected) > 0.01


def test_a_prior_without_signal_costs_nothing():
    assert bound.prior_kl(schedule.flow(), jnp.ones((1, 3))) == 0


@pytest.mark.parametrize('levels', [2, 17, 256])
def test_the_probabilities_of_all_levels_sum_to_one(levels):
    values = np.linspace(-1, 1, levels)
    for mean in (-1.7, -1.0, 0.031, 0.5, 1.3):
        for std in (1e-3, 0.05, 2.0):
            nats = bound.reconstruction(
                values[:, None], np.full((levels, 1), mean), std, levels=levels
            )
            assert np.sum(np.exp(-nats)) == pytest.approx(1, abs=1e-12)


def test_a_levels_probability_is_its_interval():
    law = stats.norm(0.1, 0.2)
    middle = np.exp(-bound.reconstruction(jnp.array([[0.25]]), jnp.array([[0.1]]), 0.2, 17))
    assert middle[0] == pytest.approx(law.cdf(0.3125) - law.cdf(0.1875), abs=1e-12)
    two = bound.reconstruction(jnp.array([[0.25, -1.0]]), jnp.array([[0.1, 0.1]]), 0.2, 17)
    assert two[0] == pytest.approx(-np.log(middle[0]) - law.logcdf(-0.9375), rel=1e-9)


@pytest.mark.parametrize('mean', [-1.0, 1.0])
def test_far_levels_keep_their_logarithm_and_their_slope_in_single_precision(mean):
    with jax.enable_x64(False):
        x0 = jnp.array([[-mean]])
        both = jax.value_and_grad(lambda m: bound.reconstruction(x0, m, 0.02, levels=17).sum())
        found, slope = both(jnp.array([[mean]]))
    distance = 1.9375 / 0.02  # in standard deviations
    assert found == pytest.approx(-stats.norm.logcdf(-distance), rel=1e-5)
    hazard = np.exp(stats.norm.logpdf(distance) - stats.norm.logcdf(-distance))
    assert slope[0, 0] == pytest.approx(np.sign(mean) * hazard / 0.02, rel=1e-3)


def test_continuous_data_have_the_gaussians_density():
    x0, mean = np.array([[0.7, -0.4], [0.1, 0.2]]), np.array([[0.6, -0.1], [0.3, 0.3]])
    std = np.array([0.3, 0.5])
    expected = -stats.norm.logpdf(x0, mean, std[:, None]).sum(1)
    np.testing.assert_allclose(bound.reconstruction(x0, mean, std), expected, rtol=1e-12)


def closed_form(make, ts):
    """The three parts for the Gaussian data, whose E ‖x0 − x̂‖² is known at every time."""
    std2 = gaussian_data.STD**2
    snrs = np.array([snr(make, t) for t in ts])
    mmse = std2 / (1 + std2 * snrs)
    prior = DIMS * snrs[0] / 2 * (gaussian_data.MEAN**2 + std2)
    diffusion = DIMS / 2 * np.sum(np.diff(snrs) * mmse[:-1])
    last = DIMS / 2 * (np.log(2 * np.pi / snrs[-1]) + mmse[-1] * snrs[-1])
    limit = DIMS / 2 * np.log((1 + std2 * snrs[-1]) / (1 + std2 * snrs[0]))  # of many steps
    return np.array([prior, diffusion, last]), limit


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_parts_of_one_gaussian_and_their_limit(name):
    """Each part to four standard errors; more steps are tighter, none below the log density."""
    make, n = SCHEDULES[name], 10_000
    exact_denoise, x0 = single(make), gaussian_points(n)
    entropy = DIMS / 2 * np.log(2 * np.pi * np.e * gaussian_data.STD**2)
    t_max, t_min = 0.9, 1e-3
    walk = jax.jit(lambda ts: bound.discrete(keys(n), exact_denoise, make, x0, ts))
    totals = []
    for steps in (4, 32, 128):
        ts = grid.logsnr(make, steps, t_max, t_min)
        parts, limit = closed_form(make, ts)
        found = walk(ts)
        for part, expected in zip(found, parts, strict=True):
            assert abs(part.mean() - expected) < 4 * error(part)
        totals.append(np.asarray(found.total))
    found = continuous(exact_denoise, make, x0, t_min=t_min, t_max=t_max)
    assert abs(found.diffusion.mean() - limit) < 4 * error(groups(found.diffusion))
    assert abs(found.reconstruction.mean() - parts[2]) < 4 * error(found.reconstruction)
    np.testing.assert_allclose(found.prior, bound.prior_kl(make, x0, t_max))
    for coarse, fine in zip(totals[:-1], totals[1:], strict=True):
        assert np.mean(coarse - fine) > 4 * error(coarse - fine)
    # What the steps cost falls as 1/steps, to nothing: from 32 to 128 of them about a quarter is left.
    limit += parts[0] + parts[2]
    assert 0.2 < (totals[2].mean() - limit) / (totals[1].mean() - limit) < 0.3
    assert limit > entropy


@pytest.mark.parametrize('name', ['vp', 've'])
def test_the_bound_of_a_mixture_is_above_and_tightens_towards_its_log_density(name):
    make, n = SCHEDULES[name], 10_000
    many = 6 * n
    which, noise = jax.random.split(jax.random.key(0))
    weights, means, stds = map(jnp.asarray, MIXTURE)
    k = jax.random.choice(which, 3, (many,), p=weights)
    x0 = means[k] + stds[k][:, None] * jax.random.normal(noise, (many, 2))
    nats = -np.asarray(exact.mixture_logp(make, *MIXTURE)(x0, 0.0))
    exact_denoise = exact.mixture(make, *MIXTURE)
    walk = jax.jit(lambda ts: bound.discrete(keys(n), exact_denoise, make, x0[:n], ts))
    gaps = []
    for steps in (16, 128):
        found = walk(grid.logsnr(make, steps, 0.99, 1e-3))
        gaps.append(np.asarray(found.total - nats[:n]))
        assert gaps[-1].mean() > 4 * error(gaps[-1]), steps
    for coarse, fine in zip(gaps[:-1], gaps[1:], strict=True):
        assert np.mean(coarse - fine) > 4 * error(coarse - fine)
    limit = continuous(exact_denoise, make, x0, t_min=1e-3, t_max=0.99)
    gap = groups(limit.total - nats)
    # With infinitely many steps only the two ends are lost: the prior, at most its term, and the
    # decoder, which here has σ/α for a standard deviation that is a little less.
    lost = limit.prior.mean() + 0.01
    assert error(gap) < 0.06
    assert -4 * error(gap) < gap.mean() < lost + 4 * error(gap)


def test_a_chain_with_the_large_variance_is_tight_for_standard_normal_data():
    """Its reverse step is then the true one, so that five steps lose what infinitely many lose."""
    make, n = schedule.vp(), 10_000
    x0 = jax.random.normal(jax.random.key(0), (n, DIMS))
    small = lambda x, t: make(t)[0] * x
    large = lambda x, t: denoiser.Learned(small(x, t), jnp.ones_like(x))
    ts = grid.logsnr(make, 5, 1.0, 1e-3)
    nats = DIMS / 2 * np.log(2 * np.pi) + np.sum(np.asarray(x0) ** 2, 1) / 2
    total = lambda denoise: jax.jit(lambda x: bound.discrete(keys(n), denoise, make, x, ts).total)(
        x0
    )
    gap = np.asarray(total(large) - nats)
    assert abs(gap.mean()) < 4 * error(gap)
    gap = np.asarray(total(small) - nats)
    assert gap.mean() > 1


@pytest.mark.parametrize('draw', ['independent', 'low_discrepancy'])
def test_one_random_step_estimates_the_sum_over_all(draw):
    make, n = schedule.vp(), 20_000
    x0, ts = gaussian_points(n), grid.logsnr(make, 16, 0.9, 1e-3)
    u = {
        'independent': lambda: times.independent(jax.random.split(jax.random.key(3), n)),
        'low_discrepancy': lambda: times.low_discrepancy(jax.random.key(3), jnp.arange(n), n),
    }[draw]()
    found = jax.jit(lambda u: bound.discrete(keys(n), single(make), make, x0, ts, u=u))(u)
    expected, _ = closed_form(make, ts)
    assert abs(found.diffusion.mean() - expected[1]) < 4 * error(found.diffusion)
    assert error(found.diffusion) < 0.02 * expected[1]


def toy(make, n):
    """Draws of the law on 17 levels and its exact denoiser, a softmax over the levels."""
    k = jax.random.choice(jax.random.key(0), 17, (n,), p=jnp.asarray(SHARES))
    denoise = exact.mixture(make, SHARES, LEVELS[:, None], np.zeros(17))
    return jnp.asarray(LEVELS)[k][:, None], denoise


@pytest.mark.parametrize('name', ['vp', 've'])
def test_the_bound_of_discrete_data_reaches_their_entropy_from_above(name):
    assert SHARES.sum() == pytest.approx(1)
    make, n = SCHEDULES[name], 4000
    x0, denoise = toy(make, 5 * n)
    nats = -np.log(SHARES[np.round((np.asarray(x0[:, 0]) + 1) * 8).astype(int)])
    t_max, t_min = 0.999, float(schedule.time_of_logsnr(make, 2 * np.log(1 / 0.01)))
    walk = jax.jit(lambda x, ts: bound.discrete(keys(n), denoise, make, x, ts, levels=17))
    gaps = []
    for steps in (32, 512):
        found = walk(x0[:n], grid.logsnr(make, steps, t_max, t_min))
        gaps.append(np.asarray(found.total - nats[:n]))
        assert abs(found.reconstruction.mean()) < 1e-6  # levels are 12 standard deviations apart
    assert gaps[0].mean() > 4 * error(gaps[0])
    assert 4 * error(gaps[1]) < gaps[1].mean() < 0.05 + 4 * error(gaps[1])
    assert gaps[1].mean() < gaps[0].mean() / 4 and error(gaps[1]) < 0.01
    limit = continuous(denoise, make, x0, levels=17, t_min=t_min, t_max=t_max)
    gap = groups(limit.total - nats)
    lost = float(limit.prior.mean())  # what the prior loses, at most
    assert -4 * error(gap) < gap.mean() < lost + 4 * error(gap)


@pytest.mark.parametrize('kind', ['discrete', 'continuous'])
def test_matrix_products_are_in_full_precision(kind):
    make, matrix = schedule.vp(), jnp.eye(2) / 2
    denoise = lambda x, t: jax.jit(lambda x: x @ matrix)(x)
    calls = {
        'discrete': lambda x: (
            bound.discrete(keys(4), denoise, make, x, grid.uniform(5, t_min=0.1)).total
        ),
        'continuous': lambda x: bound.continuous(keys(4), denoise, make, x, jnp.zeros(4)).total,
    }
    found = list(products(jax.make_jaxpr(calls[kind])(jnp.ones((4, 2))).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert len(found) == 2 and all(p == (highest, highest) for p in found)


def test_an_example_does_not_depend_on_its_batch():
    with jax.enable_x64(False):
        make = schedule.cosine()
        x0, ts = jnp.linspace(-1, 1, 6 * 4).reshape(6, 2, 2, 1), grid.uniform(7)[:-1]
        denoise = lambda x, t: jnp.tanh(x) * (1 - t)
        both = jax.jit(lambda k, x: bound.discrete(k, denoise, make, x, ts, levels=17))
        together, alone = both(keys(6), x0), both(keys(6)[2:3], x0[2:3])
        for part, one in zip(together, alone, strict=True):
            assert part.shape == (6,) and part.dtype == jnp.float32 and np.all(np.isfinite(part))
            np.testing.assert_allclose(part[2:3], one, rtol=1e-5)


def test_a_schedule_may_be_learned_and_may_start_with_noise():
    """The gradient by the schedule's parameter is that of the bound's closed form."""

    def make(a):
        return lambda t: (jnp.exp(-a * t), jnp.sqrt(1e-3 - jnp.expm1(-2 * a * t)))

    n, std2 = 10_000, gaussian_data.STD**2

    def estimate(a):
        denoise, x0 = gaussian_data.denoiser(make(a)), gaussian_points(n)
        return bound.discrete(keys(n), denoise, make(a), x0, jnp.linspace(1, 0, 9)).total

    def closed(a):
        alpha, sigma = make(a)(jnp.linspace(1, 0, 9))
        snrs = (alpha / sigma) ** 2
        mmse = std2 / (1 + std2 * snrs)
        prior = snrs[0] * (gaussian_data.MEAN**2 + std2)
        last = jnp.log(2 * jnp.pi / snrs[-1]) + mmse[-1] * snrs[-1]
        return DIMS / 2 * (prior + jnp.sum(jnp.diff(snrs) * mmse[:-1]) + last)

    found, slope = jax.jit(lambda a: jax.jvp(estimate, (a,), (1.0,)))(1.5)
    assert abs(found.mean() - closed(1.5)) < 4 * error(found)
    assert abs(slope.mean() - jax.grad(closed)(1.5)) < 4 * error(slope)


def test_bad_arguments_are_refused():
    make, x0 = schedule.cosine(), jnp.zeros((2, 2))
    ask = lambda ts, **given: bound.discrete(keys(2), lambda x, t: x, make, x0, ts, **given)
    with pytest.raises(ValueError, match='noise left at the last time, got t = 0'):
        ask(grid.uniform(4))
    with pytest.raises(ValueError, match='must fall'):
        ask(jnp.array([0.5, 0.9]))
    with pytest.raises(ValueError, match='two or more'):
        ask(jnp.array([0.5]))
    with pytest.raises(ValueError, match='levels must be 2 or more, got levels=1'):
        ask(jnp.array([0.9, 0.5]), levels=1)
    with pytest.raises(ValueError, match='must fall'):
        bound.continuous(keys(2), lambda x, t: x, make, x0, jnp.zeros(2), t_min=0.5, t_max=0.2)
