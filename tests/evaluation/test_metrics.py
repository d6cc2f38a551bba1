"""Metrics against what is known of Gaussians, of constructed sets, and of their own intervals."""

import numpy as np
import pytest
from scipy import linalg, stats

from jaxdiff.evaluation import classes, figure, frechet, interval, kernel, memorised, neighbours


def gaussian(draws, n, mean, covariance):
    return draws.multivariate_normal(mean, covariance, n)


def covariance(draws, d):
    a = draws.normal(size=(d, d))
    return a @ a.T / d + 0.1 * np.eye(d)


def grouped(x):
    return [frechet.moments(x[interval.groups(len(x)) == g]) for g in range(interval.GROUPS)]


def exactly(mean, c):
    """Moments of samples that have this mean and covariance."""
    d = len(mean)
    ends = linalg.sqrtm(c).real * np.sqrt((2 * d - 1) / 2)
    return frechet.moments(np.concatenate([mean + ends, mean - ends]))


def test_the_fréchet_distance_of_two_gaussians_is_that_of_the_closed_form():
    draws = np.random.default_rng(0)
    m1, m2 = draws.normal(size=(2, 5))
    c1, c2 = covariance(draws, 5), covariance(draws, 5)
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    found = frechet.between(exactly(m1, c1), exactly(m2, c2))
    assert found == pytest.approx(expected, rel=1e-9)
    scaled = frechet.between(exactly(m1, 4 * c1), exactly(m1, c1))  # tr (2 − 1)² C
    assert scaled == pytest.approx(np.trace(c1), rel=1e-9)
    assert frechet.between(exactly(m1, c1), exactly(m1, c1)) == pytest.approx(0, abs=1e-9)


def test_moments_of_parts_add_up_and_parts_can_be_taken_out():
    x = np.random.default_rng(0).normal(size=(60, 4))
    whole, part = frechet.moments(x), frechet.moments(x[:20])
    for a, b in zip(frechet.add(part, frechet.moments(x[20:])), whole):
        np.testing.assert_allclose(a, b)
    for a, b in zip(frechet.add(whole, part, -1), frechet.moments(x[20:])):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_fewer_samples_than_features_are_refused():
    x = frechet.moments(np.random.default_rng(0).normal(size=(8, 8)))
    with pytest.raises(ValueError, match='by 8 features needs more samples than that, got 8'):
        frechet.between(x, x)


def test_the_kernel_distance_is_unbiased():
    draws = np.random.default_rng(0)
    y = draws.normal(size=(3000, 3)).astype(np.float32)
    same = [kernel.distance(np.float32(draws.normal(size=(100, 3))), y).value for _ in range(200)]
    error = np.std(same) / np.sqrt(len(same))
    # the reference is a sample too: its own distance from the truth, by another large one
    offset = kernel.distance(np.float32(draws.normal(size=(3000, 3))), y)
    assert abs(np.mean(same)) < 4 * error + (offset.high - offset.low)


def test_the_kernel_distance_of_shifted_data_is_that_of_the_moments():
    """In one dimension, k(x, y) = sum_p binom(3, p) (x y)^p, so MMD² = sum_p binom(3, p) (E x^p − E y^p)²."""
    draws = np.random.default_rng(1)
    x = np.float32(draws.normal(0.5, 1, size=(4000, 1)))
    y = np.float32(draws.normal(0.0, 1, size=(4000, 1)))
    moments = lambda m: (m, m**2 + 1, m**3 + 3 * m)  # of N(m, 1)
    expected = sum(
        c * (a - b) ** 2 for c, a, b in zip((3, 3, 1), moments(0.5), moments(0.0), strict=True)
    )
    found = kernel.distance(x, y)
    other = kernel.distance(y, x)  # whose interval is that of the other set
    reach = np.hypot(found.high - found.low, other.high - other.low) / 2
    assert abs(found.value - expected) < 2 * reach


