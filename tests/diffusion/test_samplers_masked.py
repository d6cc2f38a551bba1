import jax
import jax.numpy as jnp
import numpy as np
import pytest
import token_data
from token_data import JOINT, PRODUCT, SIZE, assert_law, frequencies

from jaxdiff import diffusion
from jaxdiff.diffusion import categorical, grid, samplers, schedule
from jaxdiff.diffusion.samplers import masked

FLOW = schedule.flow()
CHAIN = categorical.absorbing_chain(FLOW, SIZE)
PRIOR = categorical.absorbing(FLOW, SIZE).prior
SAMPLERS = {
    'ancestral': samplers.masked_ancestral,
    'cached': lambda s, k: samplers.masked_ancestral(s, k, cache=True),
    'confidence': samplers.masked_confidence,
    'remask': lambda s, k: samplers.masked_remask(s, k, 0.7),
}


def timeless(x_t, t):
    """The exact denoiser, which does not depend on the time but for rounding."""
    return token_data.denoiser(CHAIN)(x_t, 0.5)


def mixed(steps):
    """The law of `steps` equal steps of `flow`: two tokens share a step with probability 1/steps."""
    return (1 - 1 / steps) * JOINT + PRODUCT / steps


def test_the_error_of_correlated_tokens_falls_as_one_over_the_steps():
    """Tokens revealed in one step are drawn as if independent; else the chain is exact."""
    errors = []
    for steps in (1, 3, 9):
        state, _ = token_data.walk(
            token_data.denoiser(CHAIN),
            samplers.masked_ancestral(FLOW, SIZE),
            PRIOR,
            grid.uniform(steps),
        )
        found = frequencies(state.x)
        assert_law(found, mixed(steps))
        errors.append(np.abs(found - JOINT).max())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]  # 3 times, less the noise of 200,000 pairs


@pytest.mark.slow
def test_the_data_is_reached_within_four_standard_errors():
    state, _ = token_data.walk(
        timeless, samplers.masked_ancestral(FLOW, SIZE), PRIOR, grid.uniform(256)
    )
    assert_law(frequencies(state.x), JOINT)


@pytest.mark.parametrize('name', ['flow', 'cosine'])
def test_tokens_revealed_apart_are_exact_in_any_order(name):
    """MaskGIT's sampler, with noise that decides the order: half of 200 tokens, then the others.

    Pairs whose tokens come in one step are drawn as if independent, the others have no error.
    """
    make = {
        'flow': FLOW,
        'cosine': lambda t: (1 - jnp.sin(jnp.pi / 2 * t), jnp.sin(jnp.pi / 2 * t)),
    }[name]
    times = jnp.array([1.0, 0.5 if name == 'flow' else 1 / 3, 0.0])  # half are masked
    state, frames = token_data.walk(
        timeless,
        samplers.masked_confidence(make, SIZE, temperature=1e6),
        lambda key, shape: jnp.full(shape, SIZE, jnp.int32),
        times,
        lambda state: state.x,
    )
    first = np.asarray(frames[0]).reshape(-1, 2) != SIZE
    assert first.mean() == 0.5
    apart = first.sum(1) == 1
    pairs = np.asarray(state.x).reshape(-1, 2)
    assert_law(frequencies(pairs[apart]), JOINT, apart.sum())
    assert_law(frequencies(pairs[~apart]), PRODUCT, (~apart).sum())


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('eta', [0.0, 0.3, 1.0])
def test_remasking_keeps_the_marginals(eta):
    """Equation (63): what is unmasked at s comes from both, and has probability alpha_s."""
    for make in (FLOW, schedule.cosine(), schedule.vp()):
        for t, s in [(1.0, 0.9), (0.7, 0.69), (0.6, 0.1), (0.5, 0.0), (0.01, 0.005)]:
            (alpha_t, _), (alpha_s, _) = make(t), make(s)
            reveal, remask = masked.rates(make, t, s, eta)
            assert 0 <= reveal <= 1 and 0 <= remask <= 1
            assert float(reveal * (1 - alpha_t) + (1 - remask) * alpha_t) == pytest.approx(
                float(alpha_s), abs=1e-14
            )
            assert (remask > 0) == (eta > 0 and s > 0)
            assert reveal == 1 or s > 0


