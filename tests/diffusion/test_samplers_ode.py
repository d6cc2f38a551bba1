"""UniPC, DEIS, the adaptive solver and Euler's ancestral step; orders: tests/evaluation."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, grid, samplers, schedule
from jaxdiff.evaluation import convergence

SCHEDULES = {
    'cosine': schedule.cosine(),
    'flow': schedule.flow(),
    'vp': schedule.vp(),
    'edm': schedule.edm(),
}
KEYS = jax.random.split(jax.random.key(0), 5)


def mixture(make):
    return exact.mixture(make, convergence.WEIGHTS, convergence.MEANS, convergence.STDS)


def starts(make, t):
    return jnp.asarray(convergence.STARTS) * jnp.hypot(*make(t))


def run(sampler, denoise, x, times, record=None):
    walk = lambda x, times: diffusion.run(KEYS[: len(x)], denoise, sampler, x, times, record)
    return jax.jit(walk)(x, jnp.asarray(times))


# UniPC and DEIS


@pytest.mark.usefixtures('x64')
def test_without_a_past_every_order_is_ddim():
    make, times = SCHEDULES['cosine'], jnp.array([1.0, 0.6])
    denoise, x = mixture(make), starts(make, 1.0)
    one = lambda sampler: run(sampler, denoise, x, times)[0].x
    for sampler in samplers.unipc(make, 3), samplers.unipc(make, 2, 'bh1'), samplers.deis(make):
        np.testing.assert_allclose(one(sampler), one(samplers.ddim(make)), atol=1e-14)


@pytest.mark.usefixtures('x64')
def test_deis_of_order_one_is_ddim():
    make = SCHEDULES['flow']
    denoise, x, times = mixture(make), starts(make, 1.0), grid.uniform(6)
    found = run(samplers.deis(make, 1), denoise, x, times)[0].x
    expected = run(samplers.dpmpp_1s(make), denoise, x, times)[0].x
    np.testing.assert_array_equal(found, expected)


def published_unipc(make, denoise, x, times, p, variant):
    """The paper's algorithm as it is written: weights that solve R rho = b, in a loop."""
    size = lambda t: [float(c) for c in make(t)]
    half = lambda t: math.log(size(t)[0] / size(t)[1])
    beliefs, frames, before, order = [], [], None, 0
    for i in range(len(times) - 1):
        belief = np.asarray(denoise(jnp.asarray(x), times[i]))
        if i:  # the corrector, with the order of the step that it corrects
            known = [*beliefs, belief]
            x = _published_step(size, half, before, times[: i + 1], known, order, variant)
        beliefs, before, order = [*beliefs, belief], x, min(p, i + 1)
        x = _published_step(size, half, x, times[: i + 2], beliefs, order, variant)
        frames.append(x)
    return np.stack(frames)


def _published_step(size, half, x, times, beliefs, order, variant):
    corrects = len(beliefs) == len(times)
    (t, s), m_0 = times[-2:], beliefs[-1 - corrects]
    h = half(s) - half(t)
    ratios = [(half(times[-2 - k]) - half(t)) / h for k in range(1, order)]
    past = [(beliefs[-1 - corrects - k] - m_0) / r for k, r in enumerate(ratios, 1)]
    if corrects:
        ratios, past = [*ratios, 1.0], [*past, beliefs[-1] - m_0]
    scale = -h if variant == 'bh1' else math.expm1(-h)
    phi, right = math.expm1(-h) / -h - 1, []
    for k in range(1, len(ratios) + 1):
        right.append(phi * math.factorial(k) / scale)
        phi = phi / -h - 1 / math.factorial(k + 1)
    left = np.array([[r**k for r in ratios] for k in range(len(ratios))])
    weights = [0.5] if len(ratios) == 1 else np.linalg.solve(left, right) if ratios else []
    bend = sum(w * d for w, d in zip(weights, past))
    (_, sigma_t), (alpha, sigma) = size(t), size(s)
    return sigma / sigma_t * x - alpha * math.expm1(-h) * m_0 - alpha * scale * bend


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('p, variant', [(1, 'bh1'), (2, 'bh1'), (2, 'bh2'), (3, 'bh2')])
def test_unipc_is_the_published_algorithm(p, variant):
    make = SCHEDULES['vp']
    denoise, x, times = mixture(make), starts(make, 0.9), grid.quadratic(6, 0.9, 0.05)
    found = run(samplers.unipc(make, p, variant), denoise, x, times, lambda state: state.x)[1]
    expected = published_unipc(make, denoise, np.asarray(x), np.asarray(times), p, variant)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('p, degree', [(2, 2), (3, 3)])
