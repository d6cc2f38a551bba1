import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import products
from scipy import stats

from jaxdiff.codecs.pixels import pixels
from jaxdiff.diffusion import bound, exact, grid, likelihood, schedule

pytestmark = pytest.mark.usefixtures('x64')
SCHEDULES = {
    'vp': schedule.vp(),
    've': schedule.ve(sigma_min=0.05, sigma_max=5.0),
    'flow': schedule.flow(),
}
SINGLE = [1.0], [[0.3, -0.2]], [0.6]
MIXTURE = [0.5, 0.3, 0.2], [[-1.0, 0.3], [0.8, 0.9], [0.4, -1.1]], [0.5, 0.4, 0.6]


def keys(n):
    return jax.random.split(jax.random.key(7), n)


def points(law, n):
    which, noise = jax.random.split(jax.random.key(0))
    weights, means, stds = map(jnp.asarray, law)
    k = jax.random.choice(which, len(weights), (n,), p=weights)
    return means[k] + stds[k][:, None] * jax.random.normal(noise, (n, 2))


def error(x):
    """The standard error of a mean."""
    return float(np.std(x, ddof=1) / len(x) ** 0.5)


def density(make, law, x0, marginal=True, **given):
    """The flow's density, started from the exact marginal at t = 1 or from N(0, sigma²)."""
    prior = (lambda x: exact.mixture_logp(make, *law)(x, 1.0)) if marginal else None
    denoise = exact.mixture(make, *law)
    return jax.jit(lambda x: likelihood.log_density(denoise, make, x, prior_logp=prior, **given))(
        x0
    )


@pytest.mark.parametrize('law', [SINGLE, MIXTURE], ids=['single', 'mixture'])
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_exact_scores_density_is_the_true_one(name, law):
    """To 1e-4 nats: what is left at 40 steps is mostly the noise of t_min = 1e-5."""
    x0 = points(law, 200)
    weights, means, stds = law
    each = [
        w * stats.multivariate_normal(m, s**2 * np.eye(2)).pdf(x0)
        for w, m, s in zip(weights, means, stds, strict=True)
    ]
    found = density(SCHEDULES[name], law, x0, steps=40)
    np.testing.assert_allclose(found.log_prob, np.log(sum(each)), atol=1e-4)


def test_the_error_falls_with_the_fourth_power_of_the_steps():
    make, x0 = SCHEDULES['flow'], points(MIXTURE, 50)
    expected = exact.mixture_logp(make, *MIXTURE)(x0, 0.0)
    coarse, fine = (
        np.abs(density(make, MIXTURE, x0, steps=n).log_prob - expected).max() for n in (20, 40)
    )
    assert np.log2(coarse / fine) > 3.75


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_flow_of_one_gaussian_is_a_stretch(name):
    """x_1 − alpha_1 m = (v_1/v_0)^½ (x0 − m) in each of 12 components, and D/2 log(v_1/v_0)."""
    make = SCHEDULES[name]
    x0 = gaussian_data.MEAN + jax.random.normal(jax.random.key(0), (5, 2, 2, 3))
    found = jax.jit(
        lambda x: likelihood.log_density(gaussian_data.denoiser(make), make, x, steps=40)
    )(x0)
    mean, std = gaussian_data.moments(make, 1.0)
    stretch = std / gaussian_data.STD
    np.testing.assert_allclose(
        found.x_1, mean + stretch * (x0 - gaussian_data.MEAN), atol=3e-5 * float(stretch)
    )
    np.testing.assert_allclose(found.log_det, np.full(5, 12 * np.log(stretch)), atol=1e-4)
    prior = stats.norm.logpdf(found.x_1, 0, make(1.0)[1]).sum((1, 2, 3))
    np.testing.assert_allclose(found.log_prior, prior, rtol=1e-9)
    np.testing.assert_allclose(found.log_prob, found.log_prior + found.log_det, rtol=1e-12)


def test_the_priors_mismatch_is_what_the_prior_costs():
    """On average KL(marginal of x_1 ‖ prior), which the reported one bounds from above."""
    make, x0 = SCHEDULES['ve'], points(SINGLE, 20_000)
    kept = density(make, SINGLE, x0, steps=10)
    plain = density(make, SINGLE, x0, marginal=False, steps=10)
    np.testing.assert_allclose(kept.x_1, plain.x_1)
    lost = np.asarray(kept.log_prob - plain.log_prob)
    sigma2, mean2 = float(make(1.0)[1]) ** 2, 0.3**2 + 0.2**2
    ratio = 1 + 0.6**2 / sigma2
    expected = (2 * (ratio - 1 - np.log(ratio)) + mean2 / sigma2) / 2
    assert expected > 2e-3
    assert abs(lost.mean() - expected) < 4 * error(lost)
    assert expected < plain.prior_kl.mean() + 4 * error(plain.prior_kl)
    np.testing.assert_allclose(plain.prior_kl, bound.prior_kl(make, x0), rtol=1e-12)


