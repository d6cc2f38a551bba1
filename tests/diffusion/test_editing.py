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


@pytest.mark.parametrize(
    'name, make, times, order',
    [
        ('ddim', COSINE, grid.uniform, 1),
        ('heun', schedule.flow(), grid.uniform, 2),  # alpha is not flat at the data
        ('rk4', COSINE, lambda n: grid.logsnr(COSINE, n, 0.99, 0.01), 4),  # from noise to noise
    ],
    ids=['ddim', 'heun', 'rk4'],
)
def test_to_the_noise_and_back_errs_by_the_samplers_order(name, make, times, order, x64):
    denoise, sampler = exact.mixture(make, WEIGHTS, MEANS, STDS), getattr(samplers, name)(make)
    x, apart = jnp.float64(X), []
    for steps in (20, 40):
        visited = jnp.float64(times(steps))
        x_1 = editing.invert(denoise, sampler, make, x, visited)
        back = diffusion.sample(KEYS, denoise, sampler, x_1, visited)
        apart.append(float(jnp.abs(back - x).mean()))
    assert np.log2(apart[0] / apart[1]) > order - 0.25 and apart[1] < 0.05, apart


def test_from_one_condition_to_another_that_differs_in_its_mean_is_a_shift():
    """Gaussians of one covariance have one flow around their means."""
    covariance, shift = np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([1.0, -0.5])
    source, target = (exact.gaussian(COSINE, m, covariance) for m in (0 * shift, shift))
    heun, times = samplers.heun(COSINE), grid.uniform(60)
    x_1 = editing.invert(source, heun, COSINE, X, times)
    edited = diffusion.sample(KEYS, target, heun, x_1, times)
    np.testing.assert_allclose(edited, X + shift, atol=5e-3)


def test_a_walk_of_no_steps_leaves_the_image():
    np.testing.assert_array_equal(
        editing.invert(DENOISE, samplers.ddim(COSINE), COSINE, X, grid.uniform(0)), X
    )


@pytest.mark.parametrize(
    'sampler, why',
    [
        (samplers.dpmpp_2m(COSINE), 'remembers earlier steps'),
        (samplers.ddpm(COSINE), 'draws noise'),
        (samplers.ddim(COSINE, 0.5), 'draws noise'),
        (samplers.heun_stochastic(COSINE), 'draws noise'),
    ],
    ids=['dpmpp_2m', 'ddpm', 'ddim_half', 'heun_stochastic'],
)
def test_what_has_no_way_back_is_refused(sampler, why):
    with pytest.raises(ValueError, match=f'{why} has no way back: take ddim'):
        editing.invert(DENOISE, sampler, COSINE, X, grid.uniform(4))


def test_between_two_noises_lies_noise():
    a, b = jax.random.normal(jax.random.key(0), (2, 5, 4096))
    share = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
    between = editing.interpolate(a, b, share)
    np.testing.assert_allclose(between[0], a[0], atol=1e-5)
    np.testing.assert_allclose(between[4], b[4], atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(between, axis=1), 64, rtol=0.05)
    same = editing.interpolate(a, a, share)
    np.testing.assert_allclose(same, jnp.broadcast_to(a, same.shape), atol=1e-4)
