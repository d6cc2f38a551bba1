import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import diffusion
from jaxdiff.diffusion import denoiser, exact, grid, guidance, prediction, samplers, schedule

COSINE = schedule.cosine()
MEANS, STDS, WEIGHTS = np.array([[-1.0, 0.3], [0.8, 0.9]]), np.array([0.5, 0.4]), [0.6, 0.4]
X = np.random.default_rng(1).standard_normal((6, 2))


def conditional(x, t):
    """The exact denoiser of the mixture's first component."""
    return exact.mixture(COSINE, [1.0], MEANS[:1], STDS[:1])(x, t)


def unconditional(x, t):
    return exact.mixture(COSINE, WEIGHTS, MEANS, STDS)(x, t)


def keys(n=6):
    return jax.random.split(jax.random.key(0), n)


def test_the_scale_runs_from_unconditional_through_conditional_and_beyond():
    strong, weak = (lambda x, t: x + 2), (lambda x, t: x)
    for scale in (0, 1, 3):
        for guide in (guidance.classifier_free, guidance.autoguidance):
            guided = guide(strong, weak, scale)
            np.testing.assert_allclose(guided(jnp.arange(3.0), 0.5), jnp.arange(3.0) + 2 * scale)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('p', [prediction.eps, prediction.v], ids=lambda p: p.name)
def test_guiding_x0_is_guiding_any_prediction(p):
    c, t, scale = schedule.coefficients(COSINE, 0.7, X), 0.7, 3.0

    def predicted(denoise):
        x0 = denoise(X, t)
        return prediction.target(p, c, x0, (X - c.alpha * x0) / c.sigma)

    y = predicted(unconditional) + scale * (predicted(conditional) - predicted(unconditional))
    x0, _ = prediction.to_x0_eps(p, c, X, y)
    guided = guidance.classifier_free(conditional, unconditional, scale)
    np.testing.assert_allclose(guided(X, t), x0, atol=1e-12)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('weights', [(1.0, 1.0), (0.6, -0.5), (2.0, 0.0)], ids=str)
def test_several_conditions_are_the_product_of_their_densities(weights):
    """q(x_t) Π (q_i(x_t) / q(x_t))^w_i of Gaussians is one: its precision and mean in closed form."""
    means, stds = np.array([[0.0, 0.0], [-1.0, 0.3], [0.8, 0.9]]), np.array([1.0, 0.5, 0.4])
    none, *some = (
        lambda x, t, m=m, s=s: exact.mixture(COSINE, [1.0], m[None], s[None])(x, t)
        for m, s in zip(means, stds)
    )
    composed = guidance.composed(some, none, weights)
    for t in (0.05, 0.5, 0.9):
        alpha, sigma = COSINE(t)
        precisions = 1 / (alpha**2 * stds**2 + sigma**2)
        shares = np.array([1 - sum(weights), *weights]) * precisions
        centre = alpha * shares @ means / shares.sum()
        score = -shares.sum() * (X - centre)
        np.testing.assert_allclose(composed(X, t), (X + sigma**2 * score) / alpha, atol=1e-10)


def test_one_condition_is_classifier_free_guidance():
    t = 0.5
    for scale in (0.0, 1.0, 2.5):
        one = guidance.composed([conditional], unconditional, [scale])
        two = guidance.composed([conditional, unconditional], unconditional, [scale, 7.0])
        expected = guidance.classifier_free(conditional, unconditional, scale)(X, t)
        np.testing.assert_allclose(one(X, t), expected, atol=1e-5)
        np.testing.assert_allclose(two(X, t), expected, atol=1e-5)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('t', [0.05, 0.5, 0.99])
def test_the_true_classifier_turns_the_unconditional_model_into_the_conditional(t):
    """Bayes: ∇ log q(x_t | y) = ∇ log q(x_t) + ∇ log p(y | x_t)."""

    def log_probability(x, t):
        alpha, sigma = COSINE(t)
        variance = alpha**2 * STDS**2 + sigma**2
        squares = jnp.sum((x[:, None] - alpha * MEANS) ** 2, -1)
        density = jnp.log(jnp.array(WEIGHTS)) - jnp.log(variance) - squares / (2 * variance)
        return jax.nn.log_softmax(density)[:, 0]

    guided = guidance.classifier(unconditional, log_probability, COSINE)
    np.testing.assert_allclose(guided(X, t), conditional(X, t), atol=1e-10)
    twice = guidance.classifier(unconditional, log_probability, COSINE, 2.0)  # linear in scale
    expected = guidance.classifier_free(conditional, unconditional, 2.0)
    np.testing.assert_allclose(twice(X, t), expected(X, t), atol=1e-10)


