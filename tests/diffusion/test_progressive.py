import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import exact, grid, loss, prediction, progressive, samplers, schedule

MEAN, STD = gaussian_data.MEAN, gaussian_data.STD
SCHEDULES = {
    'cosine': schedule.cosine(),
    'vp': schedule.vp(),
    've': schedule.ve(sigma_min=0.05, sigma_max=5.0),
    'flow': schedule.flow(),
}
PREDICTIONS = [prediction.x0, prediction.eps, prediction.v, prediction.velocity, prediction.edm()]


def keys(n):
    return jax.random.split(jax.random.key(7), n)


def teacher_of(make):
    """The exact denoiser for times that are scalars or [b]."""
    return lambda x_t, t: gaussian_data.denoiser(make)(x_t, schedule.broadcast(t, x_t))


def walk(denoise, make, x, *times):
    return diffusion.sample(keys(len(x)), denoise, samplers.ddim(make), x, jnp.array(times))


def slope_of_ddim(make, t, s):
    """x_s − alpha_s m = slope (x_t − alpha_t m): DDIM's step on N(m, std²), from its two equations."""
    (a_t, s_t), (a_s, s_s) = make(t), make(s)
    return (a_t * a_s * STD**2 + s_t * s_s) / (a_t**2 * STD**2 + s_t**2)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_one_step_with_the_target_is_the_teachers_two(name):
    make, x = SCHEDULES[name], jnp.linspace(-2, 2, 14).reshape(7, 2)
    denoise = exact.mixture(make, [0.4, 0.6], [[-1.0, 0.2], [0.5, 0.9]], [0.3, 0.5])

    @jax.jit
    def both(t, m, s):
        target = progressive.target(denoise, x, t, m, s, make)
        return walk(lambda x_t, t: target, make, x, t, s), walk(denoise, make, x, t, m, s)

    for times in ((0.7, 0.5, 0.3), (1.0, 0.75, 0.4), (0.2, 0.1, 0.0), (1.0, 0.5, 0.0)):
        np.testing.assert_allclose(*both(*times), atol=1e-12)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_target_of_gaussian_data_in_closed_form(name):
    make, (t, m, s) = SCHEDULES[name], (0.7, 0.5, 0.3)
    x = jnp.linspace(-2, 2, 5)[:, None]
    (a_t, s_t), (a_s, s_s) = make(t), make(s)
    x_s = a_s * MEAN + slope_of_ddim(make, t, m) * slope_of_ddim(make, m, s) * (x - a_t * MEAN)
    expected = (x_s - s_s / s_t * x) / (a_s - s_s / s_t * a_t)  # the paper's form
    found = progressive.target(gaussian_data.denoiser(make), x, t, m, s, make)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', SCHEDULES)
