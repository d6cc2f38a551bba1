"""Langevin's dynamics against the law of its chain, and its bias on a mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture_data import (
    FAST,
    MEANS,
    STDS,
    WEIGHTS,
    N,
    errors,
    gaussian,
    mixture,
    true_variance,
    walk,
)

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, exact, grid, samplers, schedule
from jaxdiff.diffusion.samplers import Sampler

COSINE, VP, FLOW = schedule.cosine(), schedule.vp(), schedule.flow()
VE = schedule.ve(sigma_min=0.01, sigma_max=50.0)


STAY = Sampler(samplers.start, lambda keys, state, t, s, denoise: state)
SHAKE = Sampler(  # adds N(0, 1), so that noise shared with the corrector would show
    samplers.start,
    lambda keys, state, t, s, denoise: state._replace(x=state.x + samplers.normal(keys, state.x)),
)


def chain(v, u, r, steps, start):
    """Variance after Langevin's steps y ← y + e score + sqrt(2e) z, e = 2 (r u)², on N(0, v + u²).

    The score is −y / (v + u²), so that the chain is autoregressive with slope 1 − e / (v + u²).
    """
    total, e = v + u**2, 2 * (r * u) ** 2
    slope2, settled = (1 - e / total) ** (2 * steps), total / (1 - e / (2 * total))
    return slope2 * start + (1 - slope2) * settled


def variance_of(make, sampler, times, v, scale):
    """Of 200,000 samples x of N(0, v) data from N(0, scale²), and four of its standard errors."""
    keys = jax.random.split(jax.random.key(0), N // 100)
    x_1 = scale * jax.random.normal(jax.random.key(1), (N // 100, 100))
    run = lambda keys: diffusion.sample(keys, gaussian(make, v), sampler, x_1, times)
    variance = float(np.mean(np.float64(jax.jit(run, compiler_options=FAST)(keys)) ** 2))
    return variance, 4 * variance * (2 / N) ** 0.5


@pytest.mark.parametrize(
    'make, predictor, r, steps',
    [
        (VE, STAY, 0.16, 1),
        (VP, STAY, 0.4, 3),
        (FLOW, SHAKE, 0.4, 3),
        (COSINE, STAY, 0.8, 40),  # settled: 1.2 times too wide
        (COSINE, STAY, 0.4, 40),
    ],
    ids=['ve-1', 'vp-3', 'flow-shaken-3', 'settled-0.8', 'settled-0.4'],
)
def test_the_corrector_is_the_langevin_chain_of_the_closed_form(make, predictor, r, steps):
    t, v = 0.4, 0.36
    alpha, sigma = map(float, make(t))
    sampler = samplers.predictor_corrector(make, predictor, steps, r)
    found, tolerance = variance_of(make, sampler, jnp.array([t, t]), v, scale=0.0)
    start = 1 / alpha**2 if predictor is SHAKE else 0
    expected = alpha**2 * chain(v, sigma / alpha, r, steps, start)
    assert abs(found - expected) < tolerance
    if steps == 40:  # equation (38)
        u2 = (sigma / alpha) ** 2
        assert expected == pytest.approx(alpha**2 * (v + u2) / (1 - r**2 * u2 / (v + u2)), rel=1e-3)


@pytest.mark.parametrize('make', [VE, VP], ids=['ve', 'vp'])
def test_annealed_langevin_is_the_papers_algorithm_on_a_gaussian(make):
    """alpha_i = epsilon sigma_i² / sigma_L², x ← x + alpha_i / 2 score + sqrt(alpha_i) z, level by level."""
    v, inner, levels = 0.36, 5, np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    times = schedule.time_of_logsnr(make, -2 * jnp.log(jnp.asarray(levels, jnp.float32)))
    epsilon = 0.05
    variance = v + levels[0] ** 2
    for u in levels[1:]:
        a, total = epsilon * u**2 / levels[-1] ** 2, v + u**2
        for _ in range(inner):
            variance = (1 - a / 2 / total) ** 2 * variance + a
    sampler = samplers.annealed_langevin(make, inner, snr=epsilon**0.5 / (2 * levels[-1]))
    scale = float(make(times[0])[0]) * (v + levels[0] ** 2) ** 0.5
    found, tolerance = variance_of(make, sampler, times, v, scale)
    alpha = float(make(times[-1])[0])
    assert abs(found - alpha**2 * variance) < tolerance
    assert abs(variance / total - 1) > 0.05  # not yet settled: the inner steps count
    data, tolerance = variance_of(make, sampler, jnp.append(times, 0.0), v, scale)  # the last step
    assert abs(data - variance * (v / total) ** 2) < tolerance


def bias(make, sampler, times, n=50_000):
    """Size of the error in mean, covariance and weights of y = x / alpha at the last level."""
    alpha, sigma = map(float, make(times[-1]))
    error, _ = errors(walk(make, sampler, mixture(make), times, n) / alpha, sigma / alpha)
    return np.sum(error**2) ** 0.5


def falls(biases):
    return all(later < earlier / 2 for earlier, later in zip(biases, biases[1:], strict=False))


CORRECTED = lambda n, r: samplers.predictor_corrector(COSINE, corrections=n, snr=r)
COARSE = grid.uniform(12, 1.0, 0.3)


def test_more_corrections_bring_the_mixtures_law():
    """From 0.19 with twelve coarse steps of DDPM alone; 50,000 samples' own noise is 0.011."""
    found = [bias(COSINE, CORRECTED(n, 0.25), COARSE) for n in (0, 4, 16)]
    assert falls(found) and found[-1] < 0.03, found


