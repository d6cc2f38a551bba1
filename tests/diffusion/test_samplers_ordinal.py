import gaussian_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import token_data
from token_data import JOINT, OUTCOMES, PRODUCT, SIZE, assert_law, frequencies

from jaxdiff import diffusion
from jaxdiff.diffusion import categorical, gaussian, grid, ordinal, samplers, schedule

FLOW = schedule.flow()
CHAINS = {
    'ordinal': ordinal.ordinal_chain,
    'uniform': categorical.uniform_chain,
    'absorbing': categorical.absorbing_chain,
}
SAMPLERS = {
    'ordinal': samplers.ordinal_ancestral,
    'uniform': samplers.uniform_ancestral,
    'absorbing': lambda s, size: samplers.ancestral(categorical.absorbing(s, size)),
}


def enumerated(chain, joint, *counts):
    """The laws that factorised reverse steps reach, by the matrix of all pairs: [counts, 3, 3]."""
    states = len(chain.law)
    pairs = np.stack(np.meshgrid(*[np.arange(states)] * 2, indexing='ij'), -1).reshape(-1, 2)
    denoise = token_data.denoiser(chain, joint)

    @jax.jit
    def step(law, t, s):
        belief = jnp.nan_to_num(denoise(pairs, t), nan=0.0)  # pairs that can't occur
        each = categorical.posterior(chain, pairs, belief, t, s)
        both = each[:, 0, :, None] * each[:, 1, None]  # tokens are drawn on their own
        return law @ both.reshape(len(pairs), -1)

    laws = []
    for steps in counts:
        law = np.outer(chain.law, chain.law).ravel()
        for i in range(steps, 0, -1):
            law = step(law, i / steps, (i - 1) / steps)
        laws.append(np.asarray(law).reshape(states, states)[:SIZE, :SIZE])
        assert laws[-1].sum() == pytest.approx(1, abs=1e-9)  # no mask is left
    return np.stack(laws)


@pytest.mark.parametrize('name', ['ordinal', 'uniform'])
def test_independent_tokens_are_reached_in_few_steps(name):
    """The reverse chain is exact at any number of steps but for the prior's mismatch, below 4e-6 nats."""
    chain = CHAINS[name](FLOW, SIZE)
    state, _ = token_data.walk(
        token_data.denoiser(chain, PRODUCT),
        SAMPLERS[name](FLOW, SIZE),
        categorical.process(chain).prior,
        grid.uniform(3),
    )
    assert_law(frequencies(state.x), PRODUCT)


@pytest.mark.parametrize('name', ['ordinal', 'uniform'])
def test_correlated_tokens_follow_the_enumerated_chain(name):
    chain = CHAINS[name](FLOW, SIZE)
    state, _ = token_data.walk(
        token_data.denoiser(chain),
        SAMPLERS[name](FLOW, SIZE),
        categorical.process(chain).prior,
        grid.uniform(4),
    )
    with jax.enable_x64(True):
        (expected,) = enumerated(CHAINS[name](FLOW, SIZE), JOINT, 4)
    assert_law(frequencies(state.x), expected)
    assert np.abs(expected - JOINT).max() > 0.01  # and that is not yet the data


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', CHAINS)
def test_the_enumerated_chain_converges_to_the_data_at_first_order(name):
    chain = CHAINS[name](FLOW, SIZE)
    errors = np.abs(enumerated(chain, JOINT, 64, 128, 256, 512) - JOINT).max((1, 2))
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(slopes > 0.9), (errors, slopes)
    assert errors[-1] < 1e-3


@pytest.mark.usefixtures('x64')
def test_masked_tokens_have_the_law_in_closed_form():
    found = enumerated(categorical.absorbing_chain(FLOW, SIZE), JOINT, 1, 4, 16)
    for steps, law in zip((1, 4, 16), found):
        np.testing.assert_allclose(law, (1 - 1 / steps) * JOINT + PRODUCT / steps, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ordinal', 'uniform'])
def test_the_data_is_reached_within_four_standard_errors(name):
    """At 512 steps, whose own error is at most a standard error, 1e-3: enumerated above."""
    chain = CHAINS[name](FLOW, SIZE)
    state, _ = token_data.walk(
        token_data.denoiser(chain),
        SAMPLERS[name](FLOW, SIZE),
        categorical.process(chain).prior,
        grid.uniform(512),
    )
    assert_law(frequencies(state.x), JOINT)


def test_it_is_ddpm_for_a_gaussian_process():
    make, x_1 = schedule.cosine(), jax.random.normal(jax.random.key(0), (50, 20))
    keys, times = jax.random.split(jax.random.key(1), 50), grid.uniform(30)
    walk = lambda sampler: diffusion.sample(keys, gaussian_data.denoiser(make), sampler, x_1, times)
    one = walk(samplers.ancestral(gaussian.gaussian(make)))
    np.testing.assert_allclose(one, walk(samplers.ddpm(make)), atol=1e-4)


@pytest.mark.parametrize('name', CHAINS)
def test_conformance(name):
    """What every sampler of discrete data owes: see the assertions."""
    make, traces = schedule.cosine(), []
    chain, sampler = CHAINS[name](make, SIZE), SAMPLERS[name](make, SIZE)
    denoise = token_data.denoiser(chain)

    @jax.jit
    def walk(keys, x_1):
        traces.append(1)
        return diffusion.run(keys, denoise, sampler, x_1, grid.uniform(7), lambda state: state.x)

    keys = jax.random.split(jax.random.key(7), 6)
    x_1 = categorical.process(chain).prior(jax.random.key(0), (6, 4, 2))
    state, frames = walk(keys, x_1)
    assert state.x.shape == x_1.shape and state.x.dtype == x_1.dtype
    assert frames.shape == (7, *x_1.shape) and state.nfe == 7
    assert np.all((state.x >= 0) & (state.x < SIZE))
    np.testing.assert_array_equal(walk(keys, x_1)[0].x, state.x)  # its keys decide
    alone = diffusion.sample(keys[4:5], denoise, sampler, x_1[4:5], grid.uniform(7))
    np.testing.assert_array_equal(alone[0], state.x[4])  # and not its neighbours
    np.testing.assert_array_equal(  # no steps: as it came
        diffusion.sample(keys, denoise, sampler, x_1, grid.uniform(0)), x_1
    )
    assert len(traces) == 1


def test_outcomes_are_all_pairs():
    np.testing.assert_array_equal(JOINT[tuple(OUTCOMES.T)], JOINT.ravel())
