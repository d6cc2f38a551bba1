"""Precision and recall, density and coverage, by the nearest neighbours of features.

B(x) is the ball around x that reaches its k-th nearest neighbour within its own set; x_i are the
samples, i = 1 … n, y_j the reference, j = 1 … m.

    precision = mean_i [x_i in some B(y_j)],    recall   = mean_j [y_j in some B(x_i)]
    density   = mean_i #{j: x_i in B(y_j)} / k, coverage = mean_j [some x_i in B(y_j)]

References:
  Kynkäänniemi et al. 2019, Improved Precision and Recall Metric (https://arxiv.org/abs/1904.06991).
  Naeem et al. 2020, Reliable Fidelity and Diversity Metrics (https://arxiv.org/abs/2002.09797).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation import interval, rows
from jaxdiff.evaluation.features import against
from jaxdiff.evaluation.figure import Figure


def precision_recall(x: np.ndarray, y: np.ndarray, k: int = 3) -> dict[str, Figure]:
    """Of samples x [n, d] against a reference y [m, d].

    The intervals are over samples drawn anew, the reference staying; of recall by halves, which holds
    less often than it says, 0.7 to 0.9, where few samples come near the reference at all.
    """
    _check(x, y, k)
    precision = interval.of_share(_inside(x, y, radii(y, k)) > 0)
    whole, *halves = _recalls(x, y, k)
    recall = interval.of_edge(interval.by_halves(whole, halves, len(x), (0.0, 1.0)))
    return _against(y, {'precision': precision, 'recall': recall})


def density_coverage(x: np.ndarray, y: np.ndarray, k: int = 5) -> dict[str, Figure]:
    """Of samples x [n, d] against a reference y [m, d]; intervals as of `precision_recall`."""
    _check(x, y, k)
    reach = radii(y, k)
    density = interval.of_mean(_inside(x, y, reach) / k)
    covered = _nearest_by_group(y, x, 1)[:, :, 0] <= reach[:, None]  # [m, groups]
    count = covered.sum(1)
    without = [np.mean(count - covered[:, g] > 0) for g in range(interval.GROUPS)]
    coverage = interval.jackknife(np.mean(count > 0), without, len(x), (0.0, 1.0))
    return _against(y, {'density': density, 'coverage': interval.of_edge(coverage)})


def radii(y: np.ndarray, k: int) -> np.ndarray:
    """The distance of each of y [m, d] to its k-th nearest neighbour among the others, [m]."""
    return rows.of(_smallest(k + 1), y)(y)[:, k]


def nearest(y: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """x [n, d] -> of each the nearest of y [m, d]: its row and distance, [n] each."""
    return rows.of(_first, y)


def _against(y, figures):
    reference = against(y)
    return {name: figure._replace(reference=reference) for name, figure in figures.items()}


def _check(x, y, k):
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) <= k:
        raise ValueError(
            f'neighbours need more than {k} samples of as many features, got {x.shape} and {y.shape}'
        )


def _inside(x, y, reach):
    """In how many balls around y each of x lies, [n]."""
    return rows.of(_count, y, reach)(x)


def _nearest_by_group(x, y, k):
    """The distances of each of x to the k nearest of each group of y, [n, groups, k].

    Groups of fewer are filled up with infinity.
    """
    members = [np.flatnonzero(interval.groups(len(y)) == g) for g in range(interval.GROUPS)]
    most = max(k, *map(len, members))
    table = np.stack([np.append(m, np.full(most - len(m), len(y))) for m in members])
    return rows.of(_smallest_by_group(k), y, table)(x)


def _recalls(x, y, k):
    """Recall by all of x, and by each half of the groups."""
    group, near = interval.groups(len(x)), _nearest_by_group(x, x, k + 1)
    reach = [_kth(near, k)]
    for half in interval.halves():
        within = half[group]
        r = np.full(len(x), -1.0)  # balls that hold nothing
        r[within] = _kth(near[within][:, half], k)
        reach.append(r)
    return rows.of(_any, x, np.float32(reach))(y).mean(0)


def _kth(near, k):
    """The distance to the k-th nearest other, the nearest being the sample itself."""
    return np.sort(near.reshape(len(near), -1), 1)[:, k]


def _distances(x, y):
    """|x_i − y_j|, [n, m]; the mean is taken off first, which keeps digits."""
    with jax.default_matmul_precision('highest'):
        centre = jnp.mean(y, 0)
        x, y = x - centre, y - centre
        squares = jnp.sum(x * x, 1)[:, None] + jnp.sum(y * y, 1) - 2 * x @ y.T
    return jnp.sqrt(jnp.maximum(squares, 0))


def _first(x, y):
    d = _distances(x, y)
    return jnp.argmin(d, 1), jnp.min(d, 1)


def _count(x, y, reach):
    return jnp.sum(_distances(x, y) <= reach, 1)


def _any(x, y, reach):
    """Whether each of x lies in a ball around y of each set of radii [s, m], [n, s]."""
    d = _distances(x, y)
    return jax.lax.map(lambda r: jnp.any(d <= r, 1), reach).T


@functools.cache  # one function of a k, and so one program
def _smallest(k):
    return lambda x, y: -jax.lax.top_k(-_distances(x, y), k)[0]


@functools.cache
def _smallest_by_group(k):
    def of(x, y, table):
        d = jnp.pad(_distances(x, y), ((0, 0), (0, 1)), constant_values=jnp.inf)
        return -jax.lax.top_k(-d[:, table], k)[0]

    return of