@pytest.mark.parametrize('law', ['rademacher', 'gaussian'])
def test_hutchinsons_estimate_is_unbiased(law):
    make, n = SCHEDULES['vp'], 3000
    x0 = jnp.tile(jnp.array([[0.2, 0.4]]), (n, 1))
    expected = density(make, MIXTURE, x0[:1], steps=20).log_prob[0]
    found = [
        np.asarray(
            density(
                make, MIXTURE, x0, steps=20, trace=likelihood.hutchinson(keys(n), probes, law)
            ).log_prob
        )
        for probes in (1, 4)
    ]
    for estimate in found:
        assert abs(estimate.mean() - expected) < 4 * error(estimate)
    assert error(found[0]) < 0.1
    assert found[0].var() / found[1].var() == pytest.approx(4, rel=0.25)  # as 1 / probes


def test_traces_of_a_function_that_bends():
    f = lambda x: jnp.sin(x) * jnp.sum(x**2, axis=(1, 2), keepdims=True)
    x = jax.random.normal(jax.random.key(0), (4, 3, 25))  # more than one chunk of components
    one = lambda v: f(v.reshape(1, 3, 25)).ravel()
    expected = jnp.trace(jax.vmap(jax.jacfwd(one))(x.reshape(4, 75)), axis1=1, axis2=2)
    y, trace = likelihood.exact_trace(f, x)
    np.testing.assert_allclose(y, f(x))
    np.testing.assert_allclose(trace, expected, rtol=1e-9)
    y, trace = likelihood.hutchinson(keys(4))(lambda x: x**3, x)  # diagonal: signs square to one
    np.testing.assert_allclose(trace, jnp.sum(3 * x**2, axis=(1, 2)), rtol=1e-9)


def test_spreading_a_value_over_its_width_keeps_its_probability():
    """A density that is constant over each level's width gives every draw P / width."""
    shares = jnp.array([0.1, 0.2, 0.3, 0.4])
    width = likelihood.level_width(4)
    values = jnp.linspace(-1, 1, 4)
    assert width == pytest.approx(float(values[1] - values[0]))

    def log_prob(keys, x):
        k = jnp.round((x + 1) / width).astype(int)
        return jnp.sum(jnp.log(shares[k] / width), axis=1)

    x0 = values[jax.random.choice(jax.random.key(0), 4, (50, 3))]
    true = -jnp.sum(jnp.log(shares[jnp.round((x0 + 1) / width).astype(int)]), axis=1)
    for weighted in (False, True):
        found = likelihood.dequantized(keys(50), log_prob, x0, width, 5, weighted)
        bits = likelihood.bits_per_dim(-found, x0.shape, width)
        assert bits.mean == pytest.approx(float(true.mean() / 3 / np.log(2)), rel=1e-9)


def test_more_draws_weighted_by_importance_approach_the_probability_from_below():
    width, n, law = 1.0, 20_000, stats.norm(0.4, 0.5)
    x0 = jnp.zeros((n, 1))
    log_prob = lambda keys, x: jax.scipy.stats.norm.logpdf(x[:, 0], 0.4, 0.5)
    true = np.log(law.cdf(0.5) - law.cdf(-0.5))
    mean, one, few, many = (
        np.asarray(likelihood.dequantized(keys(n), log_prob, x0, width, draws, weighted))
        for draws, weighted in ((4, False), (1, True), (4, True), (64, True))
    )
    assert abs(np.mean(mean) - np.mean(one)) < 4 * np.hypot(error(mean), error(one))
    assert np.std(mean) == pytest.approx(np.std(one) / 2, rel=0.05)
    assert one.mean() + 0.05 < few.mean() < many.mean() - 0.01 < true
    assert abs(many.mean() - true) < 0.02


def test_a_flow_of_dequantised_data_costs_at_least_their_entropy():
    """17 levels that a Gaussian was rounded to, under that Gaussian's flow: little is lost."""
    make, n, width = SCHEDULES['vp'], 2000, likelihood.level_width(17)
    values = np.linspace(-1, 1, 17)
    law = stats.norm(0.1, 0.3)
    edges = np.concatenate([[-np.inf], values[:-1] + width / 2, [np.inf]])
    shares = np.diff(law.cdf(edges))
    entropy = -np.sum(shares * np.log2(shares))
    x0 = jnp.asarray(values)[jax.random.choice(jax.random.key(0), 17, (n, 1), p=shares)]
    single = [1.0], [[0.1]], [0.3]
    found = jax.jit(
        lambda x: likelihood.dequantized(
            keys(n),
            lambda keys, x: (
                likelihood.log_density(exact.mixture(make, *single), make, x, steps=20).log_prob
            ),
            x,
            width,
            draws=4,
        )
    )(x0)
    k = np.round((np.asarray(x0[:, 0]) + 1) / width).astype(int)
    lost = np.asarray(-found / np.log(2) - np.log2(width) + np.log2(shares[k]))
    assert abs(entropy + lost.mean() - likelihood.bits_per_dim(-found, (n, 1), width).mean) < 0.1
    assert -4 * error(lost) < lost.mean() < 0.02


