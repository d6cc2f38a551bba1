import jax
import jax.numpy as jnp
import numpy as np
import pytest
import token_data
from scipy.linalg import expm

from jaxdiff.diffusion import categorical, ordinal, schedule

SIZE = 4
SCHEDULES = {'flow': schedule.flow(), 'cosine': schedule.cosine(), 'vp': schedule.vp()}
CHAINS = {
    'absorbing': categorical.absorbing_chain,
    'uniform': categorical.uniform_chain,
    'ordinal': ordinal.ordinal_chain,
}
STATES = {'absorbing': SIZE + 1, 'uniform': SIZE, 'ordinal': SIZE}


@pytest.fixture(params=SCHEDULES)
def make(request):
    return SCHEDULES[request.param]


@pytest.fixture(params=CHAINS)
def name(request):
    return request.param


def expected_marginal(name, alpha):
    """The matrix Q(0, t) of `SIZE` tokens, written down by hand."""
    if name == 'absorbing':
        to_mask = np.zeros((SIZE + 1, SIZE + 1))
        to_mask[:, SIZE] = 1
        return alpha * np.eye(SIZE + 1) + (1 - alpha) * to_mask
    if name == 'uniform':
        return alpha * np.eye(SIZE) + (1 - alpha) * np.full((SIZE, SIZE), 1 / SIZE)
    walk = np.array([[-1, 1, 0, 0], [1, -2, 1, 0], [0, 1, -2, 1], [0, 0, 1, -1.0]])
    gap = 2 - 2 * np.cos(np.pi / SIZE)  # of a path of SIZE levels
    return expm(-np.log(1e-3 + (1 - 1e-3) * alpha) / gap * walk)


def matrix(chain, s, t):
    return np.asarray(chain.forward(jnp.eye(len(chain.law)), s, t))


def bayes(chain, s, t):
    """q(x_s | x_t, x0) by enumeration of the joint law, [x0, x_t, x_s]."""
    joint = matrix(chain, 0.0, s)[:, :, None] * matrix(chain, s, t)[None]  # [x0, x_s, x_t]
    with np.errstate(invalid='ignore'):
        return np.moveaxis(joint / joint.sum(1, keepdims=True), 1, 2)