def test_unipcs_corrector_is_exact_for_beliefs_of_degree_p(p, degree):
    """x / sigma − ∫ e^λ λ^degree dλ is kept by the flow if the belief is λ^degree, λ half of logsnr."""
    make, times = SCHEDULES['cosine'], grid.quadratic(8, 0.9, 0.1)
    half = lambda t: schedule.logsnr(make, t) / 2
    denoise = lambda x, t: jnp.broadcast_to(half(t) ** degree, x.shape)
    powers = {
        2: lambda z: z**2 - 2 * z + 2,
        3: lambda z: z**3 - 3 * z**2 + 6 * z - 6,
    }

    def kept(x, t):
        return x / make(t)[1] - jnp.exp(half(t)) * powers[degree](half(t))

    ends = []
    for n in (p + 1, 5, 7):  # a last step so short that its prediction needs no correction
        walked = jnp.append(times[: n + 1], times[n] - 1e-6)
        state, _ = run(samplers.unipc(make, p), denoise, jnp.ones((1, 1)), walked)
        ends.append(float(kept(state.x, walked[-1])[0, 0]))
    np.testing.assert_allclose(ends, ends[-1], rtol=1e-8)
    assert abs(float(kept(1.0, times[0])) - ends[-1]) > 1e-3  # the start is not


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('order', [2, 3])
def test_deis_is_exact_for_noise_of_lower_degree_in_time(order):
    """With eps = t^(order − 1) and u = sigma / alpha = t / (1 − t), x / alpha − ∫ eps du is kept."""
    make, times = SCHEDULES['flow'], grid.quadratic(8, 0.9, 0.1)
    denoise = lambda x, t: (x - t * t ** (order - 1)) / (1 - t)
    frames = run(samplers.deis(make, order), denoise, jnp.ones((1, 1)), times, lambda s: s.x)[1]
    t = times[1:]
    integral = {  # of t^k / (1 − t)²
        2: 1 / (1 - t) + jnp.log(1 - t),
        3: 1 / (1 - t) + 2 * jnp.log(1 - t) + t,
    }
    kept = frames[:, 0, 0] / (1 - t) - integral[order]
    np.testing.assert_allclose(kept[order - 2 :], kept[-1], rtol=1e-10)


@functools.cache
def whole_flow(name):
    """The mixture's flow from t = 1 to 0, but for 1e-4, by SciPy."""
    make = SCHEDULES[name]
    with jax.enable_x64(True):
        last = 1e-4 if name != 'edm' else 1e-6
        x = convergence.flow(mixture(make), make, starts(make, 1.0), 1.0, last)
        return x / make(last)[0]


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_whole_way_from_alpha_zero_to_sigma_zero_is_better_than_ddims(name):
    """In single precision, over 20 steps; alpha(1) is 0 for cosine and flow."""
    make = SCHEDULES[name]
    times = grid.karras(make, 20) if name == 'edm' else grid.uniform(20)
    error = lambda sampler: np.abs(
        run(sampler, mixture(make), starts(make, 1.0), times)[0].x - whole_flow(name)
    ).max()
    base = error(samplers.ddim(make))
    made = [
        samplers.unipc(make),
        samplers.unipc(make, 3),
        samplers.deis(make),
        samplers.deis(make, 3),
    ]
    for sampler in made:
        assert error(sampler) < base  # and so finite