def test_outside_its_interval_guidance_costs_nothing():
    asked = []

    def null(x, t):
        jax.debug.callback(lambda: asked.append(1))
        return unconditional(x, t)

    guided = guidance.classifier_free(conditional, null, 3.0)
    some = jax.jit(guidance.limited(guided, conditional, 0.25, 0.75))
    for t, inside in [(0.25, False), (0.3, True), (0.75, True), (0.9, False)]:
        asked.clear()
        found = some(X, t)
        jax.effects_barrier()
        assert len(asked) == inside
        expected = (guided if inside else conditional)(X, t)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_interval_is_chosen_per_example_where_times_differ():
    some = guidance.limited(lambda x, t: x + 1, lambda x, t: x, 0.2, 0.6)
    found = some(jnp.zeros((3, 2)), jnp.array([0.2, 0.6, 0.7]))
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [0, 0]])


def test_rescaling_restores_the_conditional_deviation_of_each_example():
    strong = lambda x, t: x
    guided = guidance.classifier_free(strong, lambda x, t: -x + 0.1, 4.0)
    x = jax.random.normal(jax.random.key(0), (3, 5, 7)) * jnp.array([1.0, 2, 3])[:, None, None]
    whole = guidance.rescaled(guided, strong, 1.0)(x, 0.5)
    np.testing.assert_allclose(jnp.std(whole, (1, 2)), jnp.std(x, (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        guidance.rescaled(guided, strong, 0.7)(x, 0.5),
        0.7 * whole + 0.3 * guided(x, 0.5),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(guidance.rescaled(guided, strong, 0.0)(x, 0.5), guided(x, 0.5))
    flat = jnp.full((2, 64), 0.3)  # without any contrast rounding is not taken for it
    np.testing.assert_allclose(guidance.rescaled(strong, strong, 0.7)(flat, 0.5), flat)


def test_what_two_transforms_ask_is_computed_once():
    weights = jax.random.normal(jax.random.key(0), (2, 2))
    strong, weak = (lambda x, t: x @ weights), (lambda x, t: x @ (2 * weights))
    guided = guidance.rescaled(guidance.classifier_free(strong, weak, 3.0), strong, 0.7)
    compiled = jax.jit(guided).lower(X, 0.5).compile().as_text()
    assert compiled.count(' dot(') + compiled.count('__onednn$matmul') == 2


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make', [COSINE, schedule.flow(), schedule.ve()], ids=['vp', 'flow', 've'])
def test_cfgpp_on_ddim_is_guidance_at_a_scale_of_its_own(make):
    strong = exact.mixture(make, [1.0], MEANS[:1], STDS[:1])
    weak = exact.mixture(make, WEIGHTS, MEANS, STDS)
    t, s, scale = 0.7, 0.4, 0.6
    plus = guidance.cfgpp(samplers.ddim(make), make, weak, scale)
    state, _ = diffusion.run(keys(), strong, plus, jnp.asarray(X), jnp.array([t, s]))
    own = -scale / np.expm1((schedule.logsnr(make, t) - schedule.logsnr(make, s)) / 2)
    guided = guidance.classifier_free(strong, weak, own)
    expected = diffusion.sample(
        keys(), guided, samplers.ddim(make), jnp.asarray(X), jnp.array([t, s])
    )
    np.testing.assert_allclose(state.x, expected, atol=1e-10)
    # The paper's own words: the guided belief, noised again by the unconditional noise.
    (alpha_t, sigma_t), (alpha_s, sigma_s) = make(t), make(s)
    u = weak(X, t)
    paper = alpha_s * (u + scale * (strong(X, t) - u)) + sigma_s * (X - alpha_t * u) / sigma_t
    np.testing.assert_allclose(state.x, paper, atol=1e-10)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', ['ddim', 'ddpm', 'heun', 'dpmpp_2m', 'dpmpp_3m', 'unipc', 'deis'])
def test_cfgpp_without_a_push_is_the_unconditional_sampler(name):
    sampler, times = getattr(samplers, name)(COSINE), grid.uniform(6, 0.95)
    asked = []

    def counted(denoise):
        def count(x, t):
            jax.debug.callback(lambda: asked.append(1))
            return denoise(x, t)

        return count

    plus = guidance.cfgpp(sampler, COSINE, counted(unconditional), 0.0)
    found, _ = diffusion.run(keys(), counted(conditional), plus, jnp.asarray(X), times)
    jax.effects_barrier()
    assert found.nfe == len(asked)
    expected, _ = diffusion.run(keys(), unconditional, sampler, jnp.asarray(X), times)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_cfgpp_pushes_alike_whichever_solver_steps():
    """In the limit of many steps, in which all solvers are one; twice the steps, twice the push."""
    ends = []
    for name, steps in [('ddim', 80), ('heun', 80), ('dpmpp_2m', 80), ('deis', 80), ('unipc', 80)]:
        sampler = getattr(samplers, name)(COSINE)
        plus = guidance.cfgpp(sampler, COSINE, unconditional, 0.05)
        times = grid.uniform(steps, 0.9, 0.05)
        ends.append(diffusion.sample(keys(), conditional, plus, jnp.asarray(X), times))
    alone = diffusion.sample(keys(), unconditional, samplers.heun(COSINE), jnp.asarray(X), times)
    assert np.abs(ends[0] - alone).mean() > 0.3  # it is a push
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], atol=0.05)


def test_a_learned_variance_passes_through_all_of_them():
    nu = jnp.full((2, 8), 0.3)
    strong = lambda x, t: denoiser.Learned(2 * x, nu)
    weak = lambda x, t: denoiser.Learned(x, 0 * nu)
    guided = guidance.classifier_free(guidance.composed([strong, weak], weak, [1, 1]), weak, 3.0)
    guided = guidance.limited(guidance.rescaled(guided, strong, 0.5), strong, 0.1, 0.9)
    guided = guidance.classifier(guided, lambda x, t: jnp.sum(x, 1), COSINE, 0.1)
    guided = denoiser.dynamic_threshold(guided)
    for t in (0.5, jnp.array([0.5, 0.95])):
        belief = guided(jnp.ones((2, 8)), t)
        np.testing.assert_array_equal(belief.nu, nu)
        assert belief.x0.shape == (2, 8)


@pytest.mark.parametrize('name', ['ddim', 'heun', 'dpmpp_2m', 'unipc'])
def test_all_compose_with_each_other_and_with_samplers(name):
    guided = guidance.classifier_free(conditional, unconditional, 2.0)
    guided = guidance.rescaled(guided, conditional, 0.7)
    guided = guidance.autoguidance(guided, gaussian_data.denoiser(COSINE), 1.5)
    guided = guidance.limited(guided, conditional, 0.1, 0.8)
    guided = guidance.classifier(guided, lambda x, t: -jnp.sum(x**2, 1), COSINE, 0.1)
    guided = denoiser.dynamic_threshold(guided, 95)
    sampler = guidance.cfgpp(getattr(samplers, name)(COSINE), COSINE, unconditional, 0.5)
    walk = jax.jit(lambda x: diffusion.sample(keys(), guided, sampler, x, grid.uniform(8, 0.95)))
    x = walk(jnp.asarray(X))
    assert x.shape == X.shape and np.all(np.isfinite(x))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='0 ≤ low ≤ high ≤ 1'):
        guidance.limited(conditional, unconditional, 0.5, 0.2)
    with pytest.raises(ValueError, match='share must lie'):
        guidance.rescaled(conditional, unconditional, 1.5)
    with pytest.raises(ValueError, match='CFG'):
        guidance.cfgpp(samplers.ddim(COSINE), COSINE, unconditional, 7.5)
    with pytest.raises(ValueError, match='as many weights are needed, got 2 conditions'):
        guidance.composed([conditional, conditional], unconditional, [1.0])
