import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.diffusion import exact, learned, prediction, schedule, variational

WEIGHTS, MEANS, STDS = [0.5, 0.3, 0.2], [[-1.0, 0.3], [0.8, 0.9], [0.4, -1.1]], [0.2, 0.3, 0.1]


def params(width=32, low=-6.0, high=5.0, key=0):
    return learned.init(jax.random.key(key), low, high, width)


def bent(key=1):
    """Parameters far from where they start."""
    shake = lambda p: p + 2 * jax.random.normal(jax.random.key(key), p.shape, p.dtype)
    start = params()
    return start._replace(interior=jax.tree.map(shake, start.interior))


@pytest.mark.parametrize('make', [params, bent], ids=['fresh', 'bent'])
def test_it_rises_between_its_end_points(make):
    t = jnp.linspace(0, 1, 501)
    gamma = np.asarray(learned.gamma(make(), t))
    assert gamma.dtype == np.float32
    np.testing.assert_allclose(gamma[[0, -1]], [-6, 5], rtol=1e-6)
    assert np.all(np.diff(gamma) > 0)
    alpha, sigma = learned.schedule(make())(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)
    np.testing.assert_allclose(schedule.logsnr(learned.schedule(make()), t), -gamma, atol=1e-5)


def test_it_starts_nearly_straight():
    t = jnp.linspace(0, 1, 101)
    gamma = learned.gamma(learned.init(jax.random.key(0)), t)
    np.testing.assert_allclose(gamma, -13.3 + 18.3 * t, atol=0.5)


@pytest.mark.parametrize('make', [params, bent], ids=['fresh', 'bent'])
def test_single_precision_keeps_its_derivatives(make):
    """alpha and sigma near 0 and 1 lose no digits: against finite differences in double precision."""
    start = make()._replace(low=jnp.asarray(-13.3), span=jnp.asarray(24.0))
    t = np.asarray([0.0, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0], np.float32)
    found = jax.jit(lambda t: schedule.coefficients(learned.schedule(start), t, t))(t)
    with jax.enable_x64(True):
        precise = jax.jit(learned.schedule(jax.tree.map(lambda p: p.astype(jnp.float64), start)))
        t, h = t.astype(np.float64), 1e-5
        values = precise(t)
        slopes = [(b - a) / (2 * h) for a, b in zip(precise(t - h), precise(t + h), strict=True)]
    for one, other in zip(found, (*values, *slopes), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=2e-5)


@pytest.mark.usefixtures('x64')
def test_the_time_of_a_logsnr_is_found():
    make, t = learned.schedule(bent()), jnp.linspace(0.0, 1.0, 21)
    found = jax.jit(lambda t: schedule.time_of_logsnr(make, schedule.logsnr(make, t)))(t)
    np.testing.assert_allclose(found, t, atol=1e-9)


@pytest.mark.usefixtures('x64')
def test_its_sde_is_the_variance_preserving_one():
    """f = −½ sigma² dγ/dt and g² = sigma² dγ/dt."""
    start, t = bent(), jnp.linspace(0.0, 1.0, 21)
    rise = jax.vmap(jax.grad(lambda t: learned.gamma(start, t)))(t)
    f, g2 = jax.jit(lambda t: schedule.sde(learned.schedule(start), t))(t)
    sigma2 = jax.nn.sigmoid(learned.gamma(start, t))
    np.testing.assert_allclose(f, -sigma2 * rise / 2, rtol=1e-9)
    np.testing.assert_allclose(g2, sigma2 * rise, rtol=1e-9)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='gamma_min must be less'):
        learned.init(jax.random.key(0), 5.0, -13.3)
    with pytest.raises(ValueError, match='width must be'):
        learned.init(jax.random.key(0), width=0)


def bound(p, batch, key, scale=1.0):
    """The bound's estimate for the mixture from its exact denoiser (at `scale` = 1), [b]."""
    choose, place, time, noise = jax.random.split(key, 4)
    k = jax.random.choice(choose, 3, (batch,), p=jnp.asarray(WEIGHTS))
    spread = jax.random.normal(place, (batch, 2), p.low.dtype)
    x0 = jnp.asarray(MEANS)[k] + jnp.asarray(STDS)[k, None] * spread
    t = (jax.random.uniform(time, dtype=x0.dtype) + jax.random.permutation(time, batch) / batch) % 1
    make = learned.schedule(p)
    denoise = exact.mixture(make, WEIGHTS, MEANS, STDS)

    def predict(x_t, t):
        c = schedule.coefficients(make, t, x_t)
        return scale * (x_t - c.alpha * denoise(x_t, t)) / c.sigma

    keys = jax.random.split(noise, batch)
    return variational.continuous(keys, predict, x0, t, make, prediction.eps)


@pytest.mark.usefixtures('x64')
def test_each_part_gets_its_own_gradient():
    """The interior that of the mean of L², the end points and the network that of the mean of L."""
    start, key = params(width=4), jax.random.key(2)
    losses = lambda p, scale: bound(p, 16, key, scale).total

    @jax.jit
    def gradients(p, scale):
        def trained(p, scale):
            values = learned.lower_variance(lambda p: losses(p, scale), p)
            return values.mean(), values

        found, values = jax.grad(trained, (0, 1), has_aux=True)(p, scale)
        return found, values, losses(p, scale), jax.jacfwd(losses, (0, 1))(p, scale)

    (found, by_net), values, expected, (slopes, net) = gradients(start, 0.9)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(by_net, net.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.low, slopes.low.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.span, slopes.span.mean(), rtol=1e-9)
    for name, gradient in found.interior.items():
        slope = np.asarray(slopes.interior[name])
        squared = np.tensordot(2 * values, slope, 1) / len(values)
        np.testing.assert_allclose(gradient, squared, rtol=1e-8, atol=1e-12)
        assert np.abs(slope.mean(0) - gradient).max() > 1e-3  # not the bound's own


def train(start, steps, batch, rate):
    optimizer = optax.adam(rate)

    def step(carry, i):
        p, state = carry
        key = jax.random.fold_in(jax.random.key(5), i)
        grads = jax.grad(
            lambda p: learned.lower_variance(lambda p: bound(p, batch, key).total, p).mean()
        )(p)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(p, updates), state), None

    (p, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(steps))
    return p


def test_training_lowers_the_variance_and_keeps_the_mean():
    """The exact network, fixed end points: the bound's mean can't depend on the interior."""
    start = params()
    trained = jax.jit(lambda p: train(p, 300, 256, 0.03))(start)
    trained = trained._replace(low=start.low, span=start.span)
    measure = jax.jit(lambda p: bound(p, 40_000, jax.random.key(9)))
    before, after = (np.asarray(measure(p).diffusion, np.float64) for p in (start, trained))
    error = ((before.var() + after.var()) / len(before)) ** 0.5
    assert abs(before.mean() - after.mean()) < 4 * error
    assert after.var() < 0.75 * before.var(), (before.var(), after.var())


def test_the_end_points_follow_the_bound():
    """Continuous data want as little noise at the end, and as little signal at the start, as can be."""
    start = params(low=-1.0, high=1.0)
    value = lambda p: bound(p, 20_000, jax.random.key(9)).total.mean()
    p = jax.jit(lambda p: train(p, 100, 128, 0.03))(start)
    before, slope = jax.jit(jax.value_and_grad(value))(start)
    assert slope.low > 0 and slope.span < 0
    assert p.low < -2 and jax.jit(value)(p) < before - 0.1
