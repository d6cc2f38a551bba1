import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import schedule

SCHEDULES = {
    'cosine': schedule.cosine(),
    'cosine_ddpm': schedule.cosine(offset=0.008),
    'ddpm_linear': schedule.ddpm_linear(),
}
pytestmark = pytest.mark.usefixtures('x64')


@pytest.mark.parametrize('name', SCHEDULES)
def test_preserves_variance_and_runs_from_data_to_noise(name):
    t = jnp.linspace(0, 1, 1001)
    alpha, sigma = SCHEDULES[name](t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-14)
    assert alpha[0] == 1 and sigma[0] == 0
    assert alpha[-1] < 0.01
    assert np.all(np.diff(schedule.logsnr(SCHEDULES[name], t)[1:-1]) < 0)


def test_ddpm_linear_is_the_papers_chain_on_its_grid():
    betas = np.linspace(1e-4, 0.02, 1000)
    i = np.arange(1, 1001)
    alpha, _ = schedule.ddpm_linear()(i / 1000)
    np.testing.assert_allclose(alpha**2, np.cumprod(1 - betas), rtol=1e-12)
    assert alpha[-1] ** 2 == pytest.approx(4.0358e-5, rel=1e-3)  # the paper: L_T ≈ 1e-5 bits/dim


def test_cosine_has_a_closed_logsnr():
    t = jnp.linspace(0.01, 0.99, 50)
    expected = -2 * np.log(np.tan(np.pi * t / 2))
    np.testing.assert_allclose(schedule.logsnr(schedule.cosine(), t), expected, atol=1e-12)


def test_cosine_of_nichol_and_dhariwal():
    t = np.array([1, 10, 100, 500, 900]) / 1000
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(SCHEDULES['cosine_ddpm'](t)[0] ** 2, f(t) / f(0), rtol=1e-9)
    last = SCHEDULES['cosine_ddpm'](jnp.array([0.999, 1.0]))[0] ** 2
    assert last[1] / last[0] == pytest.approx(1e-3)  # the last beta is capped at 0.999


@pytest.mark.parametrize('name', SCHEDULES)
def test_inverse_of_logsnr(name):
    t = jnp.linspace(0.002, 0.998, 97)
    found = schedule.time_of_logsnr(SCHEDULES[name], schedule.logsnr(SCHEDULES[name], t))
    np.testing.assert_allclose(found, t, atol=1e-9)


def test_coefficients_are_derivatives_shaped_like_the_data():
    t = jnp.array([0.1, 0.5, 0.9])
    c = schedule.coefficients(schedule.cosine(), t, jnp.zeros((3, 4, 4, 1)))
    assert c.alpha.shape == (3, 1, 1, 1)
    np.testing.assert_allclose(c.dalpha.ravel(), -np.pi / 2 * np.sin(np.pi * t / 2), rtol=1e-12)
    np.testing.assert_allclose(c.dsigma.ravel(), np.pi / 2 * np.cos(np.pi * t / 2), rtol=1e-12)


def test_single_precision_keeps_small_noise_exact():
    with jax.enable_x64(False):
        sigma = schedule.ddpm_linear()(jnp.float32(1e-3))[1]
        assert sigma.dtype == jnp.float32
    assert float(sigma) == pytest.approx(1e-2, rel=1e-6)


def test_t_max_is_one_unless_alpha_vanishes():
    assert schedule.t_max(schedule.ddpm_linear()) == 1.0
    t = schedule.t_max(schedule.cosine(), alpha_min=0.01)
    assert schedule.cosine()(t)[0] == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize('betas', [[0.1, 1.0], [0.0], [-0.1], 0.5])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match='betas must be'):
        schedule.from_betas(betas)
