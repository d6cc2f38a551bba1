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
    'deis_2': (samplers.deis, 2),
    'deis_3': (functools.partial(samplers.deis, order=3), 3),
    'unipc_1': (functools.partial(samplers.unipc, p=1), 1),
    'unipc_2': (samplers.unipc, 2),
    'unipc_3': (functools.partial(samplers.unipc, p=3), 3),
}
STEPS = (48, 96, 192)


@functools.cache
def shown(name, schedule_name):
    return convergence.orders(ORDERS[name][0], SCHEDULES[schedule_name], steps=STEPS)


@pytest.mark.parametrize('schedule_name', SCHEDULES)
@pytest.mark.parametrize('name', ORDERS)
def test_the_error_falls_with_the_samplers_order(name, schedule_name):
    orders = shown(name, schedule_name)
    assert np.all(orders >= ORDERS[name][1] - 0.25), orders


@pytest.mark.parametrize(
    'name, schedule_name', [('unipc_1', 'vp'), ('unipc_1', 've'), ('unipc_2', 've')]
)
def test_unipcs_corrector_adds_an_order(name, schedule_name):
    orders = shown(name, schedule_name)
    assert np.all(orders >= ORDERS[name][1] + 1 - 0.25), orders


def test_unipcs_other_variant_has_the_order_too():
    make = functools.partial(samplers.unipc, variant='bh1')
    assert np.all(convergence.orders(make, SCHEDULES['flow'], STEPS) >= 1.75)


def third_order(make, second_difference):
    """A user's own sampler: 3M as published, its second difference multiplied by a number."""
    half = lambda t: schedule.logsnr(make, t) / 2
    first = samplers.dpmpp_2s(make)

    def init(x_1, denoise, times):
        memory = jnp.int32(0), jnp.zeros((2, *x_1.shape)), jnp.zeros(2)
        return samplers.State(x_1, jnp.int32(0), memory)

    def step(keys, state, t, s, denoise):
        (count, (m_1, m_2), (t_1, t_2)), m_0 = state.memory, denoise(state.x, t)
        (alpha, sigma), h = make(s), half(s) - half(t)
        r_0, r_1 = (half(t) - half(t_1)) / h, (half(t_1) - half(t_2)) / h
        d1_0, d1_1 = (m_0 - m_1) / r_0, (m_1 - m_2) / r_1
        d1 = d1_0 + r_0 / (r_0 + r_1) * (d1_0 - d1_1)
        d2 = second_difference * (d1_0 - d1_1) / (r_0 + r_1)
        e = jnp.expm1(-h)
        line = sigma / make(t)[1] * state.x - alpha * e * m_0
        second = line + alpha * (e / h + 1) * d1_0
        third = line + alpha * (e / h + 1) * d1 - alpha * ((e + h) / h**2 - 0.5) * d2
        start = first.step(keys, state, t, s, denoise).x
        x = jnp.where(count == 0, start, jnp.where(count == 1, second, third))
        memory = count + 1, jnp.stack([m_0, m_1]), jnp.stack([t, t_1])
        return samplers.State(x, state.nfe + 1, memory)

    return samplers.Sampler(init, step)


def test_a_users_own_sampler_is_held_to_its_order_and_a_broken_one_is_caught():
    """DPM-Solver++ 3M as published lacks a factor of 2 in its second difference, and an order."""
    orders = lambda factor: convergence.orders(
        functools.partial(third_order, second_difference=factor), SCHEDULES['flow'], STEPS
    )
    assert np.all(orders(2) >= 2.75), orders(2)
    assert np.all(orders(1) < 2.75), orders(1)


@pytest.mark.parametrize(
    'schedule_name', ['vp', *(pytest.param(n, marks=pytest.mark.slow) for n in ('ve', 'flow'))]
)
@pytest.mark.parametrize('name', ORDERS)
def test_the_error_falls_with_the_samplers_order_for_one_gaussian(name, schedule_name):
    make, order = ORDERS[name]
    gaussian = [1.0], [[0.3, -0.2]], [0.6]
    shown = convergence.orders(make, SCHEDULES[schedule_name], (48, 96, 192), data=gaussian)
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
    [
        ('heun', 2, 0),
        ('rk4', 4, 0),
        ('dpmpp_2s', 2, 0),
        ('dpmpp_2m', 1, 0),
        ('dpmpp_3m', 1, 1),
        ('deis_2', 1, 0),
        ('deis_3', 1, 1),
        ('unipc_3', 1, 0),
    ],
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
