import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import loss, prediction, schedule

COSINE = schedule.cosine()
PREDICTIONS = [prediction.x0, prediction.eps, prediction.v]
ids = {'ids': lambda p: p.name}


def data(n=2000, dims=50):
    keys = jax.random.split(jax.random.key(0), n)
    x0 = gaussian_data.MEAN + gaussian_data.STD * jax.random.normal(jax.random.key(1), (n, dims))
    return keys, x0


def exact(p):
    """A network that outputs the best prediction p of the Gaussian data."""
    denoise = gaussian_data.denoiser(COSINE)

    def predict(x_t, t):
        c = schedule.coefficients(COSINE, t, x_t)
        x0 = denoise(x_t, t[:, None])
        return prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)

    return predict


def test_a_silent_network_has_loss_one_in_eps():
    keys, x0 = data()
    t = jnp.linspace(0.01, 1, len(x0))
    losses = loss.denoising(keys, lambda x, t: 0 * x, x0, t, COSINE, prediction.eps)
    assert losses.shape == (len(x0),)
    assert losses.mean() == pytest.approx(1, abs=4 * (2 / x0.size) ** 0.5)


@pytest.mark.parametrize('p', PREDICTIONS, **ids)
def test_the_exact_network_reaches_the_irreducible_loss(p):
    """Var[x0 | x_t] = std² sigma² / (alpha² std² + sigma²), carried to p by the loss ratio."""
    keys, x0 = data()
    for time in (0.1, 0.5, 0.9):
        t = jnp.full(len(x0), time)
        alpha, sigma = COSINE(time)
        std2 = gaussian_data.STD**2
        variance = std2 * sigma**2 / (alpha**2 * std2 + sigma**2)
        c = schedule.coefficients(COSINE, time, jnp.zeros(()))
        expected = float(variance * prediction.loss_ratio(prediction.x0, p, c))
        found = loss.denoising(keys, exact(p), x0, t, COSINE, p).mean()
        assert found == pytest.approx(expected, rel=4 * (2 / x0.size) ** 0.5)


@pytest.mark.parametrize('weighting', [loss.min_snr(5.0), loss.p2(1.0, 1.0), loss.p2(0.5, 2.0)])
def test_a_weighted_loss_is_the_same_in_every_prediction(weighting):
    keys, x0 = data(200)
    t = jnp.linspace(0.02, 0.98, len(x0))
    losses = [loss.denoising(keys, exact(p), x0, t, COSINE, p, weighting) for p in PREDICTIONS]
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)
    np.testing.assert_allclose(losses[2], losses[0], rtol=2e-3)


def test_weights_are_those_of_the_papers():
    c = schedule.coefficients(COSINE, jnp.linspace(0.05, 0.95, 19), jnp.zeros(19))
    snr = (c.alpha / c.sigma) ** 2
    min_snr, p2 = loss.min_snr(5.0), loss.p2(1.0, 1.0)
    np.testing.assert_allclose(min_snr(prediction.x0, c), jnp.minimum(snr, 5), rtol=1e-5)
    np.testing.assert_allclose(min_snr(prediction.eps, c), jnp.minimum(1, 5 / snr), rtol=1e-5)
    np.testing.assert_allclose(p2(prediction.eps, c), 1 / (1 + snr), rtol=1e-5)
    np.testing.assert_allclose(p2(prediction.v, c), snr / (1 + snr) ** 2, rtol=1e-5)


@pytest.mark.parametrize('weighting', [loss.min_snr(), loss.p2()])
@pytest.mark.parametrize('p', PREDICTIONS, **ids)
def test_weights_are_finite_where_signal_or_noise_vanish(p, weighting):
    c = schedule.coefficients(COSINE, jnp.array([1e-6, 1 - 2**-24, 1.0]), jnp.zeros(3))
    assert np.all(np.isfinite(weighting(p, c)))
