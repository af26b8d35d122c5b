"""Intervals cover at the rate they claim, images are the unit, and p is the exact share of dealings."""

import math
from itertools import combinations

import numpy as np
import pytest

from emseg.attribution.field import Grouped, bootstrap_mean, bootstrap_ratio, compare_sets
from emseg.errors import UsageError


def _draw_set(rng, n_images, per_image, mean=10.0, between=2.0, within=1.0):
    levels = rng.normal(mean, between, n_images)
    values = (levels[:, None] + rng.normal(0, within, (n_images, per_image))).ravel()
    return Grouped.of(values, np.repeat(np.arange(n_images), per_image))


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    """With 12 images the interval of nominal 95 % covers in about 9 of 10 cases; ignoring the images, in half."""
    rng = np.random.default_rng(0)
    hits = naive_hits = 0
    for _ in range(120):
        sample = _draw_set(rng, 12, 10)
        interval = bootstrap_mean(sample, n_resamples=200, generator=rng)
        hits += interval.holds(10.0)
        flat = Grouped.of(sample.values, np.arange(len(sample.values)))  # as if every target were its own image
        naive_hits += bootstrap_mean(flat, n_resamples=100, generator=rng).holds(10.0)
    assert hits / 120 > 0.83
    assert naive_hits / 120 < 0.7


def test_a_mean_is_the_mean_and_a_constant_has_no_interval():
    constant = Grouped.of([3.0] * 6, [0, 0, 1, 1, 2, 2])
    estimate = bootstrap_mean(constant, generator=np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high, estimate.n, estimate.n_images) == (3.0, 3.0, 3.0, 6, 3)


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(1)
    second = _draw_set(rng, 5, 4, between=3.0)
    first = Grouped.of(second.values * 2, second.images)
    paired = bootstrap_ratio(first, second, paired=True, generator=rng)
    assert (paired.low, paired.high) == pytest.approx((2.0, 2.0))
    apart = bootstrap_ratio(first, second, generator=rng)
    assert apart.low < 1.9 < 2.1 < apart.high


def test_p_is_the_share_of_dealings_at_least_as_extreme():
    a, b = Grouped.of([5.0, 6.0, 9.0], [0, 1, 2]), Grouped.of([1.0, 2.0, 7.0, 3.0], [0, 1, 2, 3])
    pooled = np.array([5.0, 6.0, 9.0, 1.0, 2.0, 7.0, 3.0])
    seen = abs(pooled[:3].mean() - pooled[3:].mean())
    extreme = 0
    for chosen in combinations(range(7), 3):
        mine = pooled[list(chosen)].mean()
        rest = np.delete(pooled, list(chosen)).mean()
        extreme += abs(mine - rest) >= seen - 1e-9
    result = compare_sets(a, b, generator=np.random.default_rng(0))
    assert result.p_value == pytest.approx(extreme / math.comb(7, 3))
    assert result.n_images == (3, 4)


def test_two_sets_of_three_images_can_never_reach_a_p_of_five_percent():
    a, b = Grouped.of([10.0, 11.0, 12.0], [0, 1, 2]), Grouped.of([0.0, 1.0, 2.0], [0, 1, 2])
    result = compare_sets(a, b, generator=np.random.default_rng(0))
    assert result.p_value == result.smallest_p == pytest.approx(0.1)


def test_many_targets_of_one_image_add_no_evidence():
    """Two images a side: whatever the number of targets, p stays at a third."""
    values, images = [9.0] * 50 + [9.1] * 50, [0] * 50 + [1] * 50
    far = Grouped.of(np.array(values) - 8.0, images)
    assert compare_sets(Grouped.of(values, images), far, generator=np.random.default_rng(0)).p_value == pytest.approx(
        1 / 3
    )


def test_where_there_are_too_many_dealings_a_sample_stands_in():
    rng = np.random.default_rng(2)
    a, b = _draw_set(rng, 14, 1, mean=10.0), _draw_set(rng, 14, 1, mean=10.0)
    c = _draw_set(rng, 14, 1, mean=20.0)
    assert compare_sets(a, b, n_resamples=100, generator=rng).p_value > 0.05
    assert compare_sets(a, c, n_resamples=100, generator=rng).p_value < 0.001


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: Grouped.of([1.0], [1, 2]), "one length"),
        (lambda rng: Grouped.of([], []), "at least one"),
        (lambda rng: Grouped.of([np.nan], [1]), "finite"),
        (lambda rng: bootstrap_mean(Grouped.of([1.0], [1]), n_resamples=5, generator=rng), "at least 100 resamples"),
        (lambda rng: bootstrap_ratio(Grouped.of([1.0], [1]), Grouped.of([0.0], [1]), generator=rng), "positive second"),
        (
            lambda rng: bootstrap_ratio(Grouped.of([1.0], [1]), Grouped.of([1.0], [2]), paired=True, generator=rng),
            "same targets",
        ),
    ],
)
def test_values_that_cannot_be_compared_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call(np.random.default_rng(0))