def test_a_teacher_whose_steps_are_the_flow_has_a_student_whose_steps_are(name):
    """The flow is a semigroup, so halving the steps of a perfect teacher loses nothing."""
    make, (t, m, s) = SCHEDULES[name], (0.8, 0.5, 0.2)
    following = {t: m, m: s}

    def perfect(x_t, t):  # the x0 with which DDIM lands on the flow
        end = following[t]
        (a_t, s_t), (a_s, s_s) = make(t), make(end)
        x_s = gaussian_data.flow(make, x_t, t, end)
        return (x_s - s_s / s_t * x_t) / (a_s - s_s / s_t * a_t)

    x = jnp.linspace(-2, 2, 5)[:, None]
    target = progressive.target(perfect, x, t, m, s, make)
    found = walk(lambda x_t, t: target, make, x, t, s)
    np.testing.assert_allclose(found, gaussian_data.flow(make, x, t, s), atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_target_tends_to_the_teachers_belief_in_short_steps():
    make, x = SCHEDULES['vp'], jnp.linspace(-2, 2, 5)[:, None]
    denoise = gaussian_data.denoiser(make)
    target = jax.jit(lambda h: progressive.target(denoise, x, 0.5, 0.5 - h, 0.5 - 2 * h, make))
    gaps = [np.abs(target(h) - denoise(x, 0.5)).max() for h in (0.02, 0.01, 0.005)]
    slopes = np.log2(np.divide(gaps[:-1], gaps[1:]))
    np.testing.assert_allclose(slopes, 1, atol=0.1)


def affine_student(make, p, t, slope, offset):
    """A network whose belief at t is slope x_t + offset."""

    def predict(x_t, time):
        c, x0 = schedule.coefficients(make, time, x_t), slope * x_t + offset
        return prediction.target(p, c, x0, (x_t - c.alpha * x0) / c.sigma)

    return predict


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('s', [0.3, 0.0])
@pytest.mark.parametrize('p', PREDICTIONS, ids=lambda p: p.name)
def test_the_loss_of_the_exact_student_is_zero_and_so_is_its_gradient(p, s):
    make, t, m = SCHEDULES['vp'], 0.7, 0.5
    teacher = teacher_of(make)
    zero, one = (
        progressive.target(teacher, jnp.full((1, 1), x), t, m, s, make) for x in (0.0, 1.0)
    )
    right = jnp.array([(one - zero).item(), zero.item()])  # the target is affine in x_t
    x0 = MEAN + STD * jax.random.normal(jax.random.key(0), (64, 3))
    times = tuple(jnp.full(64, time) for time in (t, m, s))

    def mean_loss(student):
        predict = affine_student(make, p, t, *student)
        return jnp.mean(
            progressive.loss(
                keys(64), predict, teacher, x0, *times, make, p, progressive.truncated_snr()
            )
        )

    mean_loss = jax.jit(jax.value_and_grad(mean_loss))
    value, gradient = mean_loss(right)
    assert value < 1e-24 and np.abs(gradient).max() < 1e-11
    wrong, gradient = mean_loss(right + 0.1)
    assert wrong > 1e-4 and np.abs(gradient).max() > 1e-3


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('p', PREDICTIONS, ids=lambda p: p.name)
@pytest.mark.parametrize('name', SCHEDULES)
def test_weights_are_those_of_the_error_in_x0(name, p):
    """Whatever the network predicts, the loss is max(snr, 1), or snr + 1, times the error in x0²."""
    make, teacher = SCHEDULES[name], teacher_of(SCHEDULES[name])
    t, m, s = jnp.array([0.1, 0.4, 0.9]), jnp.array([0.08, 0.3, 0.6]), jnp.array([0.0, 0.2, 0.5])
    x0 = jax.random.normal(jax.random.key(0), (3, 5))
    predict = affine_student(make, p, t, 0.3, 0.2)
    arguments = keys(3), predict, teacher, x0, t, m, s, make, p
    x_t, _ = jax.vmap(diffusion.gaussian.gaussian(make).corrupt)(keys(3), x0, t)
    error = 0.3 * x_t + 0.2 - progressive.target(teacher, x_t, t, m, s, make)
    square = np.mean(error**2, axis=1)
    snr = np.exp(schedule.logsnr(make, t))
    truncated = progressive.loss(*arguments, progressive.truncated_snr())
    np.testing.assert_allclose(truncated, np.maximum(snr, 1) * square, rtol=1e-9)
    plus_one = progressive.loss(*arguments, progressive.snr_plus_one())
    np.testing.assert_allclose(plus_one, (snr + 1) * square, rtol=1e-9)


@pytest.mark.usefixtures('x64')
def test_snr_plus_one_is_no_weight_for_v_on_a_variance_preserving_schedule():
    c = schedule.coefficients(SCHEDULES['cosine'], jnp.linspace(0, 1, 11), jnp.zeros(11))
    np.testing.assert_allclose(progressive.snr_plus_one()(prediction.v, c), 1, rtol=1e-12)


def test_the_loss_from_alpha_zero_to_sigma_zero_is_finite_and_each_example_its_own():
    make, p = SCHEDULES['cosine'], prediction.v
    t, m, s = (jnp.array(times) for times in ([1.0, 0.5, 1.0], [0.5, 0.25, 0.75], [0.0, 0.0, 0.5]))
    x0 = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    teacher = teacher_of(make)

    def losses(keys, x0, t, m, s):
        weighting = progressive.truncated_snr()
        return progressive.loss(
            keys, lambda x, t: 0.1 * x, teacher, x0, t, m, s, make, p, weighting
        )

    found = jax.jit(losses)(keys(3), x0, t, m, s)
    assert found.shape == (3,) and np.all(np.isfinite(found)) and np.all(found > 0)
    alone = jax.jit(losses)(*(a[1:2] for a in (keys(3), x0, t, m, s)))
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)


