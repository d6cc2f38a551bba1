import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxdiff.diffusion import categorical, ordinal, schedule

MAKE = schedule.cosine()


def matrix(chain, s, t):
    return np.asarray(chain.forward(jnp.eye(chain.size), s, t))


@pytest.mark.usefixtures('x64')
def test_the_slowest_mode_fades_as_the_schedules_signal():
    """Equation (61), with the eigenvector of a path: φ = cos(π (level + ½) / size)."""
    size, t = 17, 0.6
    phi = np.cos(np.pi * (np.arange(size) + 0.5) / size)
    a = 1e-3 + (1 - 1e-3) * float(MAKE(t)[0])
    q = matrix(ordinal.ordinal_chain(MAKE, size), 0.0, t)
    np.testing.assert_allclose(q @ phi, a * phi, atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_rates_may_differ():
    rates = np.array([0.5, 2.0, 1.0, 3.0])
    r = ordinal.generator(rates)
    np.testing.assert_array_equal(r, r.T)
    np.testing.assert_allclose(r.sum(1), 0, atol=1e-15)
    np.testing.assert_array_equal(np.diag(r, 1), rates)
    assert np.all(np.triu(r, 2) == 0)
    gap = np.sort(np.linalg.eigvals(-r).real)[1]
    span = -np.log(1e-3 + (1 - 1e-3) * np.array([MAKE(0.3)[0], MAKE(0.8)[0]])) / gap
    found = matrix(ordinal.ordinal_chain(MAKE, 5, rates=rates), 0.3, 0.8)
    np.testing.assert_allclose(found, expm((span[1] - span[0]) * r), atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_neighbours_come_first():
    """A short time moves one level, at the rates of R; a long one less the farther away."""
    chain = ordinal.ordinal_chain(MAKE, 6)
    short = matrix(chain, 0.0, 1e-3)
    assert short[2, 1] == pytest.approx(short[2, 3], rel=1e-4)
    assert short[2, 4] < 1e-4 * short[2, 3]
    assert np.all(np.diff(matrix(chain, 0.0, 0.3)[0]) < 0)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('rates', [None, [3.0, 0.1, 1.0, 2.0, 0.5, 1.0, 4.0]])
@pytest.mark.parametrize('alpha_min', [1e-1, 1e-3])
def test_the_priors_mismatch_is_as_stated(alpha_min, rates):
    chain = ordinal.ordinal_chain(MAKE, 8, alpha_min, rates)
    q = matrix(chain, 0.0, 1.0)
    kl = np.sum(q * np.log(q * 8), 1)
    assert np.all(kl > 0)
    assert kl.max() <= 7 * alpha_min**2  # equation (62)
    if rates is None:  # and no idle bound: half of χ² of the slowest mode, to first order
        assert kl.max() == pytest.approx(alpha_min**2 * np.cos(np.pi / 16) ** 2, rel=0.1)


@pytest.mark.usefixtures('x64')
def test_with_two_levels_it_is_the_uniform_process():
    chain = ordinal.ordinal_chain(schedule.flow(), 2, alpha_min=1e-9)
    other = categorical.uniform_chain(schedule.flow(), 2)
    np.testing.assert_allclose(matrix(chain, 0.2, 0.7), matrix(other, 0.2, 0.7), atol=1e-8)


def test_many_levels_are_laws_in_single_precision():
    size = 256
    chain = ordinal.ordinal_chain(schedule.flow(), size)
    belief = jax.random.normal(jax.random.key(0), (size, size)) * 5
    posterior = jax.jit(lambda t, s: categorical.posterior(chain, jnp.arange(size), belief, t, s))
    forward = jax.jit(lambda s, t: chain.forward(jnp.eye(size), s, t))
    for s, t in [(0.0, 1e-6), (0.0, 1e-3), (0.5, 0.501), (0.0, 1.0), (0.9, 1.0)]:
        q = forward(s, t)
        assert np.all(q > 0)
        np.testing.assert_allclose(q.sum(1), 1, atol=1e-4)
        found = posterior(t, s)
        assert np.all(found >= 0)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-4)
    np.testing.assert_array_equal(forward(0.3, 0.3), np.eye(size))  # no time, no step


def test_single_precision_follows_double_in_the_posterior():
    """Of a true belief, at short and long steps: to 1e-4, though far levels are below rounding."""
    size = 17
    law = np.linspace(1, 3, size) / np.linspace(1, 3, size).sum()
    for t, s in [(0.05, 0.04), (0.5, 0.4), (1.0, 0.9), (0.01, 0.0)]:
        with jax.enable_x64(True):
            chain = ordinal.ordinal_chain(MAKE, size)
            belief = np.log(law[:, None] * matrix(chain, 0.0, t)).T
            exact = np.asarray(
                categorical.posterior(chain, jnp.arange(size), jnp.asarray(belief), t, s)
            )
        found = categorical.posterior(
            ordinal.ordinal_chain(MAKE, size), jnp.arange(size), jnp.float32(belief), t, s
        )
        np.testing.assert_allclose(found, exact, atol=1e-4)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='size must be a whole number of at least 2, got size=1'):
        ordinal.ordinal(MAKE, 1)
    for bad in (0.0, 1.0):
        with pytest.raises(ValueError, match='alpha_min must lie between 0 and 1'):
            ordinal.ordinal(MAKE, 4, alpha_min=bad)
    for rates in ([1.0, 1.0], [1.0, 0.0, 1.0], 1.0):
        with pytest.raises(ValueError, match='rates must be 3 positive numbers'):
            ordinal.ordinal(MAKE, 4, rates=rates)
