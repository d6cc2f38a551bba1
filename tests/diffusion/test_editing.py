import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import editing, exact, grid, samplers, schedule
from jaxdiff.evaluation.convergence import MEANS, STDS, WEIGHTS

COSINE = schedule.cosine()
DENOISE = exact.mixture(COSINE, WEIGHTS, MEANS, STDS)
X = jax.random.normal(jax.random.key(0), (16, 2))
KEYS = jax.random.split(jax.random.key(1), 16)


def test_strength_is_the_share_of_the_steps_that_are_taken():
    times = grid.uniform(10)
    np.testing.assert_allclose(editing.from_strength(times, 0.3), [0.3, 0.2, 0.1, 0], atol=1e-7)
    np.testing.assert_array_equal(editing.from_strength(times, 1.0), times)
    np.testing.assert_array_equal(editing.from_strength(times, 0.0), [0.0])
    with pytest.raises(ValueError, match='between 0 and 1'):
        editing.from_strength(times, 1.2)


def edited(strength):
    times = editing.from_strength(grid.uniform(20), strength)
    start = editing.sdedit(KEYS, X, COSINE, times[0])
    return diffusion.sample(KEYS, DENOISE, samplers.ddim(COSINE), start, times)


def test_sdedit_goes_from_the_image_to_any_sample():
    """At 0 it is the image; the further it goes the further it may come; at 1 nothing is left of it."""
    np.testing.assert_array_equal(edited(0.0), X)
    apart = [float(jnp.abs(edited(s) - X).mean()) for s in (0.1, 0.4, 0.8)]
    assert apart[0] < apart[1] < apart[2]
    # What is left of an image at t = 1 is alpha(1) of it, and that is 0.
    start = editing.sdedit(KEYS, X, COSINE, jnp.float32(1.0))
    other = editing.sdedit(KEYS, X + 5, COSINE, jnp.float32(1.0))
    np.testing.assert_allclose(start, other, atol=1e-5)


@pytest.mark.parametrize('name', ['ddim', 'heun'])
def test_to_the_noise_and_back_is_nearer_with_more_steps(name):
    sampler = getattr(samplers, name)(COSINE)
    apart = []
    for steps in (20, 80):
        times = grid.uniform(steps)
        x_1 = editing.invert(DENOISE, sampler, X, times)
        back = diffusion.sample(KEYS, DENOISE, sampler, x_1, times)
        apart.append(float(jnp.abs(back - X).mean()))
    assert apart[1] < apart[0] / 3 and apart[1] < 0.05, apart


def test_a_sample_is_led_back_to_its_own_noise():
    x_1 = jax.random.normal(jax.random.key(3), (16, 2))
    times = grid.uniform(200)
    x_0 = diffusion.sample(KEYS, DENOISE, samplers.heun(COSINE), x_1, times)
    found = editing.invert(DENOISE, samplers.heun(COSINE), x_0, times)
    assert float(jnp.abs(found - x_1).mean()) < 0.05


def test_what_remembers_is_refused():
    with pytest.raises(ValueError, match='no way back'):
        editing.invert(DENOISE, samplers.dpmpp_2m(COSINE), X, grid.uniform(4))


def test_between_two_noises_lies_noise():
    a, b = jax.random.normal(jax.random.key(0), (2, 5, 4096))
    share = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
    between = editing.interpolate(a, b, share)
    np.testing.assert_allclose(between[0], a[0], atol=1e-5)
    np.testing.assert_allclose(between[4], b[4], atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(between, axis=1), 64, rtol=0.05)
    same = editing.interpolate(a, a, share)
    np.testing.assert_allclose(same, a, rtol=1e-2, atol=1e-2)