# The adaptive solver


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_adaptive_solver_reaches_the_flows_end_in_one_call(name):
    make = SCHEDULES[name]
    sampler = samplers.ode_adaptive(make, 1e-8, 1e-8, sigma_min=1e-3)
    state, _ = run(sampler, mixture(make), starts(make, 1.0), [1.0, 0.0])
    # The two ends, sigma_min here and 1e-4 there, each differ from zero's by about sigma² / 2 · 4.
    np.testing.assert_allclose(state.x, whole_flow(name), atol=5e-5)


@pytest.mark.usefixtures('x64')
def test_its_error_falls_with_the_tolerance_and_its_cost_rises_by_the_fifth_root_at_most():
    make, errors, costs = SCHEDULES['vp'], [], []
    denoise, x = mixture(make), starts(make, 0.9)
    expected = convergence.flow(denoise, make, x, 0.9, 0.1)
    for tolerance in (1e-4, 1e-7, 1e-10):
        sampler = samplers.ode_adaptive(make, tolerance, tolerance)
        state, _ = run(sampler, denoise, x, [0.9, 0.1])
        errors.append(np.abs(state.x - expected).max())
        costs.append(int(state.nfe))
    assert np.all(np.divide(errors[:-1], errors[1:]) > 100), errors
    assert errors[-1] < 1e-8
    assert np.all(np.divide(costs[1:], costs[:-1]) <= 1000**0.2), costs


@pytest.mark.usefixtures('x64')
def test_its_end_differs_by_the_square_of_sigma_min():
    make, ends = SCHEDULES['cosine'], []
    for sigma_min in (0.04, 0.02, 1e-4):
        sampler = samplers.ode_adaptive(make, 1e-10, 1e-10, sigma_min=sigma_min)
        ends.append(run(sampler, mixture(make), starts(make, 1.0), [1.0, 0.0])[0].x)
    errors = [np.abs(end - ends[-1]).max() for end in ends[:-1]]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def counted(denoise):
    """The denoiser, and the list of the times' shapes that it is asked at."""
    calls = []

    def asked(x, t):
        jax.debug.callback(lambda t: calls.append(t.shape), t)
        return denoise(x, t)

    return asked, calls


def test_its_evaluations_are_counted_and_its_times_are_one_per_example():
    make = SCHEDULES['cosine']
    denoise, calls = counted(mixture(make))
    sampler, times = samplers.ode_adaptive(make, 1e-3, 1e-3), [1.0, 0.5, 0.2, 0.0]
    state, _ = run(sampler, denoise, starts(make, 1.0), times)
    jax.effects_barrier()
    assert state.nfe == len(calls) and set(calls) == {(5,)}
    assert np.all(np.isfinite(state.x))


