import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import grid, samplers, schedule

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.3, 0.2])
MEAN = float(WEIGHTS @ MEANS)
STD = float(np.sqrt(WEIGHTS @ (STDS**2 + MEANS**2) - MEAN**2))
SCHEDULES = {'cosine': schedule.cosine(), 'vp': schedule.vp(), 'edm': schedule.edm(20.0)}


def keys(n):
    return jax.random.split(jax.random.key(7), n)


def distribution(make, x, t):
    """The distribution function of x_t, for each component on its own."""
    alpha, sigma = make(t)
    z = (x[..., None] - alpha * MEANS) / jnp.sqrt(alpha**2 * STDS**2 + sigma**2)
    return jax.scipy.special.ndtr(z) @ jnp.asarray(WEIGHTS)


def exact_function(make, t_min):
    """On a line the flow keeps each point's quantile, so its end is the quantile function's value."""

    def f(x_t, t):
        quantile = distribution(make, x_t, t)

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            below = distribution(make, middle, t_min) < quantile
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        edges = jnp.full_like(x_t, -4.0), jnp.full_like(x_t, 4.0)
        return sum(jax.lax.fori_loop(0, 30, halve, edges)) / 2

    return f


@pytest.mark.parametrize('steps', [1, 2, 4])
@pytest.mark.parametrize('name', ['cosine', 'edm'])
def test_the_exact_function_gives_the_datas_moments_at_any_number_of_steps(name, steps):
    make, n, t_min = SCHEDULES[name], 200_000, 1e-3
    alpha, sigma = make(1.0)
    noise = jax.random.normal(jax.random.key(0), (n // 100, 100))
    # at t = 1 the mixture is N(alpha m, ...) to within what 4 standard errors can see
    x_1 = alpha * MEAN + jnp.hypot(sigma, alpha * STD) * noise
    sampler, times = samplers.consistency(make, t_min), grid.uniform(steps)
    walk = jax.jit(
        lambda keys: diffusion.sample(keys, exact_function(make, t_min), sampler, x_1, times)
    )
    x = np.asarray(walk(keys(n // 100)), np.float64)
    _, sigma_min = make(t_min)
    std = np.hypot(STD, sigma_min)
    assert abs(x.mean() - MEAN) < 4 * std / n**0.5
    fourth = np.mean((x - MEAN) ** 4)
    assert abs(x.var() - std**2) < 4 * np.sqrt((fourth - std**4) / n)
    share = WEIGHTS[0]
    assert abs((x < 0).mean() - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_the_mixtures_share_below_zero_is_its_weight():
    """What the test above takes for granted: the modes hardly overlap at 0."""
    below = distribution(SCHEDULES['cosine'], jnp.zeros(()), 1e-3)
    assert below == pytest.approx(WEIGHTS[0], abs=3e-4)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_renoising_has_the_forward_processs_moments_from_t_min(name):
    """From f = the flow's end of Gaussian data, x_s has the marginal's variance exactly."""
    make, t_min, t, s, n = SCHEDULES[name], 0.05, 0.8, 0.4, 200_000
    mean_t, std_t = gaussian_data.moments(make, t)
    x_t = mean_t + std_t * jax.random.normal(jax.random.key(0), (n // 100, 100))
    f = lambda x, t: gaussian_data.flow(make, x, t, t_min)
    times = jnp.array([t, s])
    x_s = diffusion.sample(keys(n // 100), f, samplers.consistency(make, t_min), x_t, times)
    mean, std = gaussian_data.moments(make, s)
    assert abs(x_s.mean() - mean) < 4 * std / n**0.5
    assert abs(x_s.std() - std) < 4 * std / (2 * n) ** 0.5


@pytest.mark.parametrize('name', SCHEDULES)
def test_what_every_sampler_owes(name):
    make, traces = SCHEDULES[name], []
    f, sampler = gaussian_data.denoiser(make), samplers.consistency(make)

    @jax.jit
    def walk(keys, x_1):
        traces.append(1)
        return diffusion.run(keys, f, sampler, x_1, grid.uniform(4), lambda state: state.x)

    x_1 = jax.random.normal(jax.random.key(0), (6, 2, 2))
    state, frames = walk(keys(6), x_1)
    assert state.x.shape == x_1.shape and state.x.dtype == x_1.dtype and state.nfe == 4
    assert np.all(np.isfinite(frames))
    belief = f(frames[-2], grid.uniform(4)[-2])
    np.testing.assert_allclose(state.x, belief, atol=1e-6)  # the step to sigma = 0
    np.testing.assert_array_equal(walk(keys(6), x_1)[0].x, state.x)
    alone = diffusion.sample(keys(6)[4:5], f, sampler, x_1[4:5], grid.uniform(4))
    np.testing.assert_allclose(alone[0], state.x[4], atol=1e-5)
    other = walk(jax.random.split(jax.random.key(8), 6), x_1)[0].x
    assert np.abs(other - state.x).max() > 1e-3  # its noise is drawn from the keys
    assert len(traces) == 1


def test_steps_below_t_min_add_no_noise():
    make, t_min = SCHEDULES['cosine'], 0.1
    x, f = jnp.ones((3, 2)), lambda x, t: 0.5 * x
    for s in (t_min, 0.05, 0.0):
        times = jnp.array([0.5, s])
        found = diffusion.sample(keys(3), f, samplers.consistency(make, t_min), x, times)
        ratio = make(s)[0] / make(t_min)[0]
        np.testing.assert_allclose(found, 0.5 * x * ratio, rtol=1e-5)


@pytest.mark.parametrize('t_min', [-0.1, 1.0])
def test_a_t_min_outside_of_time_is_refused(t_min):
    with pytest.raises(ValueError, match=f'at least 0 and below 1, got t_min={t_min}'):
        samplers.consistency(schedule.cosine(), t_min)