@pytest.mark.slow
def test_smaller_corrections_bring_the_mixtures_law():
    """Each time with as many as it takes to settle: their own bias falls as r²."""
    found = [bias(COSINE, CORRECTED(n, r), COARSE) for n, r in ((4, 0.8), (16, 0.4), (64, 0.2))]
    assert falls(found) and found[-1] < 0.03, found


EDM = schedule.edm(5.0)
ANNEALED = lambda n, r: samplers.annealed_langevin(EDM, n, r)
LEVELS = jnp.array([5, 3, 1.8, 1.1, 0.7, 0.5]) / 5


def test_more_inner_steps_bring_the_mixtures_law():
    found = [bias(EDM, ANNEALED(n, 0.25), LEVELS) for n in (4, 16, 64)]
    assert falls(found) and found[-1] < 0.05, found


@pytest.mark.slow
def test_smaller_inner_steps_bring_the_mixtures_law():
    """Each time with as many as it takes to settle: their own bias falls as r²."""
    found = [bias(EDM, ANNEALED(n, r), LEVELS) for n, r in ((19, 0.8), (75, 0.4), (300, 0.2))]
    assert falls(found) and found[-1] < 0.03, found


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['predictor_corrector', 'annealed_langevin'])
def test_in_y_the_walk_is_one_on_every_schedule(name):
    """Levels sigma / alpha alone decide y = x / alpha: EDM, VP and the straight path agree."""
    sampler = {
        'predictor_corrector': lambda make: samplers.predictor_corrector(make, corrections=2),
        'annealed_langevin': lambda make: samplers.annealed_langevin(make, 3),
    }[name]
    keys, y = jax.random.split(jax.random.key(0), 4), jnp.linspace(-9, 9, 8).reshape(4, 2)
    found = []
    for make in (schedule.edm(), VP, FLOW):
        times = grid.karras(make, 8, sigma_min=0.02, sigma_max=9.0)
        denoise = exact.mixture(make, WEIGHTS, MEANS, STDS)
        found.append(diffusion.sample(keys, denoise, sampler(make), make(times[0])[0] * y, times))
    np.testing.assert_allclose(found[1], found[0], atol=1e-8)
    np.testing.assert_allclose(found[2], found[0], atol=1e-8)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['ddim', 'dpmpp_2m', 'deis', 'unipc'])
def test_corrections_reach_predictors_with_a_memory(name):
    """From a point, without any noise of the predictor's: the corrector alone spreads it."""
    n, v, times = 20_000, 0.36, grid.uniform(20, 0.9, 0.3)
    predictor = getattr(samplers, name)(VP)
    sampler = samplers.predictor_corrector(VP, predictor, corrections=8, snr=0.4)
    keys = jax.random.split(jax.random.key(0), n)
    walk = jax.jit(lambda x: diffusion.sample(keys, gaussian(VP, v), sampler, x, times))
    settled = float(true_variance(VP, 0.3, v))
    assert float(jnp.var(walk(jnp.zeros((n, 1))))) == pytest.approx(settled, rel=0.15)


def test_the_corrector_takes_the_mean_of_a_learned_belief():
    learned = lambda x, t: denoiser.Learned(gaussian(VP, 0.36)(x, t), jnp.full_like(x, 0.5))
    sampler = samplers.predictor_corrector(VP, samplers.ddpm(VP, 'learned'))
    keys = jax.random.split(jax.random.key(0), 3)
    x = diffusion.sample(keys, learned, sampler, jnp.ones((3, 2)), grid.uniform(4))
    assert np.all(np.isfinite(x))


def test_without_corrections_the_predictor_is_alone():
    predictor = samplers.heun(VP)
    assert samplers.predictor_corrector(VP, predictor, corrections=0) is predictor


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: samplers.predictor_corrector(VP, corrections=-1), 'corrections must be 0 or more'),
        (lambda: samplers.predictor_corrector(VP, snr=1.0), 'snr must lie between 0 and 1'),
        (lambda: samplers.annealed_langevin(VP, inner=0), 'inner must be 1 or more'),
        (lambda: samplers.annealed_langevin(VP, snr=0), 'snr must lie between 0 and 1'),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
