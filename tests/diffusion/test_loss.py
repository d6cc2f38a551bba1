import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import loss, prediction, schedule

COSINE = schedule.cosine()
PREDICTIONS = [prediction.x0, prediction.eps, prediction.v]
EVERY = [*PREDICTIONS, prediction.velocity, prediction.score, prediction.edm(0.7)]
WEIGHTINGS = {  # ours, and the papers' own on the squared error in x0, from snr and −dλ/dt
    'min_snr': (loss.min_snr(5.0), lambda snr, fall: np.minimum(snr, 5)),
    'p2': (loss.p2(1.0, 1.0), lambda snr, fall: snr / (1 + snr)),
    'p2_half': (loss.p2(0.5, 2.0), lambda snr, fall: snr / (2 + snr) ** 0.5),
    'edm': (loss.edm(0.7), lambda snr, fall: (1 / snr + 0.49) / (0.49 / snr)),
    'score': (loss.score_matching(), lambda snr, fall: snr),
    'likelihood': (loss.likelihood(), lambda snr, fall: fall * snr / 2),
    'sigmoid': (
        loss.sigmoid(-1.5),
        lambda snr, fall: fall / 2 * np.exp(-1.5) / (1 + np.exp(-1.5 - np.log(snr))),
    ),
}
ids = {'ids': lambda p: p.name}


def data(n=2000, dims=50):
    keys = jax.random.split(jax.random.key(0), n)
    x0 = gaussian_data.MEAN + gaussian_data.STD * jax.random.normal(jax.random.key(1), (n, dims))
    return keys, x0


def exact(p, make=COSINE):
    """A network that outputs the best prediction p of the Gaussian data."""
    denoise = gaussian_data.denoiser(make)

    def predict(x_t, t):
        c = schedule.coefficients(make, t, x_t)
        x0 = denoise(x_t, t[:, None])
        return prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)

    return predict


def irreducible(make, t):
    """Var[x0 | x_t] = std² sigma² / (alpha² std² + sigma²) of the Gaussian data."""
    alpha, sigma = make(t)
    std2 = gaussian_data.STD**2
    return std2 * sigma**2 / (alpha**2 * std2 + sigma**2)


def test_a_silent_network_has_loss_one_in_eps():
    keys, x0 = data()
    t = jnp.linspace(0.01, 1, len(x0))
    losses = loss.denoising(keys, lambda x, t: 0 * x, x0, t, COSINE, prediction.eps)
    assert losses.shape == (len(x0),)
    assert losses.mean() == pytest.approx(1, abs=4 * (2 / x0.size) ** 0.5)


@pytest.mark.parametrize('p', PREDICTIONS, **ids)
def test_the_exact_network_reaches_the_irreducible_loss(p):
    """Var[x0 | x_t], carried to p by the loss ratio."""
    keys, x0 = data()
    for time in (0.1, 0.5, 0.9):
        t = jnp.full(len(x0), time)
        c = schedule.coefficients(COSINE, time, jnp.zeros(()))
        ratio = prediction.loss_ratio(prediction.x0, p, c)
        expected = float(irreducible(COSINE, time) * ratio)
        found = loss.denoising(keys, exact(p), x0, t, COSINE, p).mean()
        assert found == pytest.approx(expected, rel=4 * (2 / x0.size) ** 0.5)


@pytest.mark.parametrize('name', WEIGHTINGS)
def test_a_weighted_loss_has_its_closed_form_and_is_the_same_in_every_prediction(name):
    """E w(t) (x0 − E[x0 | x_t])² = w(t) Var[x0 | x_t], the paper's w on x0, whatever is predicted.

    For the cosine schedule λ = −2 log tan(πt/2), so −dλ/dt = 2π / sin(πt).
    """
    weighting, on_x0 = WEIGHTINGS[name]
    keys, x0 = data(400)

    @jax.jit
    def losses(t):
        return [loss.denoising(keys, exact(p), x0, t, COSINE, p, weighting) for p in EVERY]

    for time in (0.2, 0.7):
        snr, fall = np.tan(np.pi * time / 2) ** -2, 2 * np.pi / np.sin(np.pi * time)
        expected = on_x0(snr, fall) * float(irreducible(COSINE, time))
        first, *others = losses(jnp.full(len(x0), time))
        assert first.mean() == pytest.approx(expected, rel=4 * (2 / x0.size) ** 0.5)
        for other in others:
            np.testing.assert_allclose(other, first, rtol=2e-3)


def test_weights_are_those_of_the_papers():
    c = schedule.coefficients(COSINE, jnp.linspace(0.05, 0.95, 19), jnp.zeros(19))
    snr = (c.alpha / c.sigma) ** 2
    min_snr, p2 = loss.min_snr(5.0), loss.p2(1.0, 1.0)
    np.testing.assert_allclose(min_snr(prediction.x0, c), jnp.minimum(snr, 5), rtol=1e-5)
    np.testing.assert_allclose(min_snr(prediction.eps, c), jnp.minimum(1, 5 / snr), rtol=1e-5)
    np.testing.assert_allclose(p2(prediction.eps, c), 1 / (1 + snr), rtol=1e-5)
    np.testing.assert_allclose(p2(prediction.v, c), snr / (1 + snr) ** 2, rtol=1e-5)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('sigma_data', [0.5, 1.0, 1.7])
