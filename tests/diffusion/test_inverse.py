"""Inverse problems held against Gaussian data, whose posterior is Gaussian and known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, exact, grid, inverse, operators, samplers, schedule

MEAN = np.array([0.3, -0.2, 0.5])
COVARIANCE = np.array([[1.0, 0.6, 0.2], [0.6, 0.8, -0.3], [0.2, -0.3, 0.5]])
A = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
NOISE = 0.3
Y = np.array([0.9, -0.8])
COSINE = schedule.cosine()
N = 10_000


def linear(a):
    """The operator of a matrix on vectors [b, d]."""
    inverse = np.linalg.pinv(a)
    return operators.Operator(
        lambda x: x @ a.T.astype(x.dtype), lambda y: y @ inverse.T.astype(y.dtype)
    )


def posterior(a=A, noise=NOISE, y=Y):
    """Mean and covariance of x0 given y."""
    gain = COVARIANCE @ a.T @ np.linalg.inv(a @ COVARIANCE @ a.T + noise**2 * np.eye(len(a)))
    return MEAN + gain @ (y - a @ MEAN), COVARIANCE - gain @ a @ COVARIANCE


PRIOR = exact.gaussian(COSINE, MEAN, COVARIANCE)


@pytest.mark.parametrize(
    'make', [schedule.cosine, schedule.edm, schedule.flow], ids=['cosine', 'edm', 'flow']
)
def test_with_the_jacobians_covariance_the_belief_is_the_posteriors(make, x64):
    """Equations (67) and (68) against the exact denoiser of the posterior, at every noise."""
    made = make()
    prior = exact.gaussian(made, MEAN, COVARIANCE)
    y = jnp.asarray(Y + np.array([[0.0], [1.0], [-2.0]]))
    means = np.stack([posterior(y=one)[0] for one in np.asarray(y)])
    expected = exact.gaussian(made, means, posterior()[1])
    found = inverse.pigdm(prior, made, linear(A), y, NOISE, 'jacobian')
    x_t = 2 * jax.random.normal(jax.random.key(0), (3, 3))
    for t in (0.01, 0.3, 0.7, 0.99):
        np.testing.assert_allclose(found(x_t, t), expected(x_t, t), atol=1e-9)
    each = jnp.array([0.1, 0.5, 0.9])  # a time for each
    np.testing.assert_allclose(found(x_t, each), expected(x_t, each), atol=1e-9)


def test_of_white_data_the_isotropic_covariance_is_exact(x64):
    prior = exact.gaussian(COSINE, MEAN, np.eye(3))
    gain = A.T @ np.linalg.inv(A @ A.T + NOISE**2 * np.eye(2))
    expected = exact.gaussian(COSINE, MEAN + gain @ (Y - A @ MEAN), np.eye(3) - gain @ A)
    found = inverse.pigdm(prior, COSINE, linear(A), jnp.asarray(Y)[None], NOISE)
    x_t = jax.random.normal(jax.random.key(0), (1, 3))
    np.testing.assert_allclose(found(x_t, 0.4), expected(x_t, 0.4), atol=1e-9)


def walked(sampler, denoise, times, seed=0):
    keys = jax.random.split(jax.random.key(seed), N)
    x_1 = jax.random.normal(jax.random.key(seed + 1), (N, 3))
    return np.asarray(jax.jit(lambda: diffusion.sample(keys, denoise, sampler, x_1, times))())


@pytest.mark.parametrize(
    'sampler, times',
    [
        (samplers.heun(COSINE), grid.uniform(60)),
        (samplers.heun_stochastic(COSINE, 40.0), grid.logsnr(COSINE, 90, 0.999, to_zero=True)),
    ],
    ids=['deterministic', 'stochastic'],
)
def test_samples_have_the_posteriors_mean_and_covariance(sampler, times):
    """Within four standard errors of 10,000, with no allowance for the steps."""
    y = jnp.broadcast_to(jnp.float32(Y), (N, 2))
    found = walked(sampler, inverse.pigdm(PRIOR, COSINE, linear(A), y, NOISE, 'jacobian'), times)
    mean, covariance = posterior()
    errors = np.sqrt(np.diag(covariance) / N)
    assert np.all(np.abs(found.mean(0) - mean) < 4 * errors)
    variances = np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2
    assert np.all(np.abs(np.cov(found.T) - covariance) < 4 * np.sqrt(variances / N))


def test_ddnm_ends_at_what_was_measured():
    y = jnp.broadcast_to(jnp.float32(Y), (N, 2))
    found = walked(samplers.ddim(COSINE, 0.85), inverse.ddnm(PRIOR, linear(A), y), grid.uniform(20))
    np.testing.assert_allclose(found @ A.T, np.broadcast_to(Y, (N, 2)), atol=1e-5)
    free = np.linalg.svd(A)[2][2]  # what nothing is measured of still varies
    assert (found @ free).std() > 0.1


def test_dps_comes_nearer_to_what_was_measured():
    y = jnp.broadcast_to(jnp.float32(Y), (N, 2))
    plain = samplers.ddpm(COSINE)
    apart = [
        np.linalg.norm(walked(sampler, PRIOR, grid.uniform(50)) @ A.T - Y, axis=1).mean()
        for sampler in (plain, inverse.dps(plain, linear(A), y, 0.3))
    ]
    assert apart[1] < apart[0] / 3


KNOWN = jnp.array([1.0, 0.0, 0.0])
MASK = np.diag([1.0, 0.0, 0.0])[:1]


def error(sampler, times):
    """How far the mean of samples lies from the posterior's, of a known first component."""
    found = walked(sampler, PRIOR, times)
    assert np.all(found[:, 0] == np.float32(1.2))
    mean, _ = posterior(MASK, 0.0, np.array([1.2]))
    return np.abs(found.mean(0) - mean)[1:].max()


