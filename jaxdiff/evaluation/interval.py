"""95 % confidence intervals of a statistic of independent samples.

References:
  Efron & Stein 1981, The Jackknife Estimate of Variance.
  Wolter 2007, Introduction to Variance Estimation, chapter 4 (groups).
  Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference (shares).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from jaxdiff.evaluation.figure import Figure

LEVEL = 0.95
GROUPS = 20  # that samples are left out in, where a statistic is not cheap


def of_mean(values: np.ndarray) -> Figure:
    """The mean of independent values [n] with Student's interval."""
    n = len(values)
    if n < 2:
        raise ValueError(f'an interval needs two samples or more, got {n}')
    error = np.std(values, ddof=1) / np.sqrt(n)
    return _around(float(np.mean(values)), float(error), n - 1, n)


def of_share(which: np.ndarray) -> Figure:
    """The share of independent samples that are so, bool [n], with Wilson's interval,

        (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n).

    It stays within 0 and 1 and has a width where none or all are so, as `of_mean`'s has not.
    """
    return _wilson(float(np.mean(which)), len(which))


def of_edge(share: Figure) -> Figure:
    """A share by the jackknife or by halves, with Wilson's interval where no part changes it.

    All or none are so then, with any part of the samples left out, and the interval has no width.
    """
    return _wilson(share.value, share.count) if share.low == share.high else share


def _wilson(p, n):
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle, reach = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * reach) / (1 + z**2 / n) for sign in (-1, 1))
    low, high = max(0.0, min(low, p)), min(1.0, max(high, p))  # they are, but for rounding
    return Figure(p, float(low), float(high), n)


def of_median(values: np.ndarray) -> Figure:
    """The median of independent values [n], between two of them: those at ranks of the binomial's quantiles.

    The number of values below the true median is binomial (n, 1/2).
    """
    n, found = len(values), np.sort(values)
    below = int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5))  # ranks below … n − 1 − below, from 0
    low, high = found[max(below - 1, 0)], found[min(n - below, n - 1)]
    return Figure(float(np.median(found)), float(low), float(high), n)


def jackknife(
    value: float,
    without: Sequence[float],
    count: int,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Figure:
    """A statistic with an interval by the jackknife,

        error² = (g − 1) / g · sum_i (T_(i) − mean T)²,

    T_(i) being the statistic without the i-th of g parts of equal size, single samples or groups.

    Args:
      value: of the statistic of all samples.
      without: T_(i), [g].
      count: of samples.
      within: what the statistic can be, where the interval ends too.
    """
    return _around(float(value), jackknife_error(without), len(without) - 1, count, within)


def jackknife_error(without: Sequence[float]) -> float:
    """The error of `jackknife`."""
    g = len(without)
    if g < 2:
        raise ValueError(f'the jackknife needs two parts or more, got {g}')
    return float(np.sqrt((g - 1) * np.mean(np.square(np.asarray(without) - np.mean(without)))))


def of_square(value: float, error: float, count: int) -> Figure:
    """A squared distance with an interval that is symmetric about its root, by `GROUPS` groups.

    Near 0 the distribution has a long tail, which the root's has not. Where the reach is more than four
    times the value, the root's is kept at the root of the reach: at 0 the interval is [0, reach].
    """
    reach = error * _quantile(GROUPS - 1)
    root = math.sqrt(value)
    of_root = reach / (2 * max(root, math.sqrt(reach) / 2)) if reach else 0.0
    return Figure(value, max(root - of_root, 0.0) ** 2, (root + of_root) ** 2, count)


def by_halves(
    value: float,
    halves: Sequence[float],
    count: int,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Figure:
    """A statistic with an interval by the delete-half jackknife, error² = mean_s (T_s − mean T)².

    For statistics that aren't smooth, which the jackknife gives too wide an interval. T_s is that of
    half of the samples, drawn without replacement (Shao & Wu 1989, A General Theory for Jackknife
    Variance Estimation).

    Args:
      halves: T_s, of different halves of `GROUPS` groups, see `halves`.
    """
    error = np.std(halves)
    return _around(float(value), float(error), GROUPS - 1, count, within)


def halves() -> np.ndarray:
    """Which groups are in each of `2 * GROUPS` halves, bool [2 * GROUPS, GROUPS]; each half with its rest."""
    draws = np.random.default_rng(0)
    chosen = np.zeros((GROUPS, GROUPS), bool)
    for row in chosen:
        row[draws.choice(GROUPS, GROUPS // 2, replace=False)] = True
    return np.concatenate([chosen, ~chosen])


def splits() -> np.ndarray:
    """The quarter of each group, 0 … 3, in five splits at random, [5, GROUPS].

    The first two quarters are one half, the others the other.
    """
    draws = np.random.default_rng(0)
    return np.stack([draws.permutation(GROUPS) % 4 for _ in range(5)])


def groups(n: int) -> np.ndarray:
    """The group of each of n samples, [n]: 0 … GROUPS − 1, of equal size, drawn at random.

    In turn they would hold no sample of most classes where the samples' classes come in turn.

    Raises: ValueError where there are too few to leave a group out.
    """
    if n < 2 * GROUPS:
        raise ValueError(f'an interval needs {2 * GROUPS} samples or more, got {n}')
    return np.random.default_rng(0).permutation(np.arange(n) % GROUPS)


def _around(value, error, freedom, count, within=(-np.inf, np.inf)):
    reach = error * _quantile(freedom)
    low, high = within
    return Figure(value, max(value - reach, low), min(value + reach, high), count)


def _quantile(freedom):
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