def test_precision_and_recall_of_constructed_sets():
    draws = np.random.default_rng(0)
    left, right = draws.normal(0, 1, (400, 2)), draws.normal(0, 1, (400, 2)) + [100, 0]
    both = np.concatenate([left, right])
    again = np.concatenate([draws.normal(0, 1, (400, 2)), draws.normal(0, 1, (400, 2)) + [0, 100]])
    half = neighbours.precision_recall(draws.normal(0, 1, (800, 2)), both)  # one mode is missing
    assert half['precision'].value > 0.95
    assert half['recall'].value == pytest.approx(0.5, abs=0.02)
    wrong = neighbours.precision_recall(again, left)  # one mode is invented
    assert wrong['precision'].value == pytest.approx(0.5, abs=0.03)
    assert wrong['recall'].value > 0.95
    far = neighbours.density_coverage(draws.normal(0, 1, (400, 2)) + 1000, both)
    assert far['density'].value == far['coverage'].value == 0
    same = neighbours.density_coverage(both + 1e-6, both)
    assert same['coverage'].value == 1 and same['density'].value > 0.9


def test_density_and_coverage_of_equal_distributions_are_as_the_paper_derives():
    """E density = 1; E coverage = 1 − (m − 1) … over (n + m − 1) … (Naeem et al., section 3.3)."""
    draws, k, n, m = np.random.default_rng(0), 5, 600, 700
    found = [
        neighbours.density_coverage(draws.normal(size=(n, 4)), draws.normal(size=(m, 4)), k)
        for _ in range(12)
    ]
    density = [f['density'].value for f in found]
    coverage = [f['coverage'].value for f in found]
    factors = np.arange(1, k + 1)
    expected = 1 - np.prod((m - factors) / (n + m - factors))
    assert abs(np.mean(density) - 1) < 4 * np.std(density) / np.sqrt(12) + 2 / m
    assert abs(np.mean(coverage) - expected) < 4 * np.std(coverage) / np.sqrt(12)


def test_radii_are_those_of_the_kth_other_point():
    line = np.arange(10.0)[:, None]
    np.testing.assert_allclose(neighbours.radii(line, 1), 1, atol=1e-5)
    np.testing.assert_allclose(neighbours.radii(line, 2), [2, *[1] * 8, 2], atol=1e-5)


def test_the_score_of_certain_and_of_blind_classifiers():
    certain = np.log(np.eye(4)[np.arange(80) % 4] + 1e-30)
    assert classes.score(certain).value == pytest.approx(4)
    assert classes.score(np.full((80, 4), np.log(0.25))).value == pytest.approx(1)
    labels = np.arange(80) % 4
    assert classes.agreement(certain, labels).value == 1
    assert classes.agreement(certain, np.zeros(80, int)).value == 0.25


def test_diversity_is_the_variance_within_classes():
    draws = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    x = draws.normal(size=(4000, 3)) * np.where(labels, 2.0, 1.0)[:, None] + 10 * labels[:, None]
    found = classes.diversity(x, labels)
    assert found.low < 3 * (1 + 4) / 2 < found.high
    assert found.value == pytest.approx(
        np.mean([x[labels == k].var(0, ddof=1).sum() for k in (0, 1)])
    )


def test_diversity_without_a_sample_is_that_of_the_others():
    """Its interval is the jackknife's, by hand; a sample that is alone in its class says nothing."""
    draws = np.random.default_rng(0)
    x, labels = draws.normal(size=(30, 2)), np.append(draws.integers(3, size=29), 7)
    rest = [classes.diversity(np.delete(x, i, 0), np.delete(labels, i)).value for i in range(30)]
    found, expected = classes.diversity(x, labels), interval.jackknife(0.0, rest, 30)
    assert found.high - found.value == pytest.approx(expected.high)
    assert found.value == pytest.approx(classes.diversity(x[:-1], labels[:-1]).value)
    with pytest.raises(ValueError, match='got 3 of 2 classes'):
        classes.diversity(x[:3], [0, 0, 1])


def test_copies_are_found_and_new_images_are_not():
    draws = np.random.default_rng(0)
    training, held_out, new = (draws.normal(size=(n, 5)) for n in (2000, 2000, 1000))
    usual, nearest = memorised.usual(training, held_out), neighbours.nearest(training)
    found = memorised.copies(nearest(new)[1], usual)
    assert found.low <= memorised.RARE <= found.high
    rows = draws.integers(2000, size=300)
    row, distance = nearest(training[rows] + 1e-4)
    assert memorised.copies(distance, usual).value == 1
    np.testing.assert_array_equal(row, rows)


