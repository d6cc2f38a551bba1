import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import token_data
from token_data import JOINT, OUTCOMES, PRODUCT, SIZE

from jaxdiff.diffusion import (
    categorical,
    grid,
    likelihood,
    ordinal,
    schedule,
    times,
    token_bound,
)

FLOW = schedule.flow()
CHAINS = {
    'absorbing': categorical.absorbing_chain,
    'uniform': categorical.uniform_chain,
    'ordinal': ordinal.ordinal_chain,
}
NLL = {'joint': -np.log(JOINT).ravel(), 'product': -np.log(PRODUCT).ravel()}
LAWS = {'joint': JOINT, 'product': PRODUCT}


def repeated(count):
    """Each of the nine pairs `count` times, with keys."""
    x0 = jnp.repeat(jnp.asarray(OUTCOMES, jnp.int32), count, 0)
    return jax.random.split(jax.random.key(0), len(x0)), x0


def assert_means(nats, expected, extra=0.0):
    """The nine means are as expected to four standard errors."""
    nats = np.asarray(nats).reshape(9, -1)
    errors = nats.std(1, ddof=1) / nats.shape[1] ** 0.5
    assert np.all(errors < 0.03 * expected)  # so that it says something
    np.testing.assert_array_less(np.abs(nats.mean(1) - expected), 4 * errors + extra + 1e-5)


def enumerated(chain, joint, *counts):
    """Equation (64) of each of the nine pairs, every x_t weighed by its probability: [counts, 9]."""
    states = len(chain.law)
    seen = np.stack(np.meshgrid(*[np.arange(states)] * 2, indexing='ij'), -1).reshape(-1, 2)
    x0 = jnp.repeat(jnp.asarray(OUTCOMES), len(seen), 0)
    x_t = jnp.tile(jnp.asarray(seen), (9, 1))
    exact = token_data.denoiser(chain, joint)
    denoise = lambda x, t: jnp.nan_to_num(exact(x, t), nan=0.0)  # pairs that can't occur

    @jax.jit
    def term(t, s):
        q = categorical.marginal(chain, jnp.asarray(OUTCOMES), t)  # [9, 2, states]
        weight = (q[:, 0, :, None] * q[:, 1, None]).ravel()
        kl = token_bound.step_kl(denoise, chain, x0, x_t, t, s)
        return jnp.where(weight > 0, weight * kl, 0).reshape(9, -1).sum(1)

    last = np.asarray(categorical.marginal(chain, jnp.asarray(OUTCOMES), 1.0))
    law = np.broadcast_to(chain.law, last.shape)
    ratio = np.log(np.where(last > 0, last, 1) / np.where(last > 0, law, 1))
    prior = (last * ratio).sum((1, 2))
    walks = [np.linspace(1, 0, steps + 1) for steps in counts]
    return np.stack([prior + sum(map(term, walk[:-1], walk[1:])) for walk in walks])


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', CHAINS)
def test_of_independent_tokens_it_is_the_likelihood_at_any_number_of_steps(name):
    """The exact reverse chain loses nothing but the prior's mismatch."""
    gap = enumerated(CHAINS[name](FLOW, SIZE), PRODUCT, 1, 3) - NLL['product']
    mismatch = 2 * (SIZE - 1) * 1e-3**2 if name == 'ordinal' else 0  # equation (62), two tokens
    np.testing.assert_allclose(gap, 0, atol=mismatch + 1e-12)
    assert np.all(gap @ PRODUCT.ravel() > -1e-12)  # a bound in the mean over the data


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', CHAINS)
def test_of_correlated_tokens_it_tightens_with_steps(name):
    """It is above the entropy in the mean, and reaches it as 1 / steps, up to the prior's mismatch."""
    chain, law = CHAINS[name](FLOW, SIZE), JOINT.ravel()
    gaps = (enumerated(chain, JOINT, 1, 16, 32, 64, 128) - NLL['joint']) @ law
    assert np.all(np.diff(gaps) < 0) and gaps[-1] > 0
    mutual = np.sum(JOINT * np.log(JOINT / PRODUCT))
    if name != 'ordinal':  # one step draws tokens from their own laws
        assert gaps[0] == pytest.approx(mutual, rel=1e-9)
    assert gaps[-1] < 0.05 * mutual
    slopes = np.log2(np.divide(gaps[1:-1], gaps[2:]))
    assert np.all(slopes > 0.8), slopes


@pytest.mark.usefixtures('x64')
def test_of_masked_tokens_it_has_a_closed_form():
    """Two tokens are revealed in one step with probability 1 / steps, and then as if independent."""
    found = enumerated(CHAINS['absorbing'](FLOW, SIZE), JOINT, 1, 2, 10)
    for steps, nats in zip((1, 2, 10), found):
        expected = (1 - 1 / steps) * NLL['joint'] + NLL['product'] / steps
        np.testing.assert_allclose(nats, expected, atol=1e-12)


