"""The Fréchet distance of two sets of features, taken for Gaussians.

    F² = |m_1 − m_2|² + tr(C_1 + C_2 − 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})                        (F)

By the features of Inception-v3 that is FID; by any other it is not.

References:
  Dowson & Landau 1982, The Fréchet Distance between Multivariate Normal Distributions.
  Efron & Stein 1981, The Jackknife Estimate of Variance.
  Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule (https://arxiv.org/abs/1706.08500).
  Chong & Forsyth 2020, Effectively Unbiased FID and Inception Score (https://arxiv.org/abs/1911.07023):
    the bias, which depends on the count.
"""

import functools
from typing import NamedTuple

import numpy as np

from jaxdiff.evaluation import interval
from jaxdiff.evaluation.features import against
from jaxdiff.evaluation.figure import Figure

_BLOCK = 16_384  # rows that are taken to float64 at once


class Moments(NamedTuple):
    """Of n vectors of d features, in float64: enough for (F), and the sum of two is that of both."""

    n: int
    total: np.ndarray  # sum of x, [d]
    square: np.ndarray  # sum of x xᵀ, [d, d]


def moments(features: np.ndarray) -> Moments:
    """Of features [n, d], a block of rows at a time."""
    blocks = (np.float64(features[i : i + _BLOCK]) for i in range(0, len(features), _BLOCK))
    return _sum(Moments(len(x), x.sum(0), x.T @ x) for x in blocks)


def add(a: Moments, b: Moments, sign: int = 1) -> Moments:
    """Of both sets; with sign −1 of a without b, which is a part of it."""
    return Moments(*(x + sign * y for x, y in zip(a, b)))


def mean_and_covariance(m: Moments) -> tuple[np.ndarray, np.ndarray]:
    """m and C, the latter unbiased.

    Raises: ValueError where there are no more samples than features: C would be singular.
    """
    if m.n <= len(m.total):
        raise ValueError(
            f'the Fréchet distance by {len(m.total)} features needs more samples than that, got {m.n}'
        )
    return _mean_and_covariance(m)


def _mean_and_covariance(m):
    mean = m.total / m.n
    return mean, (m.square - m.n * np.outer(mean, mean)) / (m.n - 1)


def between(a: Moments, b: Moments) -> float:
    """(F) of two sets of samples."""
    mean_and_covariance(b)
    return _from(a)(b)


def _from(a):
    """(F) of a set from `a`, whose root is taken once."""
    m1, c1 = mean_and_covariance(a)
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    def to(b):
        m2, c2 = _mean_and_covariance(b)
        product = np.linalg.eigvalsh(root @ c2 @ root)
        cross = np.sqrt(np.maximum(product, 0)).sum()
        found = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * cross
        return max(0.0, float(found))  # it is, but for rounding

    return to


def distance(parts: list[Moments], reference: Moments) -> Figure:
    """(F) of samples from a reference, with the interval of its expectation at their count.

    The jackknife's variance is right for what is linear in the samples, whose variance is as 1/n, and
    twice what it should be for what is quadratic (Efron & Stein 1981), as (F) is near 0, whose variance
    is as 1/n². Which of them it is, disjoint parts of the samples tell, as they are independent:

        variance = jackknife · 2 / r,    r = ¾ V(n/4) / V(n/2), within 2 … 3,

    V(n/k) being the mean over splits of the variance of (F) between the k parts of a split. Their ratio
    is 2 or 4, but noisy; ¾ and 3 rather leave the interval a little too wide. Of 60 samples on, Gaussian
    or in classes, it holds 0.92 to 0.98 of the time, of heavy tails less.

    Args:
      parts: the samples' moments by `interval.GROUPS` groups of equal size, see `interval.groups`.
    """
    whole, to = _sum(parts), _from(reference)
    mean_and_covariance(whole)  # of parts it may be singular, of all it may not
    value = to(whole)
    without = [to(add(whole, part, -1)) for part in parts]
    apart = {2: [], 4: []}  # variances between halves, and between quarters
    for split in interval.splits():
        quarters = [_sum(p for p, q in zip(parts, split, strict=True) if q == i) for i in range(4)]
        halves = [add(*quarters[:2]), add(*quarters[2:])]
        for k, sets in ((2, halves), (4, quarters)):
            apart[k].append(np.var([to(one) for one in sets], ddof=1))
    v = {k: np.mean(found) for k, found in apart.items()}
    ratio = np.clip(0.75 * v[4] / v[2], 2, 3) if v[2] else 2.0
    error = interval.jackknife_error(without) * float(np.sqrt(2 / ratio))
    return interval.of_square(value, error, whole.n)


def _sum(parts):
    return functools.reduce(add, parts)


def of(x: np.ndarray, y: np.ndarray) -> Figure:
    """(F) of features x [n, d] from those of a reference, y [m, d]."""
    group = interval.groups(len(x))
    found = distance([moments(x[group == g]) for g in range(interval.GROUPS)], moments(y))
    return found._replace(reference=against(y))