def test_remasking_keeps_the_marginals_of_its_walk():
    """For independent tokens, at every time: the mask with probability t, else the data's law."""
    denoise = token_data.denoiser(CHAIN, PRODUCT)
    steps, law = 4, PRODUCT.sum(1)
    state, frames = token_data.walk(
        denoise,
        samplers.masked_remask(FLOW, SIZE, 1.0),
        PRIOR,
        grid.uniform(steps),
        lambda state: state.x[..., 0],
    )
    for i, frame in enumerate(frames):
        s = 1 - (i + 1) / steps
        found = np.bincount(np.ravel(frame), minlength=SIZE + 1) / token_data.PAIRS
        assert_law(found, np.append((1 - s) * law, s))
    assert_law(frequencies(state.x), PRODUCT)
    before, after = np.asarray(frames[:-2]), np.asarray(frames[1:-1])
    assert np.mean((before != SIZE) & (after == SIZE)) > 0.05  # it did mask some again


def test_remasking_by_nothing_is_ancestral_sampling():
    keys, x_1 = jax.random.split(jax.random.key(0), 50), jnp.full((50, 2), SIZE)
    walk = lambda sampler: diffusion.sample(keys, timeless, sampler, x_1, grid.uniform(6))
    one = walk(samplers.masked_remask(FLOW, SIZE, 0.0))
    np.testing.assert_array_equal(one, walk(samplers.masked_ancestral(FLOW, SIZE)))


@pytest.mark.parametrize('eta', [0.0, 0.5])
def test_the_cache_changes_no_sample_and_saves_evaluations(eta):
    """Two tokens in a batch of one change in at most two of 30 steps, without remasking."""
    calls = []

    def counted(x_t, t):
        jax.debug.callback(lambda: calls.append(1))
        return timeless(x_t, t)

    x_1, times, states = jnp.full((1, 2), SIZE), grid.uniform(30), {}
    for cache in (False, True):
        sampler = samplers.masked_remask(FLOW, SIZE, eta, cache)
        walk = jax.jit(lambda keys: diffusion.run(keys, counted, sampler, x_1, times)[0])
        for seed in range(4):
            calls.clear()
            states[cache, seed] = walk(jax.random.split(jax.random.key(seed), 1))
            jax.effects_barrier()
            assert states[cache, seed].nfe == len(calls)
    for seed in range(4):
        asked, cached = states[False, seed], states[True, seed]
        np.testing.assert_array_equal(asked.x, cached.x)
        assert asked.nfe == 30
        assert cached.nfe <= 3 if eta == 0 else cached.nfe < 30


def test_confidence_reveals_the_surest_first():
    """Without noise: those with the largest probability of what was drawn, as many as alpha says."""
    sure = jnp.array([0.9, 0.6, 0.99, 0.7, 0.8, 0.5, 0.95, 0.65])

    def denoise(x_t, t):  # one token is sure, the other never comes
        other = jnp.full_like(sure, -jnp.inf)
        spread = jnp.log(jnp.stack([sure, 1 - sure], -1))
        certain = jnp.stack([spread[:, 0], other, other], -1)
        padded = certain.at[:, 2].set(spread[:, 1])
        return jnp.broadcast_to(padded, (*x_t.shape, 3))

    keys, x_1 = jax.random.split(jax.random.key(0), 64), jnp.full((64, 8), 3)
    sampler = samplers.masked_confidence(FLOW, 3, temperature=0.0)
    times = grid.uniform(4)
    _, frames = diffusion.run(keys, denoise, sampler, x_1, times, lambda state: state.x)
    for i, frame in enumerate(np.asarray(frames)):
        np.testing.assert_array_equal((frame == 3).sum(1), 8 - 2 * (i + 1))
        assert not np.any(frame == 1)  # of probability zero
    first = np.asarray(frames[0])
    drawn = np.where(first == 0, sure, np.where(first == 2, 1 - sure, np.nan))
    order = np.argsort(-np.asarray(sure))[:2]
    likely = np.all(first[:, order] == 0, 1)
    assert likely.mean() > 0.8  # both surest tokens are drawn as they are sure, mostly
    assert np.all(np.nanmin(drawn, 1) >= 0.5)  # a drawn token less likely than all others waits