@pytest.mark.parametrize('law', LAWS)
@pytest.mark.parametrize('name', ['flow', 'cosine'])
def test_the_masked_cross_entropy_is_the_likelihood(name, law):
    """With the exact denoiser, correlated tokens or not, and for any schedule."""
    make = {'flow': FLOW, 'cosine': schedule.cosine()}[name]
    denoise = token_data.denoiser(CHAINS['absorbing'](make, SIZE), LAWS[law])
    keys, x0 = repeated(20_000)
    u = times.low_discrepancy(jax.random.key(1), jnp.arange(len(x0)), len(x0))
    loss = jax.jit(
        lambda keys, t: token_bound.masked_cross_entropy(keys, denoise, x0, t, make, SIZE)
    )
    nats = loss(keys, jax.random.permutation(jax.random.key(2), u))
    assert nats.shape == (len(x0),)
    assert_means(nats, NLL[law])


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('t', [1e-3, 0.3, 1.0])
def test_the_masked_cross_entropy_at_one_time(t):
    """A token is masked with probability t and then weighs 1 / t times its entropy."""
    belief = jnp.log(jnp.array([0.2, 0.3, 0.5]))
    keys = jax.random.split(jax.random.key(0), 100)
    x0 = jnp.tile(jnp.array([[0, 1, 2, 2]]), (100, 50))
    predict = lambda x, t: jnp.broadcast_to(belief, (*x.shape, 3))
    loss = lambda keys, t: token_bound.masked_cross_entropy(keys, predict, x0, t, FLOW, 3)
    nats = jax.jit(loss)(keys, jnp.full(100, t))
    expected, square = (np.sum(np.log([0.2, 0.3, 0.5, 0.5]) ** k) * (-1) ** k * 50 for k in (1, 2))
    error = np.sqrt(square * (1 - t) / t / 100)
    assert nats.mean() == pytest.approx(expected, abs=4 * error + 1e-9)
    if t == 1:
        np.testing.assert_allclose(nats, expected)


@pytest.mark.parametrize('random', [False, True], ids=['all', 'one'])
@pytest.mark.parametrize('name', CHAINS)
def test_drawn_it_is_what_it_is_enumerated(name, random):
    """The parts in nats, by draws of x_t and, with `u`, of the step."""
    steps = 5
    keys, x0 = repeated(8000)
    chain = CHAINS[name](FLOW, SIZE)
    u = jax.random.uniform(jax.random.key(3), (len(x0),)) if random else None
    evaluate = functools.partial(token_bound.discrete_bound, denoise=token_data.denoiser(chain))
    bound = jax.jit(
        lambda keys: evaluate(keys, chain=chain, x0=x0, times=grid.uniform(steps), u=u)
    )(keys)
    with jax.enable_x64(True):
        chain = CHAINS[name](FLOW, SIZE)
        expected = enumerated(chain, JOINT, steps)[0]
        q = np.asarray(categorical.marginal(chain, jnp.asarray(OUTCOMES), 1.0))
    assert_means(bound.total, expected)
    assert np.all(bound.diffusion > -1e-5) and np.all(bound.reconstruction >= 0)
    assert np.all(bound.diffusion.reshape(9, -1).mean(1) > 0.01)
    q, law = q.reshape(9, -1), np.tile(chain.law, 2)
    prior = np.sum(
        np.where(q > 0, q * np.log(np.where(q > 0, q, 1) / np.where(q > 0, law, 1)), 0), 1
    )
    np.testing.assert_allclose(bound.prior, np.repeat(prior, 8000), atol=1e-6)


def test_in_bits_per_token_it_has_a_standard_error():
    """The mean over data drawn from their law is the entropy, to the error that is stated."""
    n = 20_000
    index = jax.random.categorical(jax.random.key(5), jnp.log(PRODUCT.ravel()), shape=(n,))
    x0, keys = jnp.asarray(OUTCOMES)[index], jax.random.split(jax.random.key(6), n)
    chain = CHAINS['uniform'](FLOW, SIZE)
    denoise = token_data.denoiser(chain, PRODUCT)
    bound = jax.jit(lambda k: token_bound.discrete_bound(k, denoise, chain, x0, grid.uniform(4)))(
        keys
    )
    mean, error = likelihood.bits_per_dim(bound.total, x0.shape)
    entropy = PRODUCT.ravel() @ NLL['product'] / np.log(2) / 2
    assert 0 < error < 0.02
    assert abs(mean - entropy) < 4 * error


def test_a_prior_that_lacks_the_data_costs_without_end():
    """Under `absorbing` and alpha(1) > 0 some tokens are left that the prior never draws."""
    keys, x0 = repeated(1)
    silent = lambda x, t: jnp.zeros((*x.shape, SIZE))

    def prior(make):
        chain = CHAINS['absorbing'](make, SIZE)
        return token_bound.discrete_bound(keys, silent, chain, x0, jnp.array([1.0, 0.0])).prior

    assert np.all(jax.jit(lambda: prior(schedule.vp()))() == np.inf)
    assert np.all(jax.jit(lambda: prior(schedule.zero_terminal_snr(schedule.vp())))() == 0)


@pytest.mark.parametrize('name', [*CHAINS, 'cross-entropy'])
def test_gradients_are_finite(name):
    """Those of the losses in the logits, at all times, the ends among them."""
    keys, x0 = repeated(4)
    t = jnp.linspace(0, 1, len(x0))
    x_t = jnp.where(jax.random.uniform(keys[0], x0.shape) < t[:, None], SIZE - 1, x0)

    def loss(logits):
        predict = lambda x, t: jnp.broadcast_to(logits, (*x.shape, SIZE))
        if name == 'cross-entropy':
            nats = token_bound.masked_cross_entropy(keys, predict, x0, t, schedule.cosine(), SIZE)
        else:
            chain = CHAINS[name](schedule.cosine(), SIZE)
            masks = jnp.where(x_t == x0, x_t, SIZE) if name == 'absorbing' else x_t
            nats = token_bound.step_kl(predict, chain, x0, masks, t, t * 0.8)
        return nats.sum()

    slope = jax.jit(jax.grad(loss))(jnp.array([0.1, -2.0, 40.0]))
    assert np.all(np.isfinite(slope)) and np.any(slope != 0)


def test_bad_arguments_are_refused():
    keys, x0 = repeated(1)
    with pytest.raises(ValueError, match='times must be a vector of two or more'):
        token_bound.discrete_bound(keys, None, CHAINS['uniform'](FLOW, SIZE), x0, jnp.ones(1))