def test_repaint_comes_nearer_to_the_posterior_than_replacement_and_nearer_with_more():
    """Both keep what is known; replacement's bias is large, and RePaint's falls with resamplings."""
    y = jnp.broadcast_to(jnp.array([1.2, 0.0, 0.0]), (N, 3))
    plain, times = samplers.ddpm(COSINE), grid.uniform(20)
    asked = plain, COSINE, y, KNOWN
    bias = [error(inverse.replacement(*asked), times)]
    for resamplings in (3, 10):
        bias.append(error(inverse.repaint(*asked), grid.repaint(times, 1, resamplings)))
    assert bias[0] > bias[1] > bias[2] and bias[2] < bias[0] / 2, bias


def test_repaints_grid():
    times = jnp.arange(5, 0, -1)
    found = grid.repaint(times, 2, 2).tolist()
    assert found == [5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1]
    np.testing.assert_array_equal(grid.repaint(times, 3, 1), times)
    with pytest.raises(ValueError, match='must be positive'):
        grid.repaint(times, 0, 1)


def test_repaint_refuses_what_remembers():
    y = jnp.zeros((2, 3))
    sampler = inverse.repaint(samplers.dpmpp_2m(COSINE), COSINE, y, KNOWN)
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match='remembers earlier steps'):
        diffusion.sample(keys, PRIOR, sampler, y, grid.uniform(4))


def test_conjugate_gradients_solve_each_system_for_itself(x64):
    """Exactly in as many iterations as there are unknowns, 0 staying 0; another example beside it changes nothing."""
    draws = np.random.default_rng(0)
    root = draws.normal(size=(3, 4, 4))
    matrices = jnp.asarray(root @ root.swapaxes(1, 2) + 0.1 * np.eye(4))
    b = jnp.asarray(draws.normal(size=(3, 4))).at[1].set(0.0)
    system = lambda u: jnp.einsum('bij,bj->bi', matrices, u)
    found = inverse._conjugate_gradients(system, b, 6)
    np.testing.assert_allclose(system(found), b, atol=1e-8)
    assert np.all(found[1] == 0)
    alone = inverse._conjugate_gradients(lambda u: u @ matrices[2].T, b[2:], 6)
    np.testing.assert_allclose(alone[0], found[2], atol=1e-10)