def test_steps_are_the_students_and_equally_probable():
    times = grid.quadratic(6)
    u = (jnp.arange(3000) + 0.5) / 3000
    t, m, s = progressive.steps(u, times)
    rows, counts = np.unique(np.stack([t, m, s], 1), axis=0, return_counts=True)
    expected = np.stack([times[:-2:2], times[1::2], times[2::2]], 1)[::-1]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(counts, 1000)


@pytest.mark.parametrize('n', [0, 1, 5])
def test_a_teacher_of_an_odd_number_of_steps_is_refused(n):
    with pytest.raises(ValueError, match=f'even number of steps, got {n}'):
        progressive.steps(jnp.zeros(1), grid.uniform(n))


@pytest.mark.usefixtures('x64')
def test_training_brings_the_student_to_the_teachers_samples():
    """Four steps of a student that starts as its teacher, against the teacher's eight."""
    make, times = SCHEDULES['cosine'], grid.uniform(8)
    teacher, starts = teacher_of(make), times[:-1:2]

    def student(params):  # a correction, affine in x_t, for each time at which it is asked
        def denoise(x_t, t):
            slope, offset = params[jnp.argmin(jnp.abs(starts - t))]
            return teacher(x_t, t) + slope * x_t + offset

        return denoise

    def predict(params, x_t, t):
        x0 = jax.vmap(student(params))(x_t, t)
        c = schedule.coefficients(make, t, x_t)
        return prediction.target(prediction.v, c, x0, (x_t - c.alpha * x0) / c.sigma)

    x_1 = jax.random.normal(jax.random.key(3), (256, 1))
    expected = jax.jit(lambda: walk(teacher, make, x_1, *times))()
    made = jax.jit(lambda params: walk(student(params), make, x_1, *times[::2]))
    error = lambda params: np.abs(made(params) - expected).max()
    optimizer = optax.adam(optax.linear_schedule(0.02, 0, 200))

    @jax.jit
    def step(params, state, key):
        key_data, key_time, key_noise = jax.random.split(key, 3)
        x0 = MEAN + STD * jax.random.normal(key_data, (64, 1))
        drawn = progressive.steps(jax.random.uniform(key_time, (64,)), times)
        noise = jax.random.split(key_noise, 64)
        ask = lambda params: lambda x_t, t: predict(params, x_t, t)
        mean = lambda params: jnp.mean(
            progressive.loss(noise, ask(params), teacher, x0, *drawn, make, prediction.v)
        )
        updates, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros((4, 2))
    before, state = error(params), optimizer.init(params)
    for i in range(200):
        params, state = step(params, state, jax.random.key(i))
    assert before > 0.05 and error(params) < before / 1000, (before, error(params))


def test_the_loss_without_a_weighting_is_that_of_denoising_with_the_target_as_data():
    """With a teacher that knows the answer, distillation is the plain denoising loss."""
    make, x0 = SCHEDULES['vp'], jax.random.normal(jax.random.key(0), (6, 3))
    t = jnp.linspace(0.2, 0.9, 6)
    predict = lambda x_t, t: 0.4 * x_t
    found = progressive.loss(
        keys(6), predict, lambda x_t, t: x0, x0, t, 0.7 * t, 0.4 * t, make, prediction.eps
    )
    expected = loss.denoising(keys(6), predict, x0, t, make, prediction.eps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
