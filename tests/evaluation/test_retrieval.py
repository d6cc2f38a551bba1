"""The rank of the right caption, where it is known."""

import numpy as np
import pytest

from jaxdiff.evaluation import interval, retrieval


def test_a_perfect_scorer_ranks_its_own_first_and_a_useless_one_last():
    own = np.eye(7)
    assert (retrieval.ranks(own, 5) == 1).all()
    assert (retrieval.ranks(-own, 5) == 5).all()
    assert (retrieval.ranks(np.zeros((7, 7)), 5) == 5).all()  # of equals it is the worst
    assert (retrieval.ranks(np.full((7, 7), np.nan), 5) == 5).all()


def test_the_rank_among_all_counts_the_better_ones():
    scores = np.random.default_rng(0).normal(size=(20, 20))
    better = np.sum(scores > np.diag(scores)[:, None], 1)
    np.testing.assert_array_equal(retrieval.ranks(scores, 20), 1 + better)


def test_scores_by_chance_give_every_rank_alike():
    n, among = 2000, 10
    scores = np.random.default_rng(1).normal(size=(n, n)).astype(np.float32)
    counts = np.bincount(retrieval.ranks(scores, among), minlength=among + 1)[1:]
    error = np.sqrt(n * 0.1 * 0.9)
    assert np.abs(counts - n / among).max() < 4 * error


def test_figures_say_how_sure_they_are():
    """Of a perfect scorer; the median's interval holds the true one of 90 to 99 % of sets."""
    found = retrieval.figures(np.ones(50, int), 10, ['a'], 'scorer')
    assert found['first'].value == found['first five'].value == found['median rank'].value == 1
    assert 0.9 < found['first'].low < 1 and found['first'].count == 50
    other = retrieval.figures(np.ones(50, int), 20, ['a'], 'scorer')['first']
    assert other.reference != found['first'].reference and other.features == 'scorer'
    draws = np.random.default_rng(0)
    sets = [interval.of_median(draws.normal(size=101)) for _ in range(400)]
    assert 0.9 <= np.mean([f.low <= 0 <= f.high for f in sets]) <= 0.99


@pytest.mark.parametrize('among', [1, 8])
def test_too_few_captions_are_refused(among):
    with pytest.raises(ValueError, match=f'among {among} captions'):
        retrieval.ranks(np.eye(7), among)
