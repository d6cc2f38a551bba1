import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import prediction, schedule

PREDICTIONS = [
    prediction.x0,
    prediction.eps,
    prediction.v,
    prediction.velocity,
    prediction.score,
    prediction.edm(0.5),
]
SCHEDULES = [schedule.cosine(), schedule.vp(), schedule.ve(), schedule.flow()]
pytestmark = pytest.mark.usefixtures('x64')


def draw(shape=(5, 3)):
    x0, eps = jax.random.normal(jax.random.key(0), (2, *shape))
    return x0, eps, jnp.linspace(0.05, 0.95, shape[0])


@pytest.mark.parametrize('make', SCHEDULES)
@pytest.mark.parametrize('p', PREDICTIONS, ids=lambda p: p.name)
def test_the_target_means_the_data_and_the_noise(p, make):
    x0, eps, t = draw()
    c = schedule.coefficients(make, t, x0)
    x_t = c.alpha * x0 + c.sigma * eps
    found = prediction.to_x0_eps(p, c, x_t, prediction.target(p, c, x0, eps))
    np.testing.assert_allclose(found, (x0, eps), atol=1e-9)


@pytest.mark.parametrize('q', PREDICTIONS, ids=lambda p: p.name)
@pytest.mark.parametrize('p', PREDICTIONS, ids=lambda p: p.name)
def test_loss_ratio_is_the_ratio_of_squared_errors(p, q):
    x0, eps, t = draw()
    c = schedule.coefficients(schedule.cosine(), t, x0)
    x_t = c.alpha * x0 + c.sigma * eps
    error = 0.1 * jnp.ones_like(x0)
    wrong = prediction.to_x0_eps(p, c, x_t, prediction.target(p, c, x0, eps) + error)
    error_q = prediction.target(q, c, *wrong) - prediction.target(q, c, x0, eps)
    ratio = jnp.broadcast_to(prediction.loss_ratio(p, q, c), x0.shape)
    np.testing.assert_allclose(error_q**2 / error**2, ratio, rtol=1e-9)


def test_known_cases():
    """v = alpha eps − sigma x0 (Salimans and Ho), and an error in x0 is snr times that in eps."""
    x0, eps, t = draw()
    c = schedule.coefficients(schedule.cosine(), t, x0)
    v = prediction.target(prediction.v, c, x0, eps)
    x_t = c.alpha * x0 + c.sigma * eps
    np.testing.assert_allclose(c.alpha * x_t - c.sigma * v, x0, atol=1e-12)
    snr = (c.alpha / c.sigma) ** 2
    np.testing.assert_allclose(prediction.loss_ratio(prediction.x0, prediction.eps, c), snr)


def test_eps_says_nothing_at_pure_noise():
    c = schedule.coefficients(schedule.cosine(), 1.0, jnp.zeros(()))
    assert prediction.determinant(prediction.eps, c) == 0
    assert prediction.determinant(prediction.v, c) == 1


def test_velocity_and_score_are_what_they_are_called():
    x0, eps, t = draw()
    c = schedule.coefficients(schedule.cosine(), t, x0)
    path = lambda t: jnp.cos(jnp.pi / 2 * t)[:, None] * x0 + jnp.sin(jnp.pi / 2 * t)[:, None] * eps
    velocity = jax.jvp(path, (t,), (jnp.ones_like(t),))[1]
    np.testing.assert_allclose(prediction.target(prediction.velocity, c, x0, eps), velocity)
    density = lambda x: -jnp.sum((x - c.alpha * x0) ** 2 / (2 * c.sigma**2))
    score = jax.grad(density)(c.alpha * x0 + c.sigma * eps)
    np.testing.assert_allclose(prediction.target(prediction.score, c, x0, eps), score, rtol=1e-9)


def test_edm_is_the_papers_preconditioning():
    """Karras et al. 2022, table 1, at alpha = 1; and −v for unit data on a VP schedule."""
    x0, eps, t = draw()
    c = schedule.coefficients(schedule.edm(), t, x0)
    skip = 0.5**2 / (c.sigma**2 + 0.5**2)
    out = c.sigma * 0.5 / jnp.sqrt(0.5**2 + c.sigma**2)
    expected = (x0 - skip * (x0 + c.sigma * eps)) / out
    np.testing.assert_allclose(
        prediction.target(prediction.edm(0.5), c, x0, eps), expected, rtol=1e-7
    )
    c = schedule.coefficients(schedule.cosine(), t, x0)
    for row, v in zip(prediction.edm(1.0).row(c), prediction.v.row(c)):
        np.testing.assert_allclose(row, -v, atol=1e-12)


def test_predictions_that_divide_by_alpha_start_where_they_can():
    for p in PREDICTIONS:
        divides = p.name in ('eps', 'score')
        assert (prediction.start(p, schedule.cosine()) < 1) == divides
        assert (prediction.start(p, schedule.flow()) < 1) == divides
        for make in (schedule.ddpm_linear(), schedule.ve(0.01, 1348.0), schedule.edm(80.0)):
            assert prediction.start(p, make) == 1
        prediction.check_start(p, schedule.cosine(), prediction.start(p, schedule.cosine()))
    with pytest.raises(ValueError, match="'eps' says nothing about x0 at t=1.*t_max=0.9968"):
        prediction.check_start(prediction.eps, schedule.cosine(), 1.0)