@pytest.mark.usefixtures('x64')
def test_the_chains_steps_compose_to_the_marginal(name, make):
    chain = CHAINS[name](make, SIZE)
    times = np.linspace(0, 1, 25) ** 1.5
    product, step = np.eye(STATES[name]), jax.jit(chain.forward)
    for s, t in zip(times[:-1], times[1:]):
        product = product @ np.asarray(step(np.eye(len(product)), s, t))
        np.testing.assert_allclose(
            product, expected_marginal(name, float(make(t)[0])), atol=1e-12, err_msg=f'{t}'
        )
        np.testing.assert_allclose(product.sum(1), 1, atol=1e-12)
    x0 = jnp.arange(SIZE)
    np.testing.assert_allclose(categorical.marginal(chain, x0, 1.0), product[:SIZE], atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_two_maps_are_one_matrix(name, make):
    chain = CHAINS[name](make, SIZE)
    columns = np.asarray(chain.backward(jnp.eye(STATES[name]), 0.3, 0.7))  # row j is Q e_j
    np.testing.assert_allclose(columns.T, matrix(chain, 0.3, 0.7), atol=1e-14)


@pytest.mark.usefixtures('x64')
def test_two_state_chains_are_powers_of_a_matrix():
    """n equal steps: flips under `uniform` and `ordinal`, losses under `absorbing`."""
    n, keep = 60, 0.9

    def geometric(t):  # keeps 0.9 a step
        alpha = keep ** (n * jnp.asarray(t))
        return alpha, jnp.sqrt(1 - alpha**2)

    def to_floor(t):  # the slowest mode of the ordinal process keeps 0.9 a step
        alpha = (keep ** (n * jnp.asarray(t)) - keep**n) / (1 - keep**n)
        return alpha, jnp.sqrt(1 - alpha**2)

    flip = (1 - keep) / 2
    flips = np.array([[1 - flip, flip], [flip, 1 - flip]])
    losses = np.array([[keep, 1 - keep], [0, 1]])
    for chain, step in (
        (categorical.uniform_chain(geometric, 2), flips),
        (ordinal.ordinal_chain(to_floor, 2, alpha_min=keep**n), flips),
        (categorical.absorbing_chain(geometric, 1), losses),
    ):
        for i in (0, 1, 7, 30, n):
            expected = np.linalg.matrix_power(step, i)
            np.testing.assert_allclose(matrix(chain, 0.0, i / n), expected, atol=1e-12)
            np.testing.assert_allclose(matrix(chain, 7 / n, (i + 7) / n), expected, atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_the_posterior_is_bayes_rule(name, make):
    chain, s, t = CHAINS[name](make, SIZE), 0.35, 0.6
    rule = bayes(chain, s, t)
    pairs = [(i, j) for i in range(SIZE) for j in range(STATES[name]) if rule[i, j, 0] >= 0]
    x0, x_t = jnp.array(pairs).T
    assert len(pairs) == (2 * SIZE if name == 'absorbing' else SIZE**2)
    found = categorical.posterior(chain, x_t, jnp.log(jax.nn.one_hot(x0, SIZE)), t, s)
    np.testing.assert_allclose(found, rule[tuple(np.array(pairs).T)], atol=1e-12)


@pytest.mark.usefixtures('x64')
def test_a_true_belief_gives_the_chain_in_reverse(name, make):
    """With π = p(x0 | x_t) equation (58) is p(x_s | x_t), for data of a known law."""
    chain, s, t = CHAINS[name](make, SIZE), 0.35, 0.6
    law = np.array([0.1, 0.2, 0.3, 0.4])
    at_t = law[:, None] * matrix(chain, 0.0, t)[:SIZE]
    reverse = (law @ matrix(chain, 0.0, s)[:SIZE])[:, None] * matrix(chain, s, t)  # [x_s, x_t]
    found = categorical.posterior(chain, jnp.arange(STATES[name]), jnp.log(at_t.T), t, s)
    np.testing.assert_allclose(found, (reverse / reverse.sum(0)).T, atol=1e-12)


@pytest.mark.parametrize('t', [1e-2, 0.4, 1.0])
def test_at_the_datas_end_the_posterior_is_the_belief(name, make, t):
    chain, states = CHAINS[name](make, SIZE), STATES[name]
    belief = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    found = categorical.posterior(
        chain, jnp.arange(states), jnp.broadcast_to(belief, (states, SIZE)), t, 0.0
    )
    expected = np.tile([0.1, 0.2, 0.3, 0.4], (states, 1))
    if name == 'absorbing':  # the mask never comes, and what is not masked stays
        np.testing.assert_array_equal(found[:, SIZE], 0)
        found = found[:, :SIZE]
        if float(make(t)[0]) > 0:
            expected[:SIZE] = np.eye(SIZE)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_at_the_noises_end_the_posterior_is_the_marginal(name):
    """From alpha = 0 nothing is known but the belief."""
    chain = CHAINS[name](schedule.cosine(), SIZE)
    x0, s = jnp.arange(SIZE), 0.5
    x_t = jnp.full(SIZE, SIZE) if name == 'absorbing' else jnp.array([2, 0, 3, 1])
    found = categorical.posterior(chain, x_t, jnp.log(jnp.eye(SIZE)), 1.0, s)
    tolerance = 3e-3 if name == 'ordinal' else 1e-6  # its slowest mode keeps 1e-3
    np.testing.assert_allclose(found, categorical.marginal(chain, x0, s), atol=tolerance)
    prior = categorical.process(chain).prior(jax.random.key(0), (5, 7))
    assert prior.shape == (5, 7) and prior.dtype == jnp.int32
    assert np.all(prior == SIZE) == (name == 'absorbing')


def test_tokens_that_are_not_masked_stay_whatever_the_belief():
    chain = CHAINS['absorbing'](schedule.flow(), SIZE)
    belief = jnp.array([[-jnp.inf, 0.0, 0, 0], [-200.0, 0, 0, 0]])
    found = categorical.posterior(chain, jnp.array([0, 0]), belief, 0.5, 0.2)
    np.testing.assert_array_equal(found, np.eye(SIZE + 1)[[0, 0]])


@pytest.mark.parametrize('logits', [[0.0, 0, 0, 0], [300.0, 0, -300, 0], [-jnp.inf, 0, 0, 0]])
def test_the_posterior_is_a_law_at_all_times_in_single_precision(name, make, logits):
    chain, states = CHAINS[name](make, SIZE), STATES[name]
    belief = jnp.broadcast_to(jnp.array(logits), (states, SIZE))
    posterior = jax.jit(lambda t, s: categorical.posterior(chain, jnp.arange(states), belief, t, s))
    for t, s in [(1.0, 0.999), (1.0, 0.0), (0.5, 0.4999), (1e-3, 5e-4), (1e-5, 1e-6), (1e-7, 0.0)]:
        found = posterior(jnp.float32(t), jnp.float32(s))
        assert np.all(found >= 0), (t, s)
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5, err_msg=f'{t, s}')


def test_times_may_differ_by_example(name):
    chain = CHAINS[name](schedule.flow(), SIZE)
    x_t = jnp.array([[0, 1, 2], [3, 2, 1]])
    belief = jax.random.normal(jax.random.key(0), (2, 3, SIZE))
    t, s = jnp.array([0.8, 0.5]), jnp.array([0.3, 0.4])
    posterior = jax.jit(lambda *x: categorical.posterior(chain, *x))
    each = [posterior(*x) for x in zip(x_t, belief, t, s)]
    np.testing.assert_allclose(posterior(x_t, belief, t, s), each, rtol=1e-5, atol=1e-7)
    marginal = jax.jit(lambda *x: categorical.marginal(chain, *x))
    each = [marginal(*x) for x in zip(x_t, t)]
    np.testing.assert_allclose(marginal(x_t, t), each, rtol=1e-6, atol=1e-7)


def test_the_process_draws_what_its_laws_say(name):
    chain, n, s, t = CHAINS[name](schedule.flow(), SIZE), 200_000, 0.3, 0.7
    process, keys = categorical.process(chain), jax.random.split(jax.random.key(0), 4)
    x0, belief = jnp.full(n, 1, jnp.int32), jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    x_s, changed = process.corrupt(keys[0], x0, s)
    np.testing.assert_array_equal(changed, x_s != x0)
    x_t = process.transition(keys[1], x_s, s, t)
    arrived = SIZE if name == 'absorbing' else 3
    again = process.posterior(
        keys[2], jnp.full(n, arrived), jnp.broadcast_to(belief, (n, SIZE)), t, s
    )
    for x, law in (
        (x_s, matrix(chain, 0.0, s)[1]),
        (x_t, matrix(chain, 0.0, t)[1]),
        (again, categorical.posterior(chain, jnp.array(arrived), belief, t, s)),
        (process.prior(keys[3], (n,)), chain.law),
    ):
        assert x.dtype == jnp.int32
        found = np.bincount(x, minlength=STATES[name]) / n
        token_data.assert_law(found, law, n)


def test_a_bfloat16_belief_is_drawn_from_in_single_precision():
    logits = jnp.zeros((200_000, 2), jnp.bfloat16)
    found = categorical.draw_logits(jax.random.key(0), logits)
    assert abs(found.mean() - 0.5) < 4 * 0.5 / 200_000**0.5
    chain = CHAINS['uniform'](schedule.flow(), 2)
    assert categorical.posterior(chain, found[:3], logits[:3], 0.5, 0.2).dtype == jnp.float32


def test_bad_arguments_are_refused():
    for bad in (0, 2.5):
        with pytest.raises(ValueError, match='size must be a whole number of at least 1'):
            categorical.absorbing(schedule.flow(), bad)
    with pytest.raises(ValueError, match='size must be a whole number of at least 2'):
        categorical.uniform(schedule.flow(), 1)
    with pytest.raises(ValueError, match='alpha must fall from 1 at t = 0 to about 0'):
        categorical.absorbing(schedule.edm(), 5)
    jax.jit(lambda a: categorical.uniform_chain(lambda t: ((1 - t) ** a, t), 2).law)(2.0)  # learned
