"""DDPM's sampler with a learned variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture_data import (
    gaussian,
    mixture,
    right_nu,
    true_variance,
    variances,
)

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, grid, prediction, samplers, schedule
from jaxdiff.diffusion.samplers import State

COSINE, VP, FLOW = schedule.cosine(), schedule.vp(), schedule.flow()
VE = schedule.ve(sigma_min=0.01, sigma_max=50.0)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [COSINE, VP, VE], ids=['cosine', 'vp', 've'])
def test_with_the_right_nu_a_gaussian_is_exact_at_any_number_of_steps(make):
    v, times = 0.36, grid.uniform(4)

    def denoise(x, t):
        alpha, sigma = make(t)
        nu = right_nu(
            make, t, jnp.maximum(t - 1 / 4, 1e-3), v * sigma**2 / true_variance(make, t, v)
        )
        return denoiser.Learned(gaussian(make, v)(x, t), nu)

    found = variances(make, samplers.ddpm(make, 'learned'), times, v, denoise)
    expected = [true_variance(make, s, v) for s in times[1:-1]]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-10)
    assert abs(variances(make, samplers.ddpm(make), times, v)[-2] / expected[-1] - 1) > 0.01


@pytest.mark.usefixtures('x64')
def test_nu_lies_between_the_two_variances():
    """nu = 0 and 1 are the small and large variance, 1/2 their geometric mean."""
    keys, x = jax.random.split(jax.random.key(0), 4), jnp.zeros((4, 3))

    def noise(variance, nu=None):
        """What a step from x = 0 with belief 0 adds, from the same keys."""
        belief = jnp.zeros_like(x)
        denoise = lambda x, t: belief if nu is None else denoiser.Learned(belief, nu + belief)
        state = samplers.start(x, denoise, None)
        return samplers.ddpm(VP, variance).step(keys, state, 0.6, 0.2, denoise).x

    small, large = noise('small'), noise('large')
    np.testing.assert_allclose(noise('learned', 0.0), small, rtol=1e-12)
    np.testing.assert_allclose(noise('learned', 1.0), large, rtol=1e-12)
    np.testing.assert_allclose(noise('learned', 0.5) ** 2, small * large, rtol=1e-12)
    np.testing.assert_array_equal(noise('small', 0.3), small)  # a nu that isn't asked for


@pytest.mark.parametrize('nu', [0.0, 0.5, 1.0])
def test_a_learned_variance_is_sound_where_the_small_one_vanishes(nu):
    denoise = lambda x, t: denoiser.Learned(0.3 * x, jnp.full_like(x, nu))
    x, keys = jnp.ones((2, 3)), jax.random.split(jax.random.key(0), 2)
    sampler, state = samplers.ddpm(COSINE, 'learned'), State(x, 0)
    last = sampler.step(keys, state, 0.1, 0.0, denoise).x
    np.testing.assert_allclose(last, 0.3 * x, rtol=1e-6)  # no noise, the belief
    near = sampler.step(keys, state, 0.1, 1e-12, denoise).x
    sigma_t, sigma_s = np.sin(np.pi / 2 * 0.1), np.pi / 2 * 1e-12
    expected = 0.3 * x + sigma_s ** (1 - nu) * sigma_t**nu * samplers.normal(keys, x)
    np.testing.assert_allclose(near, expected, rtol=1e-5)


def test_a_network_with_two_halves_drives_the_learned_variance():
    net = lambda x, level: jnp.concatenate([x, jnp.full_like(x, 3.0)], -1)  # nu = 2
    denoise = denoiser.from_network(net, prediction.v, COSINE, learned_variance=True)
    sampler, x = samplers.ddpm(COSINE, 'learned'), jnp.ones((2, 4, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    other = lambda x, t: denoiser.Learned(denoise(x, t).x0, jnp.full_like(x, 2.0))
    found, expected = (
        diffusion.sample(keys, d, sampler, x, grid.uniform(5)) for d in (denoise, other)
    )
    assert found.shape == x.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_learned_variance_needs_nu():
    sampler = samplers.ddpm(COSINE, 'learned')
    with pytest.raises(ValueError, match='needs a denoiser that returns denoiser.Learned'):
        sampler.step(None, State(jnp.ones((1, 2)), 0), 0.5, 0.4, mixture(COSINE))