def test_conjugate_gradients_stop_where_the_system_is_none():
    """Along b it is negative, less than `least`, or a small share of what it was: u stays."""
    solve = lambda values, **least: inverse._conjugate_gradients(
        lambda u: u * jnp.array(values), jnp.ones((1, 2)), 8, **least
    )
    assert np.all(solve([-1.0, 0.5]) == 0)
    assert np.all(solve([0.1, 0.1], least=0.2) == 0)
    np.testing.assert_allclose(solve([0.1, 0.1], least=0.05), 10, rtol=1e-6)
    steep = np.abs(solve([1.0, 1e-5]))
    assert steep.max() > 9e4 and np.abs(solve([1.0, 1e-5], share=0.01)).max() < 5


def test_conjugate_gradients_never_end_farther_than_they_began():
    """Of systems that are no covariance's, symmetric but with eigenvalues of both signs."""
    root = np.random.default_rng(0).normal(size=(64, 6, 6))
    matrices, b = jnp.asarray(root + root.swapaxes(1, 2)), jnp.ones((64, 6))
    system = lambda u: jnp.einsum('bij,bj->bi', matrices, u)
    left = b - system(inverse._conjugate_gradients(system, b, 12))
    assert np.all(jnp.linalg.norm(left, axis=1) <= jnp.linalg.norm(b, axis=1) * (1 + 1e-5))


def test_an_imperfect_jacobian_leads_nowhere_far():
    """Errors of one percent, quick ones as a network's are, in the belief about 16 components.

    Where alpha is small they are the larger part of equation (68).
    """
    places, (w, v) = np.arange(16), jax.random.normal(jax.random.key(0), (2, 16, 16))
    prior = exact.gaussian(COSINE, np.zeros(16), np.exp(-np.abs(places[:, None] - places) / 4))
    wrong = lambda x, t: prior(x, t) + 0.01 * jnp.sin(x @ w) @ v / 4
    operator = operators.mask(jnp.float32(places % 8 < 4))
    x_t, y = jax.random.normal(jax.random.key(1), (2, 512, 16))
    for noise in (0.0, 0.1):
        beliefs = [
            inverse.pigdm(f, COSINE, operator, operator.apply(y), noise, 'jacobian', 16)(x_t, 0.98)
            for f in (prior, wrong)
        ]
        apart = jnp.abs(beliefs[1] - beliefs[0]).max(1)
        assert jnp.median(apart) < 3 and jnp.quantile(apart, 0.99) < 15, (noise, apart.max())


WAYS = {
    'replacement': lambda d, s, y: (d, inverse.replacement(s, COSINE, y, KNOWN)),
    'repaint': lambda d, s, y: (d, inverse.repaint(s, COSINE, y, KNOWN)),
    'ddnm': lambda d, s, y: (inverse.ddnm(d, linear(A), y[:, 1:]), s),
    'dps': lambda d, s, y: (d, inverse.dps(s, linear(A), y[:, 1:])),
    'isotropic': lambda d, s, y: (inverse.pigdm(d, COSINE, linear(A), y[:, 1:]), s),
    'jacobian': lambda d, s, y: (
        inverse.pigdm(d, COSINE, linear(A), y[:, 1:], 0.1, 'jacobian'),
        s,
    ),
}


@pytest.mark.parametrize('name', WAYS)
def test_each_sample_is_its_own_and_one_trace_serves_all(name):
    """Whatever is beside it, from alpha = 0 on, with a learned variance; y and keys are arguments."""
    traces = []

    def learned(x_t, t):
        return denoiser.Learned(PRIOR(x_t, t), jnp.full_like(x_t, 0.5))

    @jax.jit
    def draw(keys, x_1, y):
        traces.append(1)
        denoise, sampler = WAYS[name](learned, samplers.ddpm(COSINE, 'learned'), y)
        times = grid.uniform(4)
        times = grid.repaint(times, 2, 2) if name == 'repaint' else times
        return diffusion.sample(keys, denoise, sampler, x_1, times)

    given = jax.random.split(jax.random.key(0), 3), *jax.random.normal(jax.random.key(1), (2, 3, 3))
    x = draw(*given)
    turned = draw(*(part[jnp.array([2, 0, 2])] for part in given))
    assert np.all(np.isfinite(x)) and len(traces) == 1
    np.testing.assert_array_equal(turned, x[jnp.array([2, 0, 2])])


def test_a_covariance_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'isotropic' or 'jacobian', got covariance='full'"):
        inverse.pigdm(PRIOR, COSINE, linear(A), jnp.zeros((1, 2)), covariance='full')
