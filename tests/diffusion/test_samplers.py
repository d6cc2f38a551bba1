import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, gaussian, grid, prediction, samplers, schedule

SCHEDULES = {
    'cosine': schedule.cosine(),
    'cosine_ddpm': schedule.cosine(offset=0.008),
    'ddpm_linear': schedule.ddpm_linear(),
}
SAMPLERS = {
    'ddim': samplers.ddim,
    'ddim_half': lambda s: samplers.ddim(s, 0.5),
    'ddim_one': lambda s: samplers.ddim(s, 1.0),
    'ddpm': samplers.ddpm,
    'ddpm_large': lambda s: samplers.ddpm(s, 'large'),
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


@pytest.mark.parametrize('name', ['ddim_half', 'ddim_one', 'ddpm', 'ddpm_large'])
def test_stochastic_samplers_reach_the_datas_moments(name):
    make, n = SCHEDULES['cosine'], 200_000
    x_1 = jax.random.normal(jax.random.key(0), (n // 100, 100))
    walk = jax.jit(
        lambda keys: diffusion.sample(
            keys, gaussian_data.denoiser(make), SAMPLERS[name](make), x_1, grid.uniform(500)
        )
    )
    x = np.asarray(walk(keys(n // 100)))
    assert abs(x.mean() - gaussian_data.MEAN) < 4 * gaussian_data.STD / n**0.5
    tolerance = 4 * gaussian_data.STD / (2 * n) ** 0.5 + 2 / 500 * gaussian_data.STD
    assert abs(x.std() - gaussian_data.STD) < tolerance


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
    denoise, times = gaussian_data.denoiser(make), grid.uniform(100)
    one = diffusion.sample(keys(16), denoise, samplers.ddim(make, 1.0), x_1, times)
    other = diffusion.sample(keys(16), denoise, samplers.ddpm(make), x_1, times)
    np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['ddim', 'ddim_half', 'ddpm_large'])
@pytest.mark.parametrize('p', [prediction.x0, prediction.eps, prediction.v], ids=lambda p: p.name)
def test_predictions_of_one_function_give_one_sample(p, name):
    make = SCHEDULES['ddpm_linear']
    exact = gaussian_data.denoiser(make)

    def net(x, level):
        c = schedule.coefficients(make, level / 1000, x)
        x0 = exact(x, level / 1000)
        return prediction.target(p, c, x0, (x - c.alpha * x0) / c.sigma)

    x_1, times = jax.random.normal(jax.random.key(0), (8, 2)), grid.uniform(20, 0.99, 0.02)
    sampler = SAMPLERS[name](make)
    found = diffusion.sample(keys(8), denoiser.from_network(net, p, make), sampler, x_1, times)
    expected = diffusion.sample(keys(8), exact, sampler, x_1, times)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('schedule_name', SCHEDULES)
@pytest.mark.parametrize('name', SAMPLERS)
def test_conformance(name, schedule_name):
    """What every sampler owes: see the assertions."""
    make = SCHEDULES[schedule_name]
    sampler, exact, traces = SAMPLERS[name](make), gaussian_data.denoiser(make), []

    @jax.jit
    def walk(keys, x_1):
        traces.append(1)
        return diffusion.run(keys, exact, sampler, x_1, grid.uniform(7), lambda state: state.x)

    x_1 = jax.random.normal(jax.random.key(0), (6, 2, 2))
    state, frames = walk(keys(6), x_1)
    assert state.x.shape == x_1.shape and state.x.dtype == x_1.dtype
    assert np.all(np.isfinite(frames)) and frames.shape == (7, *x_1.shape)
    np.testing.assert_array_equal(frames[-1], state.x)
    assert state.nfe == 7  # counted right
    np.testing.assert_array_equal(walk(keys(6), x_1)[0].x, state.x)  # its keys decide
    alone = diffusion.sample(keys(6)[4:5], exact, sampler, x_1[4:5], grid.uniform(7))
    np.testing.assert_allclose(alone[0], state.x[4], atol=1e-5)  # and not its neighbours
    np.testing.assert_array_equal(  # no steps: as it came
        diffusion.sample(keys(6), exact, sampler, x_1, grid.uniform(0)), x_1
    )
    belief = exact(frames[-2], grid.uniform(7)[-2])
    np.testing.assert_allclose(state.x, belief, atol=1e-6)  # the step to sigma = 0
    assert len(traces) == 1


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='eta must lie between 0 and 1'):
        samplers.ddim(schedule.cosine(), 1.5)
    with pytest.raises(ValueError, match="'small' or 'large'"):
        samplers.ddpm(schedule.cosine(), 'huge')
