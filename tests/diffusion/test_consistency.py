import math

import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import (
    consistency,
    denoiser,
    gaussian,
    grid,
    prediction,
    samplers,
    schedule,
)

MEAN, STD = gaussian_data.MEAN, gaussian_data.STD
SCHEDULES = {
    'cosine': schedule.cosine(),
    'vp': schedule.vp(),
    've': schedule.ve(sigma_min=0.05, sigma_max=5.0),
    'edm': schedule.edm(),
    'flow': schedule.flow(),
}


def keys(n):
    return jax.random.split(jax.random.key(7), n)


def teacher_of(make):
    """The exact denoiser for times that are scalars or [b]."""
    return lambda x_t, t: gaussian_data.denoiser(make)(x_t, schedule.broadcast(t, x_t))


def flow_of(make, t_min):
    """The exact consistency function, in closed form."""
    return lambda x_t, t: gaussian_data.flow(make, x_t, schedule.broadcast(t, x_t), t_min)


@pytest.mark.parametrize('name', SCHEDULES)
def test_at_t_min_the_function_is_the_identity_whatever_the_network(name):
    make, t_min = SCHEDULES[name], 0.01
    f = consistency.function(lambda x_t, t: 1e3 * jnp.sin(x_t) + 7, make, t_min)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    np.testing.assert_array_equal(f(x, t_min), x)
    np.testing.assert_array_equal(f(x, jnp.full(5, t_min)), x)
    assert np.abs(f(x, 2 * t_min) - x).max() > 1  # and not elsewhere


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_function_is_a_step_of_ddim_to_t_min(name):
    make, t_min = SCHEDULES[name], 0.05
    x = jnp.linspace(-2, 2, 6)[:, None]
    found = consistency.function(teacher_of(make), make, t_min)(x, 0.6)
    times = jnp.array([0.6, t_min])
    expected = diffusion.sample(keys(6), teacher_of(make), samplers.ddim(make), x, times)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_edms_network_has_the_papers_preconditioning():
    """c_out is the paper's; c_skip is the paper's within sigma_min / sigma_data (its table 1)."""
    make, sigma_data, sigma_min = schedule.edm(), 0.5, 0.002
    sigma = jnp.geomspace(sigma_min, 80, 9)
    t, x = sigma / 80, jax.random.normal(jax.random.key(0), (9, 2))

    def affine(output):
        net = lambda x, level: jnp.full_like(x, output)
        denoise = denoiser.from_network(
            net, prediction.edm(sigma_data), make, sigma_data=sigma_data
        )
        return consistency.function(denoise, make, sigma_min / 80)(x, t)

    c_out = (affine(1.0) - affine(0.0))[:, 0]
    expected = sigma_data * (sigma - sigma_min) / np.sqrt(sigma_data**2 + sigma**2)
    np.testing.assert_allclose(c_out, expected, atol=1e-10)
    c_skip = (affine(0.0) / x)[:, 0]
    expected = sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
    np.testing.assert_allclose(c_skip, expected, atol=sigma_min / sigma_data)


@pytest.mark.parametrize('t_min', [0, 1, -0.1])
def test_a_t_min_outside_the_flow_is_refused(t_min):
    with pytest.raises(ValueError, match=f'between 0 and 1, got t_min={t_min}'):
        consistency.function(lambda x, t: x, schedule.cosine(), t_min)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['vp', 've', 'flow'])
@pytest.mark.parametrize(
    'sampler, order',
    [(samplers.ddim, 1), (samplers.heun, 2), (samplers.dpmpp_2s, 2), (samplers.rk4, 4)],
    ids=lambda x: getattr(x, '__name__', ''),
)
def test_distillation_of_the_exact_function_is_zero_to_the_solvers_order(name, sampler, order):
    """One step errs by h^(order + 1), and the root of the squared loss with it."""
    make, t_min, n = SCHEDULES[name], 0.05, 16
    f, x0 = flow_of(make, t_min), MEAN + STD * jax.random.normal(jax.random.key(0), (n, 2))
    t = jnp.linspace(0.45, 0.75, n)

    @jax.jit
    def losses(h):
        return consistency.distillation(
            keys(n), f, f, x0, t, t - h, make, teacher_of(make), sampler(make)
        )

    errors = [np.sqrt(np.mean(losses(h))) for h in (0.08, 0.04, 0.02)]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(slopes > order + 1 - 0.25), (errors, slopes)