def test_a_sample_does_not_depend_on_its_neighbours():
    make = SCHEDULES['flow']
    sampler, x = samplers.ode_adaptive(make, 1e-4, 1e-4), starts(make, 1.0)
    together = run(sampler, mixture(make), x, [1.0, 0.0])[0]
    one = jax.jit(
        lambda x: diffusion.run(KEYS[:1], mixture(make), sampler, x, jnp.array([1.0, 0]))[0]
    )
    alone = [one(x[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(jnp.concatenate([a.x for a in alone]), together.x, atol=1e-5)
    costs = [int(a.nfe) for a in alone]
    assert together.nfe == max(costs) and min(costs) < max(costs)  # the others stood still


@pytest.mark.usefixtures('x64')
def test_an_example_that_runs_out_of_steps_is_nan_and_no_other():
    make = SCHEDULES['flow']
    x = starts(make, 1.0)
    solve = lambda steps: run(
        samplers.ode_adaptive(make, 1e-7, 1e-7, max_steps=steps), mixture(make), x, [1.0, 0.0]
    )[0]
    free = solve(1000)
    short = solve(int(free.nfe - 1) // 6 - 1)  # one trial less than the slowest example takes
    late = np.isnan(short.x).all(-1)
    assert 0 < late.sum() < len(x)
    np.testing.assert_array_equal(short.x[~late], free.x[~late])


def test_a_denoiser_that_fails_gives_nan_soon_and_only_there():
    make = SCHEDULES['vp']
    good = mixture(make)
    bad = lambda x, t: good(x, t).at[2].set(jnp.nan)
    sampler, x = samplers.ode_adaptive(make), starts(make, 1.0)
    state, _ = run(sampler, bad, x, [1.0, 0.5, 0.0])
    assert np.all(np.isnan(state.x[2])) and state.nfe < 500
    others = np.array([0, 1, 3, 4])
    expected = run(sampler, good, x, [1.0, 0.5, 0.0])[0].x
    np.testing.assert_allclose(state.x[others], expected[others], atol=1e-6)


@pytest.mark.usefixtures('x64')
def test_the_step_size_carries_over_the_grids_times():
    """A step cut short by the grid, ever so often, doesn't make the next ones short."""
    make = SCHEDULES['vp']
    sampler, x = samplers.ode_adaptive(make, 1e-4, 1e-4), starts(make, 0.9)
    parts, sizes = run(sampler, mixture(make), x, grid.uniform(40, 0.9, 0.1), lambda s: s.memory)
    expected = convergence.flow(mixture(make), make, x, 0.9, 0.1)
    np.testing.assert_allclose(parts.x, expected, atol=1e-4)
    assert parts.nfe == 40 * 7  # one trial for each interval
    assert np.all(np.diff(sizes, axis=0) >= 0)


@pytest.mark.usefixtures('x64')
def test_it_goes_up_again():
    make = SCHEDULES['cosine']
    sampler, x = samplers.ode_adaptive(make, 1e-9, 1e-9), starts(make, 0.8)
    back = run(sampler, mixture(make), x, [0.8, 0.2, 0.8])[0].x
    np.testing.assert_allclose(back, x, atol=1e-6)


# Euler's ancestral step


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('name', ['vp', 'edm'])
def test_euler_ancestral_is_k_diffusions_and_ddims_at_every_eta(name, eta):
    """k-diffusion's step on y = x / alpha and u = sigma / alpha, given the noise that ours draws."""
    make, t, s = SCHEDULES[name], 0.7, 0.3
    denoise, x = mixture(make), starts(make, 0.7)
    found = run(samplers.euler_ancestral(make, eta), denoise, x, [t, s])[0].x
    z = samplers.normal(jax.vmap(jax.random.fold_in, (0, None))(KEYS, 0), x)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = make(t), make(s)
    y, u_t, u_s = x / alpha_t, sigma_t / alpha_t, sigma_s / alpha_s
    u_up = jnp.minimum(u_s, eta * jnp.sqrt(u_s**2 * (u_t**2 - u_s**2) / u_t**2))
    u_down = jnp.sqrt(u_s**2 - u_up**2)
    slope = (y - denoise(x, t)) / u_t
    expected = alpha_s * (y + (u_down - u_t) * slope + u_up * z)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    same = run(samplers.ddim(make, eta), denoise, x, [t, s])[0].x
    np.testing.assert_array_equal(found, same)


def test_bad_arguments_are_refused():
    make = SCHEDULES['vp']
    for call, said in [
        (lambda: samplers.unipc(make, 4), 'p must be 1, 2 or 3, got p=4'),
        (lambda: samplers.unipc(make, variant='bh3'), "'bh1' or 'bh2', got 'bh3'"),
        (lambda: samplers.deis(make, 0), 'order must be 1, 2 or 3, got order=0'),
        (lambda: samplers.ode_adaptive(make, rtol=-1.0), 'rtol must be 0 or more'),
        (lambda: samplers.ode_adaptive(make, atol=0.0), 'atol positive'),
        (lambda: samplers.ode_adaptive(make, max_steps=0), 'max_steps must be 1 or more'),
        (lambda: samplers.ode_adaptive(make, sigma_min=0.0), 'sigma_min must be positive'),
        (lambda: samplers.euler_ancestral(make, 1.5), 'eta must lie between 0 and 1'),
    ]:
        with pytest.raises(ValueError, match=said):
            call()