@pytest.mark.parametrize('n', [memorised.LEAST, 150, 355])
def test_what_has_memorised_nothing_has_one_copy_in_a_hundred_by_however_few_held_out(n):
    draws, new = np.random.default_rng(n), np.linspace(0, 1, 10_001)  # of uniform ones
    shares = [memorised.copies(new, draws.uniform(size=n)).value for _ in range(1000)]
    assert abs(np.mean(shares) - 0.01) < 4 * np.std(shares) / np.sqrt(1000)


def test_copies_are_found_though_held_out_images_are_in_the_training_set_too():
    draws = np.random.default_rng(0)
    training, held_out = (draws.normal(3.0, size=(n, 5)).astype(np.float32) for n in (2000, 1000))
    rows = draws.integers(2000, size=300)
    leaked = memorised.usual(training, np.concatenate([held_out, training[:100]]))
    np.testing.assert_allclose(leaked, memorised.usual(training, held_out), rtol=1e-6)
    assert memorised.copies(neighbours.nearest(training)(training[rows])[1], leaked).value == 1
    with pytest.raises(ValueError, match='99 held-out images or more .* got 0 of 100'):
        memorised.usual(training, training[:100])
    with pytest.raises(ValueError, match='got 98 of 98'):
        memorised.usual(training, held_out[:98])


def test_each_metric_says_what_it_was_measured_against():
    x, *references = (np.random.default_rng(i).normal(size=(50, 3)) for i in range(3))
    metrics = {
        'frechet': lambda x, y: {'': frechet.of(x, y)},
        'kernel': lambda x, y: {'': kernel.distance(x, y)},
        'precision': neighbours.precision_recall,
        'density': neighbours.density_coverage,
    }
    for measure in metrics.values():
        one, again, other = (
            measure(x, y) for y in (references[0], references[0].copy(), references[1])
        )
        for name in one:
            figure.check_comparable(one[name], again[name])
            with pytest.raises(ValueError, match='against different references'):
                figure.check_comparable(one[name], other[name])


def test_figures_of_other_counts_references_and_features_are_not_compared():
    one = figure.Figure(1.0, 0.9, 1.1, 100, 'reference', 'features')
    figure.check_comparable(one, one._replace(value=2.0))
    for change, told in (
        ({'count': 50}, 'counts of samples'),
        ({'reference': 'other'}, 'references'),
        ({'features': 'other'}, 'features or preprocessing'),
    ):
        with pytest.raises(ValueError, match=told):
            figure.check_comparable(one, one._replace(**change))


_REPEATS = 200


def _fréchet(x, y):
    return {'fréchet': frechet.distance(grouped(x), frechet.moments(y))}


def _kernel(x, y):
    return {'kernel': kernel.distance(np.float32(x), np.float32(y))}


def _classes(x, y):
    logp = np.stack([-np.logaddexp(0, -x[:, 0]), -np.logaddexp(0, x[:, 0])], 1)
    labels = (x[:, 1] > 0).astype(int)
    return {
        'score': classes.score(logp),
        'agreement': classes.agreement(logp, labels),
        'diversity': classes.diversity(x, labels),
    }


MEASURES = {
    'fréchet': _fréchet,
    'kernel': _kernel,
    'classes': _classes,
    'precision_recall': neighbours.precision_recall,
    'density_coverage': neighbours.density_coverage,
}


def check_coverage(found):
    """90 to 99 % of the intervals hold the estimator's expectation."""
    for name in found[0]:
        figures = [f[name] for f in found]
        expectation = np.mean([f.value for f in figures])
        held = np.mean([f.low <= expectation <= f.high for f in figures])
        assert 0.90 <= held <= 0.99, (name, held)


@pytest.mark.parametrize('name', MEASURES)
def test_the_intervals_hold_what_they_claim(name):
    """Of 200 sets of samples."""
    draws, d, n = np.random.default_rng(0), 4, 200
    y = draws.normal(size=(500, d))
    c = covariance(draws, d)
    samples = (gaussian(draws, n, np.full(d, 0.3), c) for _ in range(_REPEATS))
    check_coverage([MEASURES[name](x, y) for x in samples])


