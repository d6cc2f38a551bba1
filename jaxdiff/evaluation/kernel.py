"""The kernel distance of two sets of features: the squared maximum mean discrepancy, unbiased.

    MMD² = E k(x, x') − 2 E k(x, y) + E k(y, y'),    k(x, y) = (x · y / d + 1)³                  (K)

References:
  Bińkowski et al. 2018, Demystifying MMD GANs (https://arxiv.org/abs/1801.01401), section 3.1: KID.
  Gretton et al. 2012, A Kernel Two-Sample Test, lemma 6: the unbiased estimator.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation import interval, rows
from jaxdiff.evaluation.features import against
from jaxdiff.evaluation.figure import Figure


def distance(x: np.ndarray, y: np.ndarray) -> Figure:
    """(K) of samples x [n, d] from a reference y [m, d], with the jackknife's interval over x.

    The mean over pairs of different samples stands for each expectation, so that it may be negative.
    Where samples are drawn by the classes of the reference itself, p_c of its images being of class c,
    a perfect model's lies below 0 in the mean, by

        (sum_c p_c K_cc − sum_{c, c'} p_c p_c' K_cc') / (m − 1),    K_cc' = E k(x, x') of classes c, c',

    as the classes' shares are the reference's own, its error with them.

    Raises: ValueError where a set has fewer than three samples, or the features differ in number.
    """
    n, m = len(x), len(y)
    if min(n, m) < 3 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f'the kernel distance needs 3 samples or more of as many features, got {x.shape}, {y.shape}'
        )
    own, other = _sums(x, x) - _self(x), _sums(x, y)  # of each sample, over the others
    fixed = np.sum(_sums(y, y) - _self(y)) / (m * (m - 1))
    within, across = own.sum(), other.sum()
    value = within / (n * (n - 1)) - 2 * across / (n * m) + fixed
    without = (within - 2 * own) / ((n - 1) * (n - 2)) - 2 * (across - other) / ((n - 1) * m)
    return interval.jackknife(value, without + fixed, n)._replace(reference=against(y))


def _sums(x, y):
    """sum_j k(x_i, y_j), [n], in float64."""
    parts = (y[j : j + rows.BLOCK] for j in range(0, len(y), rows.BLOCK))
    return sum(np.float64(rows.of(_block, part)(x)) for part in parts)


def _block(x, y):
    with jax.default_matmul_precision('highest'):
        return jnp.sum(_kernel(x @ y.T, x.shape[1]), 1)


def _self(x):
    return _kernel(np.sum(np.float64(x) ** 2, 1), x.shape[1])


def _kernel(products, d):
    return (products / d + 1) ** 3