def test_training_without_a_teacher_tends_to_distillation_as_the_steps_shrink():
    """The mean gradients differ by the square of the step (Song et al. 2023, theorem 2)."""
    make, t_min, n = SCHEDULES['vp'], 0.05, 200_000
    exact = flow_of(make, t_min)
    x0 = MEAN + STD * jax.random.normal(jax.random.key(0), (n, 1))
    t = jnp.linspace(0.4, 0.6, n)

    def f(p):  # curved in x, so that the mean over x_s is not f of its mean
        return lambda x, t: exact(x, t) + p * jnp.tanh(3 * x - t[:, None])

    @jax.jit
    def gradients(h):
        """Each example's derivative by p, of both losses."""
        now = keys(n), f(0.3), x0, t, t - h, make
        train = lambda p: consistency.training(now[0], f(p), *now[1:])
        distil = lambda p: consistency.distillation(
            now[0], f(p), *now[1:], teacher_of(make), samplers.heun(make)
        )
        return [jax.jvp(loss, (0.3,), (1.0,))[1] for loss in (train, distil)]

    differences, errors = [], []
    for h in (0.2, 0.1, 0.05):
        training, distillation = (np.asarray(g, np.float64) for g in gradients(h))
        difference = training - distillation
        differences.append(abs(difference.mean()))
        errors.append(4 * difference.std() / n**0.5)
        assert difference.std() > distillation.std()  # an example alone says little
    seen = f'{differences=}, {errors=}'
    assert differences[0] > 5 * errors[0], seen  # not noise
    assert differences[1] < 0.35 * differences[0] + errors[1], seen  # like h², a quarter;
    assert differences[2] < 0.15 * differences[0] + errors[2], seen  # each gradient is like h


@pytest.mark.usefixtures('x64')
def test_in_the_mean_training_is_distillation_by_ddim_where_the_function_is_affine():
    """x_s with the data itself is DDIM's in the mean, so an affine f has the very same gradient."""
    make, n, h = SCHEDULES['cosine'], 200_000, 0.1
    x0 = MEAN + STD * jax.random.normal(jax.random.key(0), (n, 1))
    t = jnp.linspace(0.3, 0.9, n)
    f = lambda p: lambda x, t: p * x + 0.1 * t[:, None]
    train = lambda p: consistency.training(keys(n), f(p), f(0.7), x0, t, t - h, make)
    distil = lambda p: consistency.distillation(
        keys(n), f(p), f(0.7), x0, t, t - h, make, teacher_of(make), samplers.ddim(make)
    )
    slope = lambda loss: np.asarray(jax.jit(lambda p: jax.jvp(loss, (p,), (1.0,))[1])(0.7))
    one, other = slope(train), slope(distil)
    error = (one - other).std() / n**0.5
    assert abs((one - other).mean()) < 4 * error
    assert error < 0.05 * abs(other.mean())  # sharp enough to see a difference


def test_no_gradient_passes_through_the_target_or_the_teacher():
    make, x0 = SCHEDULES['cosine'], jnp.ones((4, 2))
    t, s = jnp.full(4, 0.5), jnp.full(4, 0.4)
    net = lambda p: lambda x, t: p * x
    fixed = net(2.0)
    distil = lambda p, f: consistency.distillation(
        keys(4), f, net(p), x0, t, s, make, net(p), samplers.heun(make)
    ).sum()
    assert jax.jit(jax.grad(lambda p: distil(p, fixed)))(0.5) == 0
    train = lambda p, f: consistency.training(keys(4), f, net(p), x0, t, s, make).sum()
    assert jax.grad(lambda p: train(p, fixed))(0.5) == 0
    assert jax.grad(lambda p: train(0.5, net(p)))(0.7) != 0