def test_the_codecs_dequantised_data_have_their_own_width():
    """A uniform density over [-1, 1] costs log₂ levels bits."""
    for levels in (2, 17, 256):
        values = np.round(np.arange(levels) * 255 / (levels - 1)).astype(np.uint8)
        z = pixels(levels, dequantize=True).encode(keys(levels), jnp.asarray(values)[:, None])
        assert z.min() >= -1 and z.max() <= 1
        nats = jnp.full(levels, np.log(2.0))
        bits = likelihood.bits_per_dim(nats, z.shape, width=2 / levels)
        assert bits.mean == pytest.approx(np.log2(levels), rel=1e-9)


def test_the_standard_error_is_the_spread_over_repetitions():
    """Of 400 bounds of 50 examples each, to four standard errors of such a spread."""
    make, n, repetitions = SCHEDULES['vp'], 50, 400
    x0 = points(SINGLE, n * repetitions)
    ts = grid.logsnr(make, 8, 0.99, 1e-3)
    nats = jax.jit(
        lambda x: bound.discrete(keys(len(x)), exact.mixture(make, *SINGLE), make, x, ts).total
    )(x0)
    found = [likelihood.bits_per_dim(part, (n, 2)) for part in nats.reshape(repetitions, n)]
    means, errors = np.array(found).T
    np.testing.assert_allclose(means.mean(), nats.mean() / 2 / np.log(2), rtol=1e-9)
    spread = means.std(ddof=1)
    relative = 4 / (2 * repetitions) ** 0.5
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=relative)


def test_one_example_has_no_standard_error():
    bits = likelihood.bits_per_dim(jnp.array([3.0]), (1, 4))
    assert bits.mean == pytest.approx(3 / 4 / np.log(2)) and np.isnan(bits.standard_error)


@pytest.mark.parametrize('trace', ['exact', 'hutchinson'])
def test_matrix_products_are_in_full_precision(trace):
    matrix = jnp.eye(2) / 2
    denoise = lambda x, t: jax.jit(lambda x: jnp.tanh(x @ matrix))(x)
    traces = {'exact': likelihood.exact_trace, 'hutchinson': likelihood.hutchinson(keys(4))}
    call = lambda x: likelihood.log_density(denoise, schedule.vp(), x, traces[trace]).log_prob
    found = list(products(jax.make_jaxpr(call)(jnp.ones((4, 2))).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert len(found) == 8  # four stages, the denoiser and its derivative
    assert all(p == (highest, highest) for p in found)


def test_an_example_does_not_depend_on_its_batch_and_stays_in_single_precision():
    with jax.enable_x64(False):
        make, x0 = schedule.cosine(), jnp.linspace(-1, 1, 6 * 4).reshape(6, 2, 2, 1)
        denoise, traces = gaussian_data.denoiser(make), []

        @jax.jit
        def both(keys, x):
            traces.append(1)
            trace = likelihood.hutchinson(keys, 2, 'gaussian')
            return likelihood.log_density(denoise, make, x, trace, steps=20)

        together, alone = both(keys(6), x0), both(keys(6)[2:3], x0[2:3])
        for part, one in zip(together, alone, strict=True):
            assert part.dtype == jnp.float32 and np.all(np.isfinite(part))
            np.testing.assert_allclose(part[2:3], one, rtol=1e-4, atol=1e-5)
        both(keys(6), x0 + 1)
        assert len(traces) == 2  # one for each batch size
        expected = stats.norm.logpdf(x0, gaussian_data.MEAN, gaussian_data.STD).sum((1, 2, 3))
        exactly = jax.jit(lambda x: likelihood.log_density(denoise, make, x).log_prob)(x0)
        np.testing.assert_allclose(exactly, expected, atol=1e-3)


def test_bad_arguments_are_refused():
    make, x0 = schedule.cosine(), jnp.zeros((2, 2))
    ask = lambda **given: likelihood.log_density(lambda x, t: x, make, x0, **given)
    with pytest.raises(ValueError, match='steps must be 1 or more, got steps=0'):
        ask(steps=0)
    with pytest.raises(ValueError, match='noise left at the last time'):
        ask(t_min=0.0)
    with pytest.raises(ValueError, match='must fall'):
        ask(t_min=0.5, t_max=0.1)
    with pytest.raises(ValueError, match='probes=0'):
        likelihood.hutchinson(keys(2), 0)
    with pytest.raises(ValueError, match="law='cauchy'"):
        likelihood.hutchinson(keys(2), 1, 'cauchy')
    with pytest.raises(ValueError, match='draws must be 1 or more'):
        likelihood.dequantized(keys(2), lambda k, x: x[:, 0], x0, 0.1, draws=0)