def test_confidence_keeps_what_is_given():
    """Of tokens already known at the start none counts, and none changes."""
    x_1 = jnp.array([[3, 3, 1, 3, 3, 0], [3, 1, 1, 1, 3, 0]])
    denoise = lambda x, t: jnp.zeros((*x.shape, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    _, frames = diffusion.run(
        keys,
        denoise,
        samplers.masked_confidence(FLOW, 3),
        x_1,
        jnp.array([0.8, 0.4, 0.0]),
        lambda state: state.x,
    )
    np.testing.assert_array_equal((frames[0] == 3).sum(1), [2, 1])
    np.testing.assert_array_equal((frames[1] == 3).sum(1), [0, 0])
    np.testing.assert_array_equal(frames[1][x_1 != 3], x_1[x_1 != 3])


@pytest.mark.parametrize('name', SAMPLERS)
def test_conformance(name):
    """What every sampler of masked tokens owes: see the assertions."""
    sampler, traces = SAMPLERS[name](schedule.cosine(), SIZE), []
    denoise = categorical.absorbing_chain(schedule.cosine(), SIZE)
    denoise = token_data.denoiser(denoise)

    @jax.jit
    def walk(keys, x_1):
        traces.append(1)
        return diffusion.run(keys, denoise, sampler, x_1, grid.uniform(7), lambda state: state.x)

    keys, x_1 = jax.random.split(jax.random.key(7), 6), jnp.full((6, 4, 2), SIZE, jnp.int32)
    state, frames = walk(keys, x_1)
    assert state.x.shape == x_1.shape and state.x.dtype == x_1.dtype
    assert frames.shape == (7, *x_1.shape)
    assert np.all((state.x >= 0) & (state.x < SIZE))  # all are unmasked
    if name != 'remask':  # and none that was changes
        for before, after in zip(frames[:-1], frames[1:]):
            np.testing.assert_array_equal(after[before != SIZE], before[before != SIZE])
    assert state.nfe == 7 if name != 'cached' else state.nfe <= 7
    np.testing.assert_array_equal(walk(keys, x_1)[0].x, state.x)  # its keys decide
    assert np.any(walk(jax.random.split(jax.random.key(8), 6), x_1)[0].x != state.x)
    alone = diffusion.sample(keys[4:5], denoise, sampler, x_1[4:5], grid.uniform(7))
    np.testing.assert_array_equal(alone[0], state.x[4])  # and not its neighbours
    np.testing.assert_array_equal(  # no steps: as it came
        diffusion.sample(keys, denoise, sampler, x_1, grid.uniform(0)), x_1
    )
    assert len(traces) == 1


@pytest.mark.parametrize('name', SAMPLERS)
def test_all_are_unmasked_even_where_alpha_rounds_to_one(name):
    x_1, keys = jnp.full((3, 5), 4), jax.random.split(jax.random.key(0), 3)
    times = jnp.array([1e-4, 0.0])
    assert schedule.cosine()(times[0])[0] == 1
    denoise = lambda x, t: jnp.zeros((*x.shape, 4))
    x = diffusion.sample(keys, denoise, SAMPLERS[name](schedule.cosine(), 4), x_1, times)
    assert np.all(x < 4)


def test_bad_arguments_are_refused():
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match='eta must lie between 0 and 1'):
            samplers.masked_remask(FLOW, 4, eta)
    with pytest.raises(ValueError, match='temperature must be 0 or more'):
        samplers.masked_confidence(FLOW, 4, temperature=-1.0)
    with pytest.raises(ValueError, match='size must be a whole number'):
        samplers.masked_ancestral(FLOW, 0)
    with pytest.raises(ValueError, match='alpha must fall'):
        samplers.masked_ancestral(schedule.ve(), 4)
