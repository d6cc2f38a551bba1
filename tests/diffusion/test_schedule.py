import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import schedule

SCHEDULES = {
    'cosine': schedule.cosine(),
    'cosine_ddpm': schedule.cosine(offset=0.008),
    'ddpm_linear': schedule.ddpm_linear(),
    'scaled_linear': schedule.scaled_linear(),
    'sigmoid': schedule.sigmoid(),
    'vp': schedule.vp(),
    'shifted': schedule.shifted(schedule.cosine(), 2.0),
    'zero_terminal_snr': schedule.zero_terminal_snr(schedule.ddpm_linear()),
}
OTHERS = {
    'sub_vp': schedule.sub_vp(),
    've': schedule.ve(),
    'edm': schedule.edm(),
    'flow': schedule.flow(),
    'flow_shifted': schedule.flow(3.0),
}
pytestmark = pytest.mark.usefixtures('x64')


@pytest.mark.parametrize('name', SCHEDULES)
def test_preserves_variance_and_runs_from_data_to_noise(name):
    t = jnp.linspace(0, 1, 1001)
    alpha, sigma = SCHEDULES[name](t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-14)
    assert alpha[0] == pytest.approx(1, abs=1e-12) and sigma[0] == 0
    assert alpha[-1] < 0.07  # Stable Diffusion's ends at 0.068
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


@pytest.mark.parametrize('name', SCHEDULES | OTHERS)
def test_inverse_of_logsnr(name):
    make, t = (SCHEDULES | OTHERS)[name], jnp.linspace(0.002, 0.998, 97)
    np.testing.assert_allclose(
        schedule.time_of_logsnr(make, schedule.logsnr(make, t)), t, atol=1e-9
    )


@pytest.mark.parametrize('name', OTHERS)
def test_the_others_run_from_data_to_noise(name):
    alpha, sigma = OTHERS[name](jnp.linspace(0, 1, 1001))
    assert alpha[0] == 1 and sigma[0] == 0
    assert alpha[-1] / sigma[-1] < 0.03
    assert np.all(np.diff(schedule.logsnr(OTHERS[name], jnp.linspace(0.001, 0.999, 99))) < 0)


def test_the_sdes_of_the_paper():
    """Song et al. 2021, eqs. 30 to 32 of the appendix: drift and diffusion in closed form."""
    t = jnp.linspace(0.01, 0.99, 50)
    beta = 0.1 + t * 19.9
    integral = 0.1 * t + 19.9 * t**2 / 2
    for make, expected in (
        (schedule.vp(), beta),
        (schedule.sub_vp(), beta * (1 - np.exp(-2 * integral))),
    ):
        f, g2 = jax.vmap(lambda t, make=make: schedule.sde(make, t))(t)
        np.testing.assert_allclose(f, -beta / 2, rtol=1e-10)
        np.testing.assert_allclose(g2, expected, rtol=1e-10)
    f, g2 = jax.vmap(lambda t: schedule.sde(schedule.ve(), t))(t)
    np.testing.assert_array_equal(f, 0)
    growth = 2 * np.log(50 / 0.01)
    np.testing.assert_allclose(g2, 0.01**2 * growth * np.exp(growth * t), rtol=1e-10)


def test_a_shift_lowers_logsnr():
    t = jnp.linspace(0.01, 0.99, 50)
    for make, moved, ratio in (
        (schedule.cosine(), SCHEDULES['shifted'], 2),
        (schedule.flow(), schedule.flow(3.0), 3),
    ):
        lower = schedule.logsnr(make, t) - 2 * np.log(ratio)
        np.testing.assert_allclose(schedule.logsnr(moved, t), lower, atol=1e-10)
    alpha, sigma = schedule.flow(3.0)(t)
    np.testing.assert_allclose(alpha + sigma, 1)


def test_zero_terminal_snr_stretches_alpha():
    t = jnp.linspace(0, 1, 101)
    alpha, stretched = (SCHEDULES[k](t)[0] for k in ('ddpm_linear', 'zero_terminal_snr'))
    np.testing.assert_allclose(stretched, (alpha - alpha[-1]) / (1 - alpha[-1]), atol=1e-12)
    assert stretched[-1] == pytest.approx(0, abs=1e-12)


def test_scaled_linear_is_stable_diffusions():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha, _ = SCHEDULES['scaled_linear'](np.array([1, 500, 1000]) / 1000)
    np.testing.assert_allclose(alpha**2, np.cumprod(1 - betas)[[0, 499, 999]], rtol=1e-10)


def test_sigmoid_is_symmetric():
    t = jnp.linspace(0, 1, 11)
    alpha, sigma = SCHEDULES['sigmoid'](t)
    np.testing.assert_allclose(alpha, sigma[::-1], atol=1e-12)
    np.testing.assert_allclose(alpha[5], 0.5**0.5)


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


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [schedule.ddpm_linear(), schedule.scaled_linear(), schedule.vp()])
def test_the_zero_end_has_its_slope(make):
    """alpha falls to 0 as steeply as just before, so that a velocity at t = 1 means what it should."""
    stretched = schedule.zero_terminal_snr(make)
    at_one = schedule.coefficients(stretched, 1.0, jnp.zeros(())).dalpha
    before = (stretched(1.0)[0] - stretched(1 - 1e-6)[0]) / 1e-6
    assert float(at_one) == pytest.approx(float(before), rel=1e-3) and at_one < 0


@pytest.mark.usefixtures('x64')
def test_a_schedule_keeps_the_dtype_of_its_time():
    t = jnp.linspace(0, 1, 5, dtype=jnp.float32)
    for make in (
        schedule.cosine(),
        schedule.cosine(offset=0.008),
        schedule.sigmoid(),
        schedule.vp(),
        schedule.sub_vp(),
        schedule.ve(),
        schedule.edm(),
        schedule.flow(3.0),
        schedule.shifted(schedule.cosine(), 2.0),
        schedule.zero_terminal_snr(schedule.vp()),
    ):
        assert {c.dtype for c in make(t)} == {jnp.dtype('float32')}
