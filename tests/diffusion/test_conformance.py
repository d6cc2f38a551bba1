"""What every Gaussian sampler owes, on every schedule and with every prediction."""

import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, grid, learned, prediction, samplers, schedule

SCHEDULES = {
    'cosine': schedule.cosine(),
    'ddpm_linear': schedule.ddpm_linear(),
    'sigmoid': schedule.sigmoid(),
    'vp': schedule.vp(),
    'sub_vp': schedule.sub_vp(),
    've': schedule.ve(),
    'edm': schedule.edm(),
    'flow': schedule.flow(),
    'zero_terminal_snr': schedule.zero_terminal_snr(schedule.scaled_linear()),
    'learned': learned.schedule(learned.init(jax.random.key(0), width=16)),
}
MORE_SCHEDULES = {  # other settings of those
    'cosine_ddpm': schedule.cosine(offset=0.008),
    'scaled_linear': schedule.scaled_linear(),
    'flow_shifted': schedule.flow(shift=3.0),
    'cosine_shifted': schedule.shifted(schedule.cosine(), 4.0),
}
PREDICTIONS = {
    'x0': prediction.x0,
    'eps': prediction.eps,
    'v': prediction.v,
    'velocity': prediction.velocity,
    'score': prediction.score,
    'edm': prediction.edm(0.5),
}
# Each with its evaluations a step, and those besides; None where they depend on the data. A step to
# sigma = 0 takes one, and so does a Runge–Kutta step from where its ODE has no slope.
SAMPLERS = {
    'annealed_langevin': (lambda s: samplers.annealed_langevin(s, inner=2), (2, 0)),
    'consistency': (samplers.consistency, (1, 0)),
    'ddim': (samplers.ddim, (1, 0)),
    'ddpm': (samplers.ddpm, (1, 0)),
    'ddpm_learned': (lambda s: samplers.ddpm(s, 'learned'), (1, 0)),
    'deis': (samplers.deis, (1, 0)),
    'dpmpp_2m': (samplers.dpmpp_2m, (1, 0)),
    'dpmpp_2m_sde': (samplers.dpmpp_2m_sde, (1, 0)),
    'dpmpp_2s': (samplers.dpmpp_2s, (2, 0)),
    'dpmpp_3m': (samplers.dpmpp_3m, (1, 1)),
    'euler_maruyama': (samplers.euler_maruyama, (1, 0)),
    'heun': (samplers.heun, (2, 0)),
    'heun_stochastic': (samplers.heun_stochastic, (2, 0)),
    'ode_adaptive': (samplers.ode_adaptive, None),
    'predictor_corrector': (samplers.predictor_corrector, (2, 0)),
    'rk4': (samplers.rk4, (4, 0)),
    'rk4_t': (lambda s: samplers.rk4(s, 't'), (4, 0)),
    'unipc': (samplers.unipc, (1, 0)),
}
MORE_SAMPLERS = {  # other settings of those
    'heun_t': (lambda s: samplers.heun(s, 't'), (2, 0)),
    'euler_t': (lambda s: samplers.euler(s, 't'), (1, 0)),
    'deis_3': (lambda s: samplers.deis(s, 3), (1, 1)),
    'unipc_1': (lambda s: samplers.unipc(s, 1), (1, 0)),
    'ddim_half': (lambda s: samplers.ddim(s, 0.5), (1, 0)),
    'ddpm_large': (lambda s: samplers.ddpm(s, 'large'), (1, 0)),
    'euler_ancestral': (samplers.euler_ancestral, (1, 0)),
    'corrected_2m': (lambda s: samplers.predictor_corrector(s, samplers.dpmpp_2m(s)), (2, 0)),
    'unipc_3': (lambda s: samplers.unipc(s, 3), (1, 0)),
}
STOCHASTIC = (
    'annealed_langevin',
    'consistency',
    'ddim_half',
    'ddpm',
    'ddpm_large',
    'ddpm_learned',
    'dpmpp_2m_sde',
    'euler_ancestral',
    'euler_maruyama',
    'heun_stochastic',
    'predictor_corrector',
    'corrected_2m',
)
STEPS = 6


def network(make, p, learned_variance):
    """A network that predicts p exactly, for data N(mean, std²), and is told t itself."""
    exact = gaussian_data.denoiser(make)

    def net(x, t):
        alpha, sigma = make(schedule.broadcast(t, x))
        x_t = x * jnp.hypot(alpha, sigma)  # undoes the scaling of the input
        c, x0 = schedule.coefficients(make, t, x_t), exact(x_t, t)
        y = prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)
        return jnp.concatenate([y, jnp.zeros_like(y)], -1) if learned_variance else y

    return net


