"""The three tests of the chapter on the competition: arithmetic, moved and downsampled labels, errors in pictures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chapters.competition_gap import (
    COVERAGES,
    ErrorRates,
    Example,
    Labels,
    best_coverage,
    downsample_label,
    f1_at_pixel_error,
    f1_of_masks,
    label_sets,
    line_width,
    open_gaps,
    pixel_error,
    rates_of_scores,
    ridge_strength,
    shift_scores,
    tolerance_curve,
    track2_factor,
    worst_places,
)
from emseg.errors import InputError, UsageError
from emseg.membrane.scoring import label_cells, score_image

SHARES = st.floats(0.02, 0.98)


def stripes(period: int, width: int, shape: tuple[int, int] = (240, 240)) -> np.ndarray:
    """Return upright lines of `width` pixels, one every `period`, the first half a period from the border."""
    return np.tile((np.arange(shape[1]) + period // 2) % period < width, (shape[0], 1))


def labels(mask: np.ndarray, pixel_size_nm: float = 4.0) -> Labels:
    return Labels("isbi", "made", "synthetic", pixel_size_nm, (mask,), "f00d")


@given(SHARES, SHARES, SHARES)
def test_rates_give_back_the_scores_that_they_come_from(precision, recall, fraction):
    rates = rates_of_scores(precision, recall, fraction)
    assert rates.f1(fraction) == pytest.approx(2 * precision * recall / (precision + recall))


@given(SHARES, SHARES)
def test_unchanged_rates_score_less_where_membrane_is_rarer(recall, false_alarms):
    rates = ErrorRates(recall, false_alarms)
    assert rates.f1(0.05) < rates.f1(0.22)


def test_the_f1_of_either_class_follows_from_the_share_of_wrong_pixels():
    """Counted on an image: as many pixels missed as false."""
    truth = stripes(40, 10)
    prediction = truth.copy()
    prediction[:12, 20:30] = False
    prediction[:12, 40:50] = True
    scores = score_image(prediction, truth)
    error = np.mean(truth != prediction)
    fraction = truth.mean()
    assert scores.membrane.f1 == pytest.approx(f1_at_pixel_error(error, fraction))
    assert scores.background.f1 == pytest.approx(f1_at_pixel_error(error, 1 - fraction))
    assert pixel_error(scores.membrane.f1, fraction) == pytest.approx(error)


@pytest.mark.parametrize("width", [3, 8, 14])
def test_the_width_of_lines_is_theirs_for_all_directions(width):
    """Rings have all directions; the estimate is exact for them but for their pixels."""
    row, column = np.mgrid[-150:151, -150:151]
    rings = np.hypot(row, column) % 50 < width
    assert line_width(rings) == pytest.approx(width, rel=0.06)
    assert math.isnan(line_width(np.zeros((9, 9), bool)))


def test_a_line_moved_by_s_keeps_the_rest_of_its_width():
    """Upright lines: moving down changes nothing, moving right by s costs s of w; the mean of both is reported."""
    scores = shift_scores(labels(stripes(60, 10)), (1, 2, 3), tolerance_nm=0.0)
    for one in scores:
        moved_right = 2 * one.mean_f1 - 1
        assert moved_right == pytest.approx(1 - one.shift_px / 10, abs=0.01)
        assert one.tolerant_f1 == one.f1


def test_a_tolerance_in_nm_forgives_the_same_distance_at_every_pixel_size():
    fine, coarse = labels(stripes(60, 10), 2.0), labels(stripes(30, 5), 4.0)
    for one, shift in ((fine, 4), (coarse, 2)):  # 8 nm each
        curve = tolerance_curve(one, shift, [0.0, 7.9, 8.0])
        assert curve[0] == pytest.approx(0.6, abs=0.02)
        assert curve[1] < 1.0
        assert curve[2] == 1.0


def test_half_covered_pixels_of_thick_lines_are_nearly_track_2s_label():
    found = downsample_label(stripes(97, 40, (970, 970)), [0, 5])
    assert found.factor == pytest.approx(9958 / 1024)
    assert found.half_covered_f1 > 0.95
    assert found.broken == 0
    assert found.moved_f1[0] == found.moved_f1_full[0] == 1.0
    assert found.moved_f1_full[1] == pytest.approx(1 - 5 / 40, abs=0.01)
    share, best = best_coverage([found])
    assert best == max(found.covered_f1) == found.covered_f1[COVERAGES.index(share)]


def test_a_line_with_thin_places_breaks_on_track_2_and_merges_its_cells():
    thin = stripes(970, 14, (970, 970))  # columns 485 to 498
    thin[400:460] = False
    thin[400:460, 485:487] = True  # two pixels of fourteen: sampling misses them
    found = downsample_label(thin, [0])
    assert found.cells_before == 2
    assert found.cells_after == 1
    assert found.broken == 1


def test_isbi_labels_are_brought_to_the_pixel_size_of_track_2():
    assert track2_factor(2.18) == pytest.approx(9958 / 1024)
    assert 4 * track2_factor(4.0) == pytest.approx(2.18 * 9958 / 1024)


def test_f1_of_masks_is_the_strict_score():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((2, 40, 50)) < 0.3
    assert f1_of_masks(prediction, truth) == pytest.approx(score_image(prediction, truth).membrane.f1)
    assert f1_of_masks(truth & False, truth & False) == 1.0


def test_the_same_tissue_is_drawn_at_both_resolutions():
    sets = label_sets("synthetic", n_images=1, size_um=1.6, seed=4)
    assert [one.key for one in sets] == ["urisc_fine", "urisc_coarse", "isbi_fine", "isbi_coarse"]
    fine, coarse = sets[2:]
    assert fine.fraction == pytest.approx(coarse.fraction, rel=0.03)
    assert fine.line_width_px * 2.18 == pytest.approx(coarse.line_width_px * 4.0, rel=0.06)
    with pytest.raises(UsageError, match="`data` must be one of 'synthetic', 'isbi2012', 'urisc'; got 'isbi'"):
        label_sets("isbi", n_images=1, size_um=1.6, seed=0)


def test_dark_lines_are_ridges_and_bright_ones_are_not():
    image = np.full((80, 80), 180, np.uint8)
    image[:, 20:27] = 60
    image[:, 55:62] = 250
    strength = ridge_strength(image, 4.0)
    assert strength[40, 23] > 10 * strength[40, 58]
    assert strength.min() >= 0


def test_the_worst_places_hold_most_wrong_pixels_and_lie_apart():
    truth = stripes(50, 6, (200, 200))
    codes = np.where(truth, 3, 0).astype(np.uint8)
    codes[40:60, 60:80] = 2
    codes[150:158, 150:158] = 2
    image = np.full(truth.shape, 99, np.uint8)
    predicted = Example("made", "made", image, codes, score_image(truth, truth), 4.0, "nobody")
    first, second = worst_places(predicted, 40, 2, false=True)
    assert [(codes[window] == 2).sum() for window in (first, second)] == [400, 64]
    assert worst_places(predicted, 40, 2, false=False) == []
    assert worst_places(predicted, 40, 1, false=True, taken=[first]) == [second]


def test_a_gap_of_one_pixel_merges_two_cells_and_leaves_f1_near_1():
    """Wider gaps lower F1 in proportion; the cells are merged already."""
    truth = np.zeros((120, 120), bool)
    truth[57:63] = True  # two cells, one membrane
    found = open_gaps(truth, 2.18, (0, 1, 8))
    cells = [int(label_cells(mask).max()) for mask in found.masks]
    assert cells == [2, 1, 1]
    assert [np.count_nonzero(truth & ~mask) for mask in found.masks] == [0, 6, 6 * 8 - 6]
    whole, one, eight = found.scores
    assert whole.cells.v_rand == whole.membrane.f1 == 1
    assert one.membrane.f1 > 0.99
    assert one.cells.v_rand == pytest.approx(2 / 3, abs=0.01)  # split 1, merge one half
    assert eight.membrane.f1 < one.membrane.f1
    with pytest.raises(InputError, match="membrane between two cells"):
        open_gaps(np.zeros((40, 40), bool), 2.18)
