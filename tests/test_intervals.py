"""Intervals, against SciPy and textbooks and by their properties."""

import numpy as np
import pytest
from scipy import stats

from emseg.errors import UsageError
from emseg.intervals import difference_over_seeds, fraction_estimate, quantile_estimate


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(6), rng.random(6)
    found = difference_over_seeds(list(zip(a, b, strict=True)))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.value == pytest.approx((a - b).mean())
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.n == 6


def test_what_both_share_cancels():
    hard_or_easy = [0.1, 0.9, 0.4]
    found = difference_over_seeds([(value + 0.02, value) for value in hard_or_easy])
    assert found.value == pytest.approx(0.02)
    assert found.interval == pytest.approx((0.02, 0.02))


def test_one_seed_has_a_difference_and_no_interval():
    assert difference_over_seeds([(0.75, 0.5)]) == difference_over_seeds([(0.25, 0.0)])
    assert difference_over_seeds([(0.75, 0.5)]).interval is None
    two = difference_over_seeds([(0.75, 0.5), (0.5, 0.5)])  # Student's t with one degree of freedom is 12.7
    assert (two.n, two.interval) == (2, None)


@pytest.mark.parametrize("pairs", [[], [(0.5, float("nan"))]])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(UsageError, match="seed"):
        difference_over_seeds(pairs)


def test_wilsons_interval_is_the_textbooks():
    """The centre and half width in closed form (Wilson 1927)."""
    k, n, z = 98, 100, stats.norm.ppf(0.975)
    centre, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    assert fraction_estimate(k, n).interval == pytest.approx((centre - half, centre + half))
    assert fraction_estimate(0, 0).value is None
    with pytest.raises(UsageError, match="k=3, n=2"):
        fraction_estimate(3, 2)


@pytest.mark.parametrize(("n", "q"), [(40, 0.5), (120, 0.9)])
def test_the_interval_of_a_quantile_covers_it(n, q):
    """At least 95 % of samples of a skewed distribution, and not nearly all."""
    rng, exact = np.random.default_rng(1), stats.expon.ppf(q)
    intervals = [quantile_estimate(rng.exponential(size=n), q).interval for _ in range(2000)]
    assert 0.94 < np.mean([low <= exact <= high for low, high in intervals]) < 0.985


def test_a_quantile_of_few_values_has_no_interval():
    assert quantile_estimate(np.arange(10.0), 0.95).interval is None
    assert quantile_estimate(np.arange(3.0), 0.5).value == 1
    assert quantile_estimate(np.array([]), 0.5).n == 0