@pytest.mark.parametrize(
    'd, n, shift',
    [(4, 200, 0), (32, 80, 0), (32, 80, 0.1), (32, 400, 0), (8, 100, 0.4), (8, 60, 0.5)],
)
def test_the_fréchet_distances_interval_holds_where_it_is_quadratic_and_where_linear(d, n, shift):
    """Without a shift and with one; FID of 5,000 has 0.4 features a sample, as 32 of 80."""
    draws = np.random.default_rng(0)
    y = draws.normal(size=(10 * n, d))
    found = [frechet.of(draws.normal(shift, 1, (n, d)), y) for _ in range(_REPEATS)]
    check_coverage([{'fréchet': f} for f in found])
    reach = np.mean([f.high - f.low for f in found]) / 2
    assert 0.8 < reach / (1.96 * np.std([f.value for f in found])) < 1.4


@pytest.mark.parametrize('name', MEASURES)
def test_the_intervals_hold_what_they_claim_of_data_in_classes(name):
    """Ten classes far apart, drawn as often as each is in the training set; here they are not alike."""
    draws, d, n = np.random.default_rng(1), 4, 300
    means, labels = 2 * draws.normal(size=(10, d)), np.repeat(np.arange(10), range(30, 130, 10))
    y = means[labels] + draws.normal(size=(len(labels), d))

    def samples():
        return means[labels[draws.integers(len(labels), size=n)]] + draws.normal(size=(n, d))

    check_coverage([MEASURES[name](samples(), y) for _ in range(_REPEATS)])


def test_groups_hold_some_of_every_class_though_classes_come_in_turn():
    group = interval.groups(1000)
    assert (np.bincount(group) == 50).all()
    assert all(len(np.unique(np.arange(1000)[group == g] % 10)) > 7 for g in range(20))


def test_a_perfect_model_is_as_far_below_as_the_classes_of_the_reference_make_it():
    """Of classes without width: by the kernel's matrix of their places, in closed form.

    With classes in turn, each exactly as often as the others, it would be lower still: that makes pairs
    of one class rarer than chance does.
    """
    draws, d, n, m = np.random.default_rng(0), 4, 200, 400
    means = np.float32(draws.normal(size=(10, d)))
    of_reference = draws.integers(10, size=m)
    k, p = (means @ means.T / d + 1) ** 3, np.bincount(of_reference, minlength=10) / m
    expected = (p @ k @ p - p @ np.diag(k)) / (m - 1)

    def found(labels):
        return kernel.distance(means[labels], means[of_reference]).value

    drawn = [found(of_reference[draws.integers(m, size=n)]) for _ in range(300)]
    error = np.std(drawn) / np.sqrt(300)
    assert expected < -3 * error and abs(np.mean(drawn) - expected) < 3 * error
    assert found(np.arange(n) % 10) < np.mean(drawn)


def test_shares_that_no_sample_changes_have_an_interval_all_the_same():
    draws = np.random.default_rng(0)
    y = draws.normal(size=(200, 4))
    for x, value in ((y + 1e-6 * draws.normal(size=y.shape), 1), (y + 100, 0)):
        found = neighbours.precision_recall(x, y) | neighbours.density_coverage(x, y)
        for name in ('precision', 'recall', 'coverage'):
            assert found[name].value == value and found[name].high - found[name].low > 0.01


def test_the_interval_of_a_squared_distance_is_symmetric_about_its_root():
    one = interval.of_square(4.0, 0.5, 100)
    low, high = np.sqrt([one.low, one.high])
    assert low + high == pytest.approx(4)
    assert one.high - one.low == pytest.approx(2 * 0.5 * stats.t.ppf(0.975, 19))
    for value in (0.0, 1e-12):
        zero = interval.of_square(value, 0.5, 100)
        assert zero.low == 0 and zero.high == pytest.approx(0.5 * stats.t.ppf(0.975, 19), rel=1e-4)
    assert interval.of_square(0.0, 0.0, 100)[:3] == (0, 0, 0)


@pytest.mark.parametrize('n, p', [(60, 0.01), (200, 0.01), (500, 0.996), (1000, 0.5), (40, 0.9)])
def test_the_interval_of_a_share_holds_it(n, p):
    """Exactly, over the binomial distribution; the mean's own would hold 0.46 of the first."""
    counts = np.arange(n + 1)
    found = [interval.of_share(np.arange(n) < k) for k in counts]
    held = np.array([f.low <= p <= f.high for f in found])
    assert stats.binom.pmf(counts, n, p)[held].sum() > 0.9
    assert all(0 <= f.low <= f.value <= f.high <= 1 and f.low < f.high for f in found)
