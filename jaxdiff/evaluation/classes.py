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
    return interval.jackknife(of(group >= 0), without, len(logp))


def agreement(logp: np.ndarray, labels: np.ndarray) -> Figure:
    """The share of samples whose most probable class is their label, [n]."""
    return interval.of_mean((np.argmax(logp, 1) == labels).astype(float))


def diversity(features: np.ndarray, labels: np.ndarray) -> Figure:
    """The variance of features [n, d] within a class, summed over features, the mean over classes.

    Half the mean squared distance of two samples of one class; without classes give one label to all.

    Raises: ValueError where a class has fewer than three samples.
    """
    x, labels = np.float64(features), np.asarray(labels)
    kinds = np.unique(labels)
    each, errors = [], []
    for k in kinds:
        one = x[labels == k]
        n = len(one)
        if n < 3:
            raise ValueError(f'diversity needs three samples or more of each class, got {n} of {k}')
        apart = np.sum((one - one.mean(0)) ** 2, 1)
        total = apart.sum()
        without = (total - apart * n / (n - 1)) / (n - 2)  # the variance without each
        found = interval.jackknife(total / (n - 1), without, n)
        each.append(found.value)
        errors.append((found.high - found.low) / 2)
    value, reach = np.mean(each), np.linalg.norm(errors) / len(kinds)
    return Figure(float(value), float(value - reach), float(value + reach), len(x))
