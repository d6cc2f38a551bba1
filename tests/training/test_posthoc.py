"""Power-function averages against the theory of their profiles, and widths made afterwards."""

import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.training import posthoc

_WIDTHS = 0.05, 0.10


def _track(params, gamma, start=None):
    """The averages after each of the parameters [t, ...], from another start."""

    def step(average, now):
        i, x = now
        average = posthoc.update(average, x, i, gamma)
        return average, average

    start = params[0] if start is None else start
    return jax.lax.scan(step, start, (jnp.arange(len(params)), params))[1]


def _profile(n, gamma):
    """The weight of each of n steps in the average after them."""
    return np.asarray(_track(jnp.eye(n), gamma, start=jnp.full(n, jnp.nan))[-1])


def _snapshots(n, count, widths=_WIDTHS):
    """The steps and exponents of `count` snapshots of each width, evenly up to step n."""
    pairs = itertools.product(range(n // count, n + 1, n // count), map(posthoc.gamma, widths))
    steps, gammas = zip(*pairs, strict=True)
    return steps, gammas


@pytest.mark.parametrize('width', [1e-3, 0.01, 0.05, 0.10, 0.2, 0.288, 12**-0.5 - 1e-9])
def test_gamma_gives_the_width_back(width):
    g = posthoc.gamma(width)
    assert g > 0
    variance = (g + 1) / ((g + 2) ** 2 * (g + 3))  # of a Beta(gamma + 1, 1) distribution
    np.testing.assert_allclose(variance**0.5, width, rtol=1e-12)


def test_gamma_of_the_papers_widths():
    np.testing.assert_allclose(posthoc.gamma(0.10), 6.94, atol=5e-3)
    np.testing.assert_allclose(posthoc.gamma(0.05), 16.97, atol=5e-3)
    assert posthoc.gamma(12**-0.5 - 1e-9) < 1e-6  # the plain mean


@pytest.mark.parametrize('width', [-0.1, 0.0, 12**-0.5, 0.3, float('nan')])
def test_width_outside_is_refused(width):
    with pytest.raises(ValueError, match=r'above 0 and below 0\.2887.*got'):
        posthoc.gamma(width)


@pytest.mark.parametrize('width', [0.05, 0.12, 0.25])
def test_weights_of_the_steps_are_the_profile(x64, width):
    n, g = 400, posthoc.gamma(width)
    profile = _profile(n, g)
    until = (np.arange(n + 1) / n) ** (g + 1)  # the share of the weight before each time
    np.testing.assert_allclose(profile, np.diff(until), rtol=1e-9, atol=1e-15)
    times = (np.arange(n) + 0.5) / n
    mean = times @ profile
    np.testing.assert_allclose(mean, (g + 1) / (g + 2), rtol=1e-4)
    np.testing.assert_allclose(np.sqrt((times - mean) ** 2 @ profile), width, rtol=1e-3)


def test_late_update_in_float32():
    """A millionth step's share, below float32's resolution of β, is right to five digits."""
    g = posthoc.gamma(0.10)
    step = jnp.asarray(999_999)
    share = posthoc.update(jnp.zeros(()), jnp.ones(()), step, g)
    assert share.dtype == jnp.float32
    np.testing.assert_allclose(share, -np.expm1((g + 1) * np.log1p(-1e-6)), rtol=1e-5)


def test_first_update_gives_the_parameters_exactly():
    params = {'a': jnp.float32([0.1, -3e7]), 'b': (jnp.bfloat16(0.3),)}
    start = {'a': jnp.float32([np.nan, 1.0]), 'b': (jnp.bfloat16(7.0),)}
    average = posthoc.update(start, params, jnp.zeros((), jnp.int32), 6.94)
    jax.tree.map(np.testing.assert_array_equal, average, params)
    assert jax.tree.map(lambda x: x.dtype, average) == jax.tree.map(lambda x: x.dtype, params)


def test_constants_stay_exactly():
    params = jnp.tile(jnp.float32([0.1, -7.3]), (50, 1))
    np.testing.assert_array_equal(_track(params, 6.94), params)


def test_update_compiles_once():
    traces = []

    @jax.jit
    def update(*asked):
        traces.append(1)
        return posthoc.update(*asked)

    for step, width in ((0, 0.05), (1, 0.10), (1000, 0.2)):
        update(jnp.zeros(3), jnp.ones(3), jnp.asarray(step), posthoc.gamma(width))
    assert len(traces) == 1


@pytest.mark.parametrize('width', [0.03, 0.06, 0.075, 0.12, 0.2])
def test_weights_sum_to_one(width):
    for count in (1, 4, 32):
        x = posthoc.weights(*_snapshots(3200, count), 3200, posthoc.gamma(width))
        assert x.dtype == np.float64
        np.testing.assert_allclose(x.sum(), 1, rtol=1e-12)


def test_stored_profile_is_found_again():
    steps, gammas = _snapshots(1600, 16)
    for i in (31, 20, 9):
        known = [k for k, s in enumerate(steps) if s <= steps[i]]
        stored = [steps[k] for k in known], [gammas[k] for k in known]
        x = posthoc.weights(*stored, steps[i], gammas[i])
        np.testing.assert_allclose(x, np.eye(len(known))[i], atol=1e-9)
        assert posthoc.residual(x, *stored, steps[i], gammas[i]) < 1e-7


def test_residual_is_the_distance_of_the_profiles():
    """Against the profiles themselves on a fine grid, not their inner products."""
    steps, gammas = _snapshots(64, 4)
    x = posthoc.weights(steps, gammas, 64, posthoc.gamma(0.2))
    u = (np.arange(400_000) + 0.5) * 64 / 400_000

    def profile(t, g):
        return np.where(u <= t, (g + 1) / t * (u / t) ** g, 0)

    wanted = profile(64, posthoc.gamma(0.2))
    made = sum(w * profile(t, g) for w, t, g in zip(x, steps, gammas, strict=True))
    expected = np.linalg.norm(made - wanted) / np.linalg.norm(wanted)
    found = posthoc.residual(x, steps, gammas, 64, posthoc.gamma(0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert 0.1 < found < 0.3  # so few snapshots are worth a warning


def test_weights_are_the_least_squares_optimum():
    """No other weights of sum 1 come nearer."""
    steps, gammas = _snapshots(800, 8)
    target = 800, posthoc.gamma(0.15)
    x = posthoc.weights(steps, gammas, *target)
    best = posthoc.residual(x, steps, gammas, *target)
    for move in np.random.default_rng(0).normal(size=(20, len(x))):
        move -= move.mean()
        for size in (1e-3, 1e-1):
            assert posthoc.residual(x + size * move, steps, gammas, *target) > best


def test_more_snapshots_come_nearer_by_their_square():
    g = posthoc.gamma(0.075)
    found = []
    for count in (16, 32, 64):
        stored = _snapshots(6400, count)
        found.append(posthoc.residual(posthoc.weights(*stored, 6400, g), *stored, 6400, g))
    slopes = np.log2(np.divide(found[:-1], found[1:]))
    assert np.all((1.8 < slopes) & (slopes < 2.2))


@pytest.mark.parametrize('width', [0.06, 0.075, 0.12, 0.2])
def test_third_width_of_a_random_walk(x64, width):
    """From two widths, a snapshot of each every N/16 steps, as if it had been tracked itself.

    The error is a share of how far the wanted average lies from the last parameters: 0.02 to
    0.06 % where the residual of the profile is 0.35 %, and 0.3 % at width 0.2, where it is 2.3 %.
    """
    n, count, g = 1600, 16, posthoc.gamma(width)
    params = jnp.cumsum(jax.random.normal(jax.random.key(0), (n, 256)), axis=0)
    tracked = {posthoc.gamma(w): _track(params, posthoc.gamma(w)) for w in _WIDTHS}
    steps, gammas = _snapshots(n, count)
    x = posthoc.weights(steps, gammas, n, g)
    made = posthoc.combine((tracked[h][s - 1] for s, h in zip(steps, gammas, strict=True)), x)
    wanted = _track(params, g)[-1]
    error = np.linalg.norm(made - wanted) / np.linalg.norm(params[-1] - wanted)
    assert error < (1e-3 if width < 0.2 else 1e-2)


def test_combine_is_lazy_and_keeps_dtypes():
    """A snapshot is read only when the one before it was added and let go."""
    loaded = []

    def load(i):
        assert all(earlier() is None for earlier in loaded)
        a = np.full((2, 3), float(i), np.float32)
        loaded.append(weakref.ref(a))
        return {'a': a, 'b': jnp.bfloat16(i)}

    made = posthoc.combine((load(i) for i in range(3)), [0.5, -1.0, 2.0])
    assert len(loaded) == 3
    np.testing.assert_array_equal(made['a'], np.full((2, 3), 3.0, np.float32))
    assert (made['a'].dtype, made['b'].dtype) == (np.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match='argument'):
        posthoc.combine([jnp.ones(2)], [1.0, 2.0])


def test_combine_keeps_constants():
    steps, gammas = _snapshots(1600, 16)
    x = posthoc.weights(steps, gammas, 1600, posthoc.gamma(0.03))
    constant = np.float32([0.1, -7.3, 1e9])
    np.testing.assert_array_equal(posthoc.combine((constant for _ in x), x), constant)


def test_wrong_snapshots_are_refused():
    with pytest.raises(ValueError, match='no snapshot'):
        posthoc.weights([], [], 10, 1.0)
    with pytest.raises(ValueError, match='from 1 to 10.*got 4 to 12'):
        posthoc.weights([4, 12], [1.0, 1.0], 10, 1.0)
    with pytest.raises(ValueError, match='from 1 to 10.*got 0 to 4'):
        posthoc.weights([0, 4], [1.0, 1.0], 10, 1.0)
    with pytest.raises(ValueError, match='one step and profile'):
        posthoc.weights([4, 4], [1.0, 1.0], 10, 1.0)