def test_edms_weight_on_x0_is_one_on_its_own_output(sigma_data):
    """Karras et al. 2022: lambda(s) c_out(s)² = 1, here at unit alpha and for any schedule."""
    t, weighting = jnp.linspace(0.01, 0.99, 33), loss.edm(sigma_data)
    for make in (schedule.edm(80.0), schedule.ve(), COSINE, schedule.flow(), schedule.sub_vp()):
        c = schedule.coefficients(make, t, t)
        s = c.sigma / c.alpha
        papers = (s**2 + sigma_data**2) / (s * sigma_data) ** 2
        np.testing.assert_allclose(weighting(prediction.x0, c), papers, rtol=1e-12)
        np.testing.assert_allclose(weighting(prediction.edm(sigma_data), c), 1, rtol=1e-12)


def test_score_matching_is_the_error_in_eps():
    """sigma² ‖score + eps / sigma‖² = ‖eps_hat − eps‖² for eps_hat = −sigma score, NCSN's weight."""
    keys, x0 = data(200)
    make = schedule.edm(1.0)
    t = jnp.linspace(0.01, 1, len(x0))
    weighting = loss.score_matching()
    predict = lambda x, t: -0.5 * x
    as_eps = lambda x, t: -make(t)[1][:, None] * predict(x, t)
    found = loss.denoising(keys, predict, x0, t, make, prediction.score, weighting)
    expected = loss.denoising(keys, as_eps, x0, t, make, prediction.eps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    c = schedule.coefficients(make, t, t)
    np.testing.assert_allclose(weighting(prediction.score, c), c.sigma**2, rtol=1e-5)


def between(make, low, high):
    """The times of logsnr `high` and `low`."""
    return schedule.time_of_logsnr(make, jnp.asarray([high, low]))


def integrals(make, weightings, p, low=-10.0, high=10.0):
    """∫ w E[error in p]² dt over the times of logsnr in [low, high], Gauss–Legendre with 800 nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(800)

    @jax.jit
    def each():
        t_min, t_max = between(make, low, high)
        t = t_min + (t_max - t_min) * (nodes + 1) / 2
        c = schedule.coefficients(make, t, t)
        error = irreducible(make, t) * prediction.loss_ratio(prediction.x0, p, c)
        return [jnp.sum(weights * w(p, c) * error) * (t_max - t_min) / 2 for w in weightings]

    return np.asarray(each())


@pytest.mark.usefixtures('x64')
def test_the_integrals_over_logsnr_are_the_same_for_every_schedule():
    """And the likelihood's is the diffusion term in nats, ½ ∫ E‖eps − eps_hat‖² dγ, γ = −λ:

    for N(m, S²) the error in eps is S² / (S² + e^γ) and the integral ½ [γ − log(S² + e^γ)].
    """
    weightings = loss.likelihood(), loss.sigmoid(-1.5), loss.min_snr()
    makes = (
        COSINE,
        schedule.vp(),
        schedule.flow(),
        schedule.shifted(COSINE, 2.0),
        schedule.sigmoid(),
    )
    found = np.stack([integrals(make, weightings, prediction.v) for make in makes])
    primitive = lambda g: (g - np.log(gaussian_data.STD**2 + np.exp(g))) / 2
    np.testing.assert_allclose(found[:, 0], primitive(10) - primitive(-10), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], found[0, 1], rtol=1e-6)
    assert np.ptp(found[:, 2]) > 0.1 * found[0, 2]  # min-SNR's is no such integral


@pytest.mark.usefixtures('x64')
def test_a_large_bias_makes_sigmoid_the_likelihood():
    c = schedule.coefficients(COSINE, jnp.linspace(0.05, 0.95, 19), jnp.zeros(19))
    full = loss.likelihood()(prediction.v, c)
    np.testing.assert_allclose(loss.sigmoid(60.0)(prediction.v, c), full, rtol=1e-9)
    assert np.all(loss.sigmoid(2.0)(prediction.v, c) < full)


@pytest.mark.parametrize('make', [COSINE, schedule.vp(), schedule.edm()], ids=['cos', 'vp', 'edm'])
def test_a_random_time_estimates_the_diffusion_term(make):
    """The mean over uniform t, times the components and 1 − t_min, in nats, within 4 errors."""
    keys, x0 = data(4000, 4)
    t_min, _ = between(make, -3.0, 6.0)
    t = t_min + (1 - t_min) * (jnp.arange(len(x0)) + 0.5) / len(x0)
    p = prediction.v if make is not COSINE else prediction.edm(0.6)
    losses = jax.jit(
        lambda t: loss.denoising(keys, exact(p, make), x0, t, make, p, loss.likelihood())
    )(t)
    nats = np.asarray((1 - t_min) * x0[0].size * losses, np.float64)
    gamma = -np.asarray(schedule.logsnr(make, jnp.asarray([t_min, 1.0])), np.float64)
    # ½ log(S² e^(−γ) + 1), the same primitive with its sign turned: free of overflow at γ = ∞
    primitive = lambda g: -0.5 * np.log1p(gaussian_data.STD**2 * np.exp(-g))
    expected = x0[0].size * (primitive(gamma[1]) - primitive(gamma[0]))
    assert abs(nats.mean() - expected) < 4 * nats.std() / len(x0) ** 0.5


@pytest.mark.parametrize(
    'make', [COSINE, schedule.vp(), schedule.flow()], ids=['cos', 'vp', 'flow']
)
def test_weights_are_finite_where_signal_or_noise_vanish(make):
    t = jnp.array([0.0, 1e-6, 1 - 2**-24, 1.0])
    c = schedule.coefficients(make, t, t)
    for name, (weighting, _) in WEIGHTINGS.items():
        older = name in ('min_snr', 'p2', 'p2_half')  # made for x0, eps and v, inside the chain
        for p in PREDICTIONS if older else EVERY:
            weights = weighting(p, c)[1 if older else 0 :]
            assert np.all(np.isfinite(weights)) and np.all(weights >= 0), (name, p.name, weights)
