import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, gaussian, grid, prediction, samplers, schedule

PREDICTIONS = [
    prediction.x0,
    prediction.eps,
    prediction.v,
    prediction.velocity,
    prediction.score,
    prediction.edm(0.5),
]
SCHEDULES = {
    'cosine': schedule.cosine(),
    'cosine_ddpm': schedule.cosine(offset=0.008),
    'ddpm_linear': schedule.ddpm_linear(),
    'flow': schedule.flow(),
    'vp': schedule.vp(),
}
SAMPLERS = {
    'ddim': samplers.ddim,
    'ddim_half': lambda s: samplers.ddim(s, 0.5),
    'ddim_one': lambda s: samplers.ddim(s, 1.0),
    'ddpm': samplers.ddpm,
    'ddpm_large': lambda s: samplers.ddpm(s, 'large'),
    'dpmpp_3m': samplers.dpmpp_3m,
    'heun': samplers.heun,
}


def keys(n):
    return jax.random.split(jax.random.key(7), n)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_ddim_is_a_first_order_solution_of_the_probability_flow(name):
    make = SCHEDULES[name]
    x = jnp.linspace(-2, 2, 9)[:, None]
    errors = []
    for steps in (40, 80, 160):
        times = grid.uniform(steps, t_max=0.8, t_min=0.2)
        found = diffusion.sample(
            keys(9), gaussian_data.denoiser(make), samplers.ddim(make), x, times
        )
        errors.append(np.abs(found - gaussian_data.flow(make, x, 0.8, 0.2)).max())
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(slopes > 0.75), (errors, slopes)


@pytest.mark.usefixtures('x64')
def test_the_large_variance_is_exact_for_standard_normal_data_at_any_step_count():
    """Ho et al. 2020, section 3.2: the variance after a step is 1 again, however long the step."""
    make = SCHEDULES['cosine']
    alpha, _ = make(0.9)
    slope, _ = gaussian.posterior_moments(make, 1.0, alpha, 0.9, 0.4)
    variance = gaussian.transition_moments(make, 1.0, 0.4, 0.9)[1]
    assert float(slope**2 + variance) == pytest.approx(1, abs=1e-12)


@pytest.mark.usefixtures('x64')
def test_ddim_with_eta_one_is_ddpm():
    make, x_1 = SCHEDULES['ddpm_linear'], jax.random.normal(jax.random.key(0), (16, 3))
    denoise, times = gaussian_data.denoiser(make), grid.uniform(1000)  # DDPM's own
    one = diffusion.sample(keys(16), denoise, samplers.ddim(make, 1.0), x_1, times)
    other = diffusion.sample(keys(16), denoise, samplers.ddpm(make), x_1, times)
    np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
    'name, schedule_name',
    [('ddim', 'ddpm_linear'), ('ddpm_large', 'cosine'), ('dpmpp_3m', 'flow'), ('heun', 'vp')],
)
@pytest.mark.parametrize('p', PREDICTIONS, ids=lambda p: p.name)
def test_predictions_of_one_function_give_one_sample(p, name, schedule_name):
    """Where alpha and sigma are at least 0.01."""
    make = SCHEDULES[schedule_name]
    exact = gaussian_data.denoiser(make)

    def net(x, level):
        c = schedule.coefficients(make, level / 1000, x)
        x_t = x * jnp.hypot(c.alpha, c.sigma)  # undoes the scaling of the input
        x0 = exact(x_t, level / 1000)
        return prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)

    x_1, times = jax.random.normal(jax.random.key(0), (8, 2)), grid.uniform(20, 0.95, 0.02)
    assert min(map(float, (*make(0.95), *make(0.02)))) >= 0.0099
    sampler = SAMPLERS[name](make)
    found = diffusion.sample(keys(8), denoiser.from_network(net, p, make), sampler, x_1, times)
    expected = diffusion.sample(keys(8), exact, sampler, x_1, times)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['heun', 'dpmpp_3m', 'unipc', 'ddpm', 'dpmpp_2m_sde', 'rk4'])
def test_edm_ve_and_vp_with_matched_preconditioning_agree(name):
    """One network, told log noise alone, its input and output scaled by EDM's table 1: at the same
    noise levels sigma / alpha every schedule makes the same x / alpha."""
    weights = np.random.default_rng(0).standard_normal((3, 2, 2))

    def net(x, logsnr):
        hidden = jnp.tanh(x @ weights[0] + logsnr / 4)
        return jnp.tanh(hidden @ weights[1]) @ weights[2]

    levels, ends = np.geomspace(10, 0.05, 13), []
    for make in (schedule.edm(), schedule.ve(), schedule.vp(), schedule.flow()):
        times = schedule.time_of_logsnr(make, -2 * jnp.log(levels))
        denoise = denoiser.from_network(
            net, prediction.edm(0.5), make, lambda s, t: schedule.logsnr(s, t), sigma_data=0.5
        )
        x_1 = 10 * jax.random.normal(jax.random.key(0), (4, 2)) * make(times[0])[0]
        sampler = getattr(samplers, name)(make)
        end = diffusion.sample(keys(4), denoise, sampler, x_1, times)
        ends.append(end / make(times[-1])[0])
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-7, atol=1e-7)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='eta must lie between 0 and 1'):
        samplers.ddim(schedule.cosine(), 1.5)
    with pytest.raises(ValueError, match="'small', 'large' or 'learned'"):
        samplers.ddpm(schedule.cosine(), 'huge')
