"""Two correlated tokens whose every answer is known, and 100 pairs of them in each example."""

import jax
import numpy as np

from jaxdiff import diffusion
from jaxdiff.diffusion import exact

SIZE = 3
JOINT = np.array([[0.20, 0.05, 0.05], [0.05, 0.25, 0.05], [0.02, 0.03, 0.30]])
OUTCOMES = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing='ij'), -1).reshape(-1, 2)
PRODUCT = JOINT.sum(1)[:, None] * JOINT.sum(0)  # the law of independent tokens
PAIRS = 200_000


def denoiser(chain, joint=JOINT):
    """The exact beliefs at x_t [..., 2]."""
    return exact.sequences(chain, OUTCOMES, joint.ravel())


def walk(denoise, sampler, prior, times, record=None, pairs=PAIRS):
    """The last state and the records of `pairs` pairs, x [b, 100, 2], seed 0."""
    x_1 = prior(jax.random.key(1), (pairs // 100, 100, 2))
    keys = jax.random.split(jax.random.key(0), pairs // 100)
    run = lambda keys, x_1: diffusion.run(keys, denoise, sampler, x_1, times, record)
    return jax.jit(run)(keys, x_1)


def frequencies(x, states=SIZE):
    """How often each pair of tokens [..., 2] came, [states, states]."""
    pairs = np.asarray(x).reshape(-1, 2)
    return np.bincount(pairs @ [states, 1], minlength=states**2).reshape(states, states) / len(
        pairs
    )


def assert_law(found, expected, count=PAIRS, errors=4):
    """Frequencies are probabilities to so many standard errors, each."""
    expected = np.asarray(expected)
    np.testing.assert_array_less(
        np.abs(found - expected), errors * np.sqrt(expected * (1 - expected) / count) + 1e-9
    )
