"""Differences over seeds, against SciPy's paired t test and by their properties."""

import numpy as np
import pytest
from scipy import stats

from emseg.errors import UsageError
from emseg.intervals import difference_over_seeds


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


@pytest.mark.parametrize("pairs", [[], [(0.5, float("nan"))]])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(UsageError, match="seed"):
        difference_over_seeds(pairs)