@pytest.mark.parametrize('name', ['ddim', 'heun', 'dpmpp_3m'])
def test_a_step_of_each_example_is_its_own_with_its_own_condition(name):
    make, labels = SCHEDULES['vp'], jnp.array([0, 1, 2])  # whole numbers, as labels are
    x, t, s = jnp.ones((3, 2, 1)), jnp.array([0.4, 0.6, 0.9]), jnp.array([0.3, 0.2, 0.7])

    def denoise(labels):  # it knows the labels of the whole batch
        return lambda x, t: 0.3 * x + schedule.broadcast(labels * t, x)

    made = getattr(samplers, name)(make)
    step = jax.jit(
        lambda x, t, s, labels: consistency.solve(keys(3), made, denoise(labels), x, t, s)
    )
    alone = jax.jit(
        lambda x, times, label: diffusion.sample(
            keys(1), lambda x, t: 0.3 * x + label * t, made, x, times
        )
    )
    found = step(x, t, s, labels)
    for i in range(3):
        times = jnp.array([t[i], s[i]])
        expected = alone(x[i : i + 1], times, labels[i])
        np.testing.assert_allclose(found[i], expected[0], rtol=1e-5)


@pytest.mark.parametrize('log_normal', [None, (-1.1, 2.0)])
@pytest.mark.parametrize('name', ['edm', 'cosine'])
def test_pairs_are_neighbours_of_the_karras_grid(name, log_normal):
    make, n, draws = SCHEDULES[name], 12, 24_000
    u = (jnp.arange(draws) + 0.5) / draws
    pairs = jax.jit(
        lambda n: consistency.karras_pairs(u, n, make, 0.01, 50.0, log_normal=log_normal)
    )
    t, s = pairs(n)
    times = grid.karras(make, n, 0.01, 50.0, to_zero=False)
    i = np.abs(times[:, None] - t).argmin(0)
    np.testing.assert_allclose(t, times[i], rtol=1e-4)
    np.testing.assert_allclose(s, times[i + 1], rtol=1e-4)
    counts = np.bincount(i, minlength=n)[:n]
    expected = np.full(n, draws / n)
    if log_normal:  # the paper's table
        levels = np.exp(-np.asarray(schedule.logsnr(make, times)) / 2)
        cdf = [math.erf((math.log(x) + 1.1) / (2 * 2**0.5)) for x in levels]
        expected = draws * -np.diff(cdf) / (cdf[0] - cdf[-1])
    np.testing.assert_allclose(counts, expected, rtol=0.01, atol=3)


