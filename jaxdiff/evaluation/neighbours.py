"""Precision and recall, density and coverage, by the nearest neighbours of features.

B(x) is the ball around x that reaches its k-th nearest neighbour within its own set; x_i are the
samples, i = 1 … n, y_j the reference, j = 1 … m.

    precision = mean_i [x_i in some B(y_j)],    recall   = mean_j [y_j in some B(x_i)]
    density   = mean_i #{j: x_i in B(y_j)} / k, coverage = mean_j [some x_i in B(y_j)]

References:
  Kynkäänniemi et al. 2019, Improved Precision and Recall Metric (https://arxiv.org/abs/1904.06991).
  Naeem et al. 2020, Reliable Fidelity and Diversity Metrics (https://arxiv.org/abs/2002.09797).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation import interval
from jaxdiff.evaluation.figure import Figure

_BLOCK = 1024  # rows of distances that are computed at once


def precision_recall(x: np.ndarray, y: np.ndarray, k: int = 3) -> dict[str, Figure]:
    """Of samples x [n, d] against a reference y [m, d].

    The intervals are over samples drawn anew, the reference staying; of recall by halves, which holds
    less often than it says, 0.7 to 0.9, where few samples come near the reference at all.
    """
    _check(x, y, k)
    ours = _within(x, y, radii(y, k))
    group, near = interval.groups(len(x)), _nearest_by_group(x, k)
    whole, *halves = _recalls(y, group, near, x, k)
    recall = interval.of_edge(interval.by_halves(whole, halves, len(x), (0.0, 1.0)))
    return {'precision': interval.of_share(ours > 0), 'recall': recall}


def density_coverage(x: np.ndarray, y: np.ndarray, k: int = 5) -> dict[str, Figure]:
    """Of samples x [n, d] against a reference y [m, d]; intervals as of `precision_recall`."""
    _check(x, y, k)
    reach, group = radii(y, k), interval.groups(len(x))
    density = interval.of_mean(_within(x, y, reach) / k)
    near = np.concatenate([_group_minima(part, x, group) for part in _parts(y)])  # [m, groups]
    covered = near <= reach[:, None]
    count = covered.sum(1)
    without = [np.mean(count - covered[:, g] > 0) for g in range(interval.GROUPS)]
    coverage = interval.jackknife(np.mean(count > 0), without, len(x), (0.0, 1.0))
    return {'density': density, 'coverage': interval.of_edge(coverage)}


def radii(y: np.ndarray, k: int) -> np.ndarray:
    """The distance of each of y [m, d] to its k-th nearest neighbour among the others, [m]."""
    return np.concatenate([np.partition(_distances(part, y), k, 1)[:, k] for part in _parts(y)])


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each of x [n, d] the nearest of y [m, d]: its row and distance, [n] each."""
    found = [_distances(part, y) for part in _parts(x)]
    return tuple(np.concatenate([f(d, 1) for d in found]) for f in (np.argmin, np.min))


def _check(x, y, k):
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) <= k:
        raise ValueError(
            f'neighbours need more than {k} samples of as many features, got {x.shape} and {y.shape}'
        )


def _parts(x):
    return (x[i : i + _BLOCK] for i in range(0, len(x), _BLOCK))


def _distances(x, y):
    return np.asarray(_pairs(x, y))


@jax.jit
def _pairs(x, y):
    """|x_i − y_j|, [n, m]; the means of both sets are taken off first, which keeps digits."""
    with jax.default_matmul_precision('highest'):
        centre = jnp.mean(y, 0)
        x, y = x - centre, y - centre
        squares = jnp.sum(x * x, 1)[:, None] + jnp.sum(y * y, 1) - 2 * x @ y.T
    return jnp.sqrt(jnp.maximum(squares, 0))


def _within(x, y, reach):
    """In how many balls around y each of x lies, [n]."""
    return np.concatenate([(_distances(part, y) <= reach).sum(1) for part in _parts(x)])


def _group_minima(y, x, group):
    """The distance of each of y to the nearest of each group of x, [m, groups]."""
    d = _distances(y, x)
    return np.stack([d[:, group == g].min(1) for g in range(interval.GROUPS)], 1)


def _nearest_by_group(x, k):
    """The k + 1 nearest of each group to each of x, itself among its own, [n, groups, k + 1].

    Groups of fewer are filled up with infinity.
    """
    group = interval.groups(len(x))

    def of(part):
        d, found = _distances(part, x), []
        for g in range(interval.GROUPS):
            one = np.sort(d[:, group == g], 1)[:, : k + 1]
            more = ((0, 0), (0, k + 1 - one.shape[1]))
            found.append(np.pad(one, more, constant_values=np.inf))
        return np.stack(found, 1)

    return np.concatenate([of(part) for part in _parts(x)])


def _recalls(y, group, near, x, k):
    """Recall by all of x, and by each half of the groups."""
    reach = [_kth(near, k)]
    for half in interval.halves():
        within = half[group]
        r = np.full(len(x), -1.0)  # balls that hold nothing
        r[within] = _kth(near[within][:, half], k)
        reach.append(r)
    found = np.zeros(len(reach))
    for part in _parts(y):
        d = _distances(part, x)
        found += [np.sum((d <= r).any(1)) for r in reach]
    return found / len(y)


def _kth(near, k):
    """The distance to the k-th nearest other, the nearest being the sample itself."""
    return np.sort(near.reshape(len(near), -1), 1)[:, k]
