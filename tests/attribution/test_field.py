"""Areas and radii equal counts by hand and known discs; what is undefined is refused by name."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.attribution.field import area_holding, field_area, field_areas, radius_holding
from emseg.errors import InputError, UsageError

MAP = np.array([[[0.5, -1.0, 0.02], [0.004, 0.0, -0.03]]], dtype=np.float32)


@pytest.mark.parametrize(
    ("sign", "normalise", "threshold", "n_pixels"),
    [
        ("positive", "max", 0.01, 2),
        ("negative", "max", 0.01, 2),
        ("absolute", "max", 0.01, 4),
        ("absolute", "max", 0.001, 5),
        ("positive", "none", 0.3, 1),
        ("absolute", "none", 0.7, 1),
        ("positive", "none", 2.0, 0),
    ],
)
def test_the_area_counts_pixels_above_the_threshold_times_a_pixels_area(sign, normalise, threshold, n_pixels):
    assert field_area(MAP, threshold, 4.0, sign, normalise).tolist() == [16.0 * n_pixels]


def test_the_maximum_that_divides_is_that_of_the_absolute_value():
    """The authors divide by max |w|: 0.5 is half of the largest, which is negative."""
    assert field_area(MAP, 0.49, 1.0)[0] == 1
    assert field_area(MAP, 0.51, 1.0)[0] == 0


@given(factor=st.floats(0.01, 100), threshold=st.floats(0.001, 0.9))
def test_after_normalising_the_area_ignores_the_scale_of_the_map(factor, threshold):
    maps = np.random.default_rng(1).normal(size=(2, 6, 7))
    assert np.array_equal(field_area(maps, threshold, 2.0), field_area(maps * factor, threshold, 2.0))


@given(st.integers(0, 10_000))
def test_the_area_falls_with_the_threshold_and_the_signs_add_up(seed):
    maps = np.random.default_rng(seed).normal(size=(2, 5, 5))
    thresholds = (0.001, 0.01, 0.1, 0.5)
    areas = {sign: field_areas(maps, thresholds, 3.0, sign) for sign in ("positive", "negative", "absolute")}
    assert np.all(np.diff(areas["absolute"], axis=1) <= 0)
    assert np.array_equal(areas["positive"] + areas["negative"], areas["absolute"])


def test_a_map_of_zeros_has_no_area_and_no_radius():
    zeros = np.zeros((1, 4, 4))
    assert field_area(zeros, 0.01, 1.0)[0] == 0
    assert np.isnan(radius_holding(zeros, [[1, 1]], 0.5, 1.0)[0])
    assert np.isnan(area_holding(zeros, 0.5, 1.0)[0])


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_radius_of_an_even_disc_holds_the_share_of_its_area(share):
    """A disc of radius R with even weight holds `share` of it within R sqrt(share)."""
    rows, columns = np.indices((161, 161))
    disc = ((rows - 80) ** 2 + (columns - 70) ** 2 <= 60**2).astype(np.float32)
    radius = radius_holding(-disc[None], [[80, 70]], share, 2.0)[0]
    assert radius == pytest.approx(2.0 * 60 * np.sqrt(share), rel=0.01)
    assert area_holding(disc[None], share, 2.0)[0] == pytest.approx(share * disc.sum() * 4.0, abs=4.0)


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_the_disc_of_the_radius_holds_the_share_and_a_smaller_one_does_not(seed, share):
    weights = np.random.default_rng(seed).random((9, 11))
    radius = radius_holding(weights[None], [[4, 3]], share, 1.0)[0]
    rows, columns = np.indices(weights.shape)
    squared = (rows - 4) ** 2 + (columns - 3) ** 2
    total = weights.sum()
    assert weights[squared <= round(radius**2)].sum() >= share * total * (1 - 1e-9)
    assert weights[squared < round(radius**2)].sum() < share * total


def test_an_object_with_maps_is_taken_as_its_maps():
    assert field_area(SimpleNamespace(maps=MAP), 0.01, 1.0)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((MAP, 0.0, 4.0), UsageError, "threshold must be above 0; got 0"),
        ((MAP, -0.1, 4.0), UsageError, "threshold must be above 0; got -0.1"),
        ((MAP, 1.0, 4.0), UsageError, "must be below 1"),
        ((MAP, 0.01, (4.0, 50.0)), UsageError, "square pixels; got 4 x 50 nm"),
        ((MAP, 0.01, 0.0), UsageError, "`pixel_size_nm` must be positive"),
        ((MAP, 0.01, 4.0, "postive"), UsageError, "Did you mean 'positive'"),
        ((MAP, 0.01, 4.0, "positive", "mean"), UsageError, "`normalise` must be one of 'max', 'none'"),
        ((MAP[0], 0.01, 4.0), UsageError, "must be .target, row, column."),
        ((np.full((1, 2, 2), np.nan), 0.01, 4.0), InputError, "maps must be finite"),
    ],
)
def test_what_has_no_area_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        field_area(*arguments)


def test_equal_sides_given_as_a_pair_are_square():
    assert field_area(MAP, 0.01, (4.0, 4.0))[0] == 32.0


def test_a_share_outside_0_to_1_and_targets_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="`share` must be a finite number greater than 0 and below 1; got 50"):
        radius_holding(MAP, [[0, 0]], 50, 1.0)
    with pytest.raises(UsageError, match="one for each of 1 maps"):
        radius_holding(MAP, [[0, 0], [1, 1]], 0.5, 1.0)