def check(sampler_name, schedule_name, prediction_name):
    make = (SCHEDULES | MORE_SCHEDULES)[schedule_name]
    p = PREDICTIONS[prediction_name]
    make_sampler, evaluations = (SAMPLERS | MORE_SAMPLERS)[sampler_name]
    learns = sampler_name == 'ddpm_learned'
    denoise = denoiser.from_network(
        network(make, p, learns), p, make, lambda _, t: t, learned_variance=learns
    )
    calls, traces = [], []

    def counted(x_t, t):
        jax.debug.callback(lambda: calls.append(1))
        return denoise(x_t, t)

    t_max = prediction.start(p, make)
    times = grid.uniform(STEPS, t_max)

    @jax.jit
    def walk(keys, x_1):
        traces.append(1)
        keep = lambda state: state.x
        return diffusion.run(keys, counted, make_sampler(make), x_1, times, keep)

    keys = jax.random.split(jax.random.key(7), 5)
    x_1 = make(t_max)[1] * jax.random.normal(jax.random.key(0), (5, 2, 2))
    state, frames = walk(keys, x_1)
    jax.effects_barrier()
    assert state.x.shape == x_1.shape and state.x.dtype == x_1.dtype == jnp.float32
    assert frames.shape == (STEPS, *x_1.shape) and np.all(np.isfinite(frames))
    np.testing.assert_array_equal(frames[-1], state.x)
    assert state.nfe == len(calls)
    if evaluations:
        each, besides = evaluations
        ends = [make(0.0)[1] == 0]  # where the learned schedule has noise
        if sampler_name in ('heun', 'heun_stochastic', 'rk4'):  # in sigma / alpha
            ends.append(make(t_max)[0] == 0)
        elif sampler_name in ('heun_t', 'rk4_t'):
            ends.append(not np.isfinite(schedule.coefficients(make, t_max, x_1).dalpha))
        assert state.nfe == STEPS * each + besides - sum(ends) * (each - 1)

    np.testing.assert_array_equal(walk(keys, x_1)[0].x, state.x)  # its keys decide,
    others = jax.random.split(jax.random.key(8), 5)
    assert np.any(walk(others, x_1)[0].x != state.x) == (sampler_name in STOCHASTIC)
    among = jnp.array([3, 0, 3, 3, 3])  # whatever the neighbours and the place in the batch
    other, _ = walk(keys[among], x_1[among])
    scale = 1 + np.abs(frames).max()
    np.testing.assert_allclose(other.x[:2], state.x[among[:2]], atol=1e-6 * scale, rtol=1e-5)
    assert len(traces) == 1


def pairs():
    """Every pair of sampler, schedule and prediction at least once."""
    kinds = list(PREDICTIONS)
    return [
        (sampler_name, schedule_name, kinds[(i + j) % len(kinds)])
        for i, sampler_name in enumerate(SAMPLERS)
        for j, schedule_name in enumerate(SCHEDULES)
    ]


def test_the_pairs_are_all_there():
    for a, b, of in (
        (0, 1, (SAMPLERS, SCHEDULES)),
        (0, 2, (SAMPLERS, PREDICTIONS)),
        (1, 2, (SCHEDULES, PREDICTIONS)),
    ):
        found = {(case[a], case[b]) for case in pairs()}
        assert len(found) == len(of[0]) * len(of[1])


@pytest.mark.parametrize('sampler_name, schedule_name, prediction_name', pairs())
def test_conformance(sampler_name, schedule_name, prediction_name):
    check(sampler_name, schedule_name, prediction_name)


def belief(sampler_name, make):
    """The exact denoiser, with a variance for the sampler that takes one."""
    exact = gaussian_data.denoiser(make)
    if sampler_name != 'ddpm_learned':
        return exact
    return lambda x_t, t: denoiser.Learned(exact(x_t, t), jnp.full_like(x_t, 0.5))


@pytest.mark.parametrize('name', SAMPLERS)
def test_no_steps_are_a_no_op(name):
    make, x = SCHEDULES['vp'], jnp.ones((2, 3))
    sampler, keys = SAMPLERS[name][0](make), jax.random.split(jax.random.key(0), 2)
    state, _ = diffusion.run(keys, belief(name, make), sampler, x, grid.uniform(0))
    np.testing.assert_array_equal(state.x, x)
    assert state.nfe == 0


@pytest.mark.parametrize('name', SAMPLERS)
def test_a_denoiser_may_work_in_half_precision(name):
    """Its beliefs are rounded; the walk is not."""
    make, whole = SCHEDULES['vp'], belief(name, SCHEDULES['vp'])
    half = lambda x, t: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), whole(x, t))
    full = lambda x, t: jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half(x, t))
    keys, x_1 = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 3))
    sampler, times = SAMPLERS[name][0](make), grid.uniform(3)
    state, _ = diffusion.run(keys, half, sampler, x_1.astype(jnp.bfloat16), times)
    assert state.x.dtype == jnp.float32
    np.testing.assert_array_equal(state.x, diffusion.sample(keys, full, sampler, x_1, times))


@pytest.mark.slow
@pytest.mark.parametrize('prediction_name', PREDICTIONS)
@pytest.mark.parametrize('schedule_name', SCHEDULES | MORE_SCHEDULES)
@pytest.mark.parametrize('sampler_name', SAMPLERS | MORE_SAMPLERS)
def test_conformance_of_every_combination(sampler_name, schedule_name, prediction_name):
    check(sampler_name, schedule_name, prediction_name)
