"""A measured number with what it needs to be read: its interval, its count, and what it was measured by."""

from typing import NamedTuple


class Figure(NamedTuple):
    """What a metric found.

    `low` and `high` bound the 95 % confidence interval of the estimator's expectation at this count
    of samples, given the reference: over samples drawn anew, it holds that expectation so often. It
    says nothing of the reference's own error, nor of another training. The Fréchet distance's
    expectation depends on the count, so figures of different counts can't be compared.
    """

    value: float
    low: float
    high: float
    count: int  # of samples
    reference: str = ''  # digest of what they were measured against; '' where against nothing
    # Digest of what they were seen by: weights, preprocessing, spread in levels. A metric is given
    # features and cannot know it; `evaluate` does.
    features: str = ''


def check_comparable(a: Figure, b: Figure) -> None:
    """Raises a ValueError that says why two figures of one metric can't be compared."""
    told = {
        'count': 'from different counts of samples, which its expectation depends on',
        'reference': 'against different references',
        'features': 'by different features or preprocessing',
    }
    for name, why in told.items():
        ours, theirs = getattr(a, name), getattr(b, name)
        if ours != theirs:
            raise ValueError(f'figures measured {why} ({ours} and {theirs}) cannot be compared')