def test_metrics_by_their_limits():
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 2))
    norm = np.sqrt(np.sum((x - y) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(consistency.squared(x, y), norm**2 / 32, rtol=1e-5)
    wide, narrow = consistency.pseudo_huber(1e3), consistency.pseudo_huber(1e-4)
    np.testing.assert_allclose(wide(x, y), norm**2 / 2e3, rtol=1e-3)
    np.testing.assert_allclose(narrow(x, y), norm, rtol=1e-4)
    usual = consistency.pseudo_huber(0.00054 * 32**0.5)
    np.testing.assert_allclose(consistency.pseudo_huber()(x, y), usual(x, y), rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda x: usual(x, y).sum())(y), 0)  # finite at x = y
    with pytest.raises(ValueError, match='c must be above 0, got c=0'):
        consistency.pseudo_huber(0)


def test_the_weight_is_the_inverse_gap_of_the_noise_levels():
    t, s = jnp.array([0.5, 0.2]), jnp.array([0.25, 0.1])
    np.testing.assert_allclose(
        consistency.inverse_gap(schedule.edm(80.0), t, s), [1 / 20, 1 / 8], rtol=1e-6
    )


def test_curricula():
    total = 1000
    grown = np.array([consistency.growing_steps(k, total) for k in range(total + 1)])
    assert grown[0] == 1 and grown[-1] == 150 and np.all(np.diff(grown) >= 0)
    assert grown[250] == math.ceil((0.25 * (151**2 - 4) + 4) ** 0.5) - 1
    doubled = np.array([consistency.doubling_steps(k, total) for k in range(total)])
    np.testing.assert_array_equal(np.unique(doubled), 10 * 2 ** np.arange(8))
    np.testing.assert_array_equal(np.unique(doubled, return_counts=True)[1], 125)
    assert consistency.doubling_steps(999, total, 10, 30) == 30  # cut at the last
    assert consistency.doubling_steps(5, 4, 3, 3) == 3
    with pytest.raises(ValueError, match='first must be above 0 and at most last'):
        consistency.doubling_steps(0, total, 20, 10)


def test_the_targets_decay_lengthens_as_the_grid_grows():
    """Over one step of the first grid, of `first` times, it is `decay`; the power is 1 / times."""
    assert consistency.target_decay(1, 2, 0.9) == pytest.approx(0.9)
    assert consistency.target_decay(3, 2, 0.9) == pytest.approx(0.9**0.5)


@pytest.mark.parametrize('teach', [True, False], ids=['distillation', 'training'])
def test_training_brings_the_function_to_the_flow(teach):
    """A correction of the wrong function, linear in x and in two functions of t, is found."""
    make, t_min = schedule.cosine(), 0.01
    exact, x = flow_of(make, t_min), jnp.linspace(-2, 2, 40)[:, None]
    times = jnp.linspace(0.05, 0.95, 40)

    def f(params):
        def denoise(x_t, t):
            t = schedule.broadcast(t, x_t)
            powers = jnp.stack([t**0, t, t**2, t**3], -1)
            return (powers @ params[0]) * x_t + powers @ params[1]

        return consistency.function(denoise, make, t_min)

    optimizer = optax.adam(optax.linear_schedule(0.05, 0, 200))

    @jax.jit
    def step(params, state, key):
        key_data, key_time, key_noise = jax.random.split(key, 3)
        x0 = MEAN + STD * jax.random.normal(key_data, (256, 1))
        u = jax.random.uniform(key_time, (256,))
        t, s = consistency.karras_pairs(u, 40, make, 0.016, 20.0)
        noise = jax.random.split(key_noise, 256)

        def mean(params):
            now = f(params), f(params), x0, t, s, make
            if teach:
                heun = samplers.heun(make)
                found = consistency.distillation(noise, *now, teacher_of(make), heun)
            else:
                found = consistency.training(noise, *now)
            return jnp.mean(consistency.inverse_gap(make, t, s) * found)

        updates, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, updates), state

    error = lambda p: np.sqrt(np.mean((f(p)(x, times) - exact(x, times)) ** 2))
    params = jnp.zeros((2, 4))
    before, state = error(params), optimizer.init(params)
    for i in range(200):
        params, state = step(params, state, jax.random.key(i))
    assert before > 0.3 and error(params) < before / 10, (before, error(params))


def test_losses_are_per_example():
    make, x0 = SCHEDULES['cosine'], jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    t, s = jnp.array([0.9, 0.5, 0.2]), jnp.array([0.8, 0.4, 0.1])
    f = consistency.function(teacher_of(make), make, 0.01)

    @jax.jit
    def losses(keys, x0, t, s):
        metric = consistency.pseudo_huber()
        train = consistency.training(keys, f, f, x0, t, s, make, metric)
        now = keys, f, f, x0, t, s, make, lambda x, t: 0.5 * x, samplers.heun(make), metric
        return train, consistency.distillation(*now)

    whole, alone = (losses(*(a[i] for a in (keys(3), x0, t, s))) for i in (slice(3), slice(1, 2)))
    for several, one in zip(whole, alone):
        assert several.shape == (3,) and np.all(several > 0)
        np.testing.assert_allclose(one[0], several[1], rtol=1e-4)


def test_pairs_of_training_share_their_noise():
    """At sigma_t, with f = x_t / alpha_t, the difference is the noise times the gap of the levels."""
    make, x0 = SCHEDULES['flow'], jax.random.normal(jax.random.key(0), (3, 5))
    t, s = jnp.array([0.9, 0.5, 0.2]), jnp.array([0.8, 0.4, 0.1])
    f = lambda x, t: x / make(t)[0][:, None]
    found = consistency.training(keys(3), f, f, x0, t, s, make)
    _, eps = jax.vmap(gaussian.gaussian(make).corrupt)(keys(3), x0, t)
    expected = np.mean(eps**2, 1) / consistency.inverse_gap(make, t, s) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)
