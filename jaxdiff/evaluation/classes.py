"""What a classifier says of samples: its score, agreement with labels, and how varied each class is.

References:
  Salimans et al. 2016, Improved Techniques for Training GANs (https://arxiv.org/abs/1606.03498),
    section 4: the Inception score, by whatever classifier.
"""

import numpy as np

from jaxdiff.evaluation import interval
from jaxdiff.evaluation.figure import Figure


def score(logp: np.ndarray) -> Figure:
    """exp(mean_i KL(p(c | x_i) ‖ mean_i p(c | x_i))): 1 where all look alike, at most the number of classes.

    Args:
      logp: log p(c | x_i), [n, classes].
    """
    logp = np.float64(logp)
    p, group = np.exp(logp), interval.groups(len(logp))
    entropy = -np.sum(p * np.where(p > 0, logp, 0), 1)

    def of(rows):
        mean = p[rows].mean(0)
        whole = -np.sum(mean * np.log(np.where(mean > 0, mean, 1)))
        return np.exp(whole - entropy[rows].mean())

    without = [of(group != g) for g in range(interval.GROUPS)]
    return interval.jackknife(of(group >= 0), without, len(logp), (1.0, logp.shape[1]))


def agreement(logp: np.ndarray, labels: np.ndarray) -> Figure:
    """The share of samples whose most probable class is their label, [n]."""
    return interval.of_share(np.argmax(logp, 1) == labels)


def diversity(features: np.ndarray, labels: np.ndarray) -> Figure:
    """The variance of features [n, d] within a class, summed over features,

        sum_i |x_i − mean of its class|² / (n − classes).

    Half the mean squared distance of two samples of one class, the classes counting as often as they
    are drawn; without classes give one label to all.

    Raises: ValueError where there are not two samples more than classes.
    """
    x = np.float64(features)
    _, kind, size = np.unique(labels, return_inverse=True, return_counts=True)
    n, rest = len(x), len(x) - len(size)
    if rest < 2:
        raise ValueError(
            f'diversity needs two samples more than classes, got {n} of {len(size)} classes'
        )
    means = np.stack([np.bincount(kind, column) for column in x.T], 1) / size[:, None]
    apart, others = np.sum((x - means[kind]) ** 2, 1), size[kind] - 1
    total = apart.sum()
    # Without a sample its class has a new mean; one that is alone in its class takes the class along.
    lost = np.where(others > 0, apart * size[kind] / np.maximum(others, 1), 0)
    without = (total - lost) / (rest - (others > 0))
    return interval.jackknife(total / rest, without, n, (0.0, np.inf))
