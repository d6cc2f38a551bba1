import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, grid, samplers, schedule
from jaxdiff.evaluation import convergence

pytestmark = pytest.mark.usefixtures('x64')
SCHEDULES = {
    'vp': schedule.vp(),
    've': schedule.ve(sigma_min=0.05, sigma_max=5.0),
    'flow': schedule.flow(),
}
ORDERS = {
    'ddim': (samplers.ddim, 1),
    'euler': (functools.partial(samplers.euler, variable='t'), 1),
    'heun_t': (functools.partial(samplers.heun, variable='t'), 2),
    'heun': (samplers.heun, 2),
    'rk4_t': (functools.partial(samplers.rk4, variable='t'), 4),
    'rk4': (samplers.rk4, 4),
    'dpmpp_2s': (samplers.dpmpp_2s, 2),
    'dpmpp_2m': (samplers.dpmpp_2m, 2),
    'dpmpp_3m': (samplers.dpmpp_3m, 3),
}


@pytest.mark.parametrize('schedule_name', SCHEDULES)
@pytest.mark.parametrize('name', ORDERS)
def test_the_error_falls_with_the_samplers_order(name, schedule_name):
    make, order = ORDERS[name]
    shown = convergence.orders(make, SCHEDULES[schedule_name], steps=(48, 96, 192))
    assert np.all(shown >= order - 0.25), shown


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_reference_is_the_closed_form_of_one_gaussian(name):
    """For N(m, s²) the flow is a stretch about the mean: x_s − alpha_s m = std_s/std_t (x_t − alpha_t m)."""
    make, mean, std = SCHEDULES[name], np.array([0.3, -0.2]), 0.6
    x = np.array([[1.0, -0.5], [0.1, 0.7]])
    denoise = exact.mixture(make, [1.0], [mean], [std])
    (a_t, s_t), (a_s, s_s) = make(0.8), make(0.2)
    ratio = np.hypot(a_s * std, s_s) / np.hypot(a_t * std, s_t)
    expected = a_s * mean + ratio * (x - a_t * mean)
    np.testing.assert_allclose(convergence.flow(denoise, make, x, 0.8, 0.2), expected, atol=1e-10)


@pytest.mark.parametrize('name', ORDERS)
def test_the_step_to_sigma_zero_returns_the_belief(name):
    make, denoise = SCHEDULES['vp'], exact.mixture(SCHEDULES['vp'], [1.0], [[0.3, 0.1]], [0.5])
    x = jnp.array([[0.4, -0.3]])
    keys = jax.random.split(jax.random.key(0), 1)
    state, _ = diffusion.run(keys, denoise, ORDERS[name][0](make), x, jnp.array([0.3, 0.0]))
    np.testing.assert_allclose(state.x, denoise(x, 0.3), atol=1e-6 if name == 'euler' else 1e-12)
    assert state.nfe == 1


@pytest.mark.parametrize(
    'name, per_step, extra',
    [('heun', 2, 0), ('rk4', 4, 0), ('dpmpp_2s', 2, 0), ('dpmpp_2m', 1, 0), ('dpmpp_3m', 1, 1)],
)
def test_evaluations_are_counted(name, per_step, extra):
    make, calls = SCHEDULES['vp'], []
    exact_denoise = exact.mixture(make, [1.0], [[0.3, 0.1]], [0.5])

    def denoise(x, t):
        jax.debug.callback(lambda: calls.append(1))
        return exact_denoise(x, t)

    keys = jax.random.split(jax.random.key(0), 1)
    state, _ = diffusion.run(
        keys, denoise, ORDERS[name][0](make), jnp.ones((1, 2)), grid.uniform(5, 0.8, 0.2)
    )
    jax.effects_barrier()
    assert state.nfe == len(calls) == 5 * per_step + extra


def test_the_stochastic_multistep_solver_reaches_the_moments():
    """Of a Gaussian's samples, to four standard errors and the solver's own bias."""
    with jax.enable_x64(False):
        make, n = schedule.vp(), 200_000
        denoise = exact.mixture(make, [1.0], [[0.3] * 100], [0.6])
        x_1 = jax.random.normal(jax.random.key(0), (n // 100, 100))
        keys = jax.random.split(jax.random.key(7), n // 100)
        times = grid.uniform(200)
        x = jax.jit(
            lambda k: diffusion.sample(k, denoise, samplers.dpmpp_2m_sde(make), x_1, times)
        )(keys)
    assert abs(x.mean() - 0.3) < 4 * 0.6 / n**0.5 + 1e-3
    assert abs(x.std() - 0.6) < 4 * 0.6 / (2 * n) ** 0.5 + 3e-3
