"""The scores of one image, against textbook loops, scipy and scikit-image, and the properties they must have."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from reference.membrane_scores import (
    textbook_assd,
    textbook_bridges,
    textbook_class_scores,
    textbook_patches,
    textbook_thinning,
    textbook_v_scores,
)
from scipy import ndimage
from skimage import metrics, morphology

from emseg.errors import InputError, UsageError
from emseg.membrane.scoring import (
    ISBI_THRESHOLDS,
    ScoreSettings,
    best_thresholds,
    cell_scores,
    class_scores,
    compare,
    competition_accepts,
    find_patches,
    label_cells,
    label_thinned_cells,
    membrane_at,
    overlaps,
    score_image,
    shifted_pair,
    spread,
    summarize,
)

MASKS = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=11).flatmap(lambda shape: arrays(np.bool_, shape))
PAIRS = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=11).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)


def tissue(seed: int, shape: tuple[int, int] = (60, 70), threshold: float = 0.06) -> np.ndarray:
    """A mask of winding lines, about a quarter of the pixels, that enclose cells."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return np.abs(noise) < threshold * noise.std() * 5


def perturbed(seed: int) -> tuple[np.ndarray, np.ndarray]:
    truth = tissue(seed)
    wrong = np.random.default_rng(seed + 100).random(truth.shape) < 0.04
    return truth, np.roll(truth, 1, axis=1) ^ wrong


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 3.0])
def test_precision_recall_and_f1_of_both_classes_equal_the_definition(seed, radius):
    truth, prediction = (mask[20:42, 20:40] for mask in perturbed(seed))
    scores = score_image(prediction, truth, ScoreSettings(tolerance_px=radius))
    for own, true, strict, tolerant in (
        (prediction, truth, scores.membrane, scores.membrane_tolerant),
        (~prediction, ~truth, scores.background, scores.background_tolerant),
    ):
        for found, within in ((strict, 0.0), (tolerant, radius)):
            expected = textbook_class_scores(true, own, within)
            assert (found.precision, found.recall, found.f1) == pytest.approx(expected, abs=1e-12)


def test_the_tolerant_score_is_that_of_a_dilation_by_a_disc():
    truth, prediction = perturbed(7)
    scores = score_image(prediction, truth, ScoreSettings(tolerance_px=2))
    disk = morphology.disk(2)
    near_truth, near_own = ndimage.binary_dilation(truth, disk), ndimage.binary_dilation(prediction, disk)
    assert scores.membrane_tolerant.precision == (prediction & near_truth).sum() / prediction.sum()
    assert scores.membrane_tolerant.recall == (truth & near_own).sum() / truth.sum()


@given(MASKS, st.sampled_from([4, 8]), st.booleans())
@settings(deadline=None)  # a first call compiles
def test_patches_are_those_of_a_flood_fill(mask, connectivity, value):
    found = find_patches(mask, connectivity, value=value)
    expected = textbook_patches(mask == value, connectivity)
    assert found.n == expected.max(initial=0)
    np.testing.assert_array_equal(found.paint(), expected)


@given(MASKS)
@settings(deadline=None)  # a first call compiles
def test_thinning_follows_the_challenges_watershed_pixel_by_pixel(mask):
    np.testing.assert_array_equal(label_thinned_cells(mask), textbook_thinning(mask))


@pytest.mark.parametrize("seed", range(4))
def test_thinning_of_winding_membranes_is_exact_too(seed):
    mask = tissue(seed, threshold=0.12)
    np.testing.assert_array_equal(label_thinned_cells(mask), textbook_thinning(mask))


def test_thinning_leaves_a_line_of_one_pixel_and_drops_a_loose_end():
    membrane = np.zeros((9, 30), bool)
    membrane[:, 10:15] = True
    membrane[4:6, 20:28] = True
    cells = label_thinned_cells(membrane)
    assert (cells == 0).sum() == 9
    assert (cells[:, 12] == 0).all()
    assert set(np.unique(cells)) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
def test_v_rand_and_v_info_equal_the_papers_equations(seed):
    truth, prediction = perturbed(seed)
    cells, own = label_cells(truth), label_thinned_cells(prediction)
    found = cell_scores(overlaps(cells, own))
    assert (found.v_rand, found.v_info) == pytest.approx(textbook_v_scores(cells, own), abs=1e-12)
    assert found.v_rand == pytest.approx(
        2 * found.v_rand_split * found.v_rand_merge / (found.v_rand_split + found.v_rand_merge)
    )


@pytest.mark.parametrize("seed", range(4))
def test_adapted_rand_error_and_variation_of_information_equal_scikit_image(seed):
    truth, prediction = perturbed(seed)
    cells, own = label_cells(truth), label_thinned_cells(prediction)
    found = cell_scores(overlaps(cells, own))
    assert found.adapted_rand_error == pytest.approx(metrics.adapted_rand_error(cells, own)[0], abs=1e-12)
    expected = metrics.variation_of_information(cells, own, ignore_labels=(0,))
    assert (found.voi_split, found.voi_merge) == pytest.approx(tuple(expected), abs=1e-9)


def test_overlaps_count_every_pixel_however_many_cells_there_are():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (200, 300)).astype(np.int32)
    cells = rng.integers(0, 40_000, truth.shape).astype(np.int32)
    found = overlaps(truth, cells)
    pairs, counts = np.unique(np.stack([truth, cells])[:, truth > 0], axis=1, return_counts=True)
    order = np.lexsort((found.prediction, found.truth))
    np.testing.assert_array_equal(np.stack([found.truth, found.prediction])[:, order], pairs)
    np.testing.assert_array_equal(found.n_pixels[order], counts)


@given(PAIRS)
@settings(deadline=None)  # a first call compiles
def test_surface_distances_equal_the_definition(pair):
    truth, prediction = pair
    assert score_image(prediction, truth).assd_px == pytest.approx(textbook_assd(truth, prediction), nan_ok=True)


def test_surface_distances_are_exact_where_the_nearest_point_is_far():
    rng = np.random.default_rng(3)
    truth, prediction = rng.random((90, 130)) < 0.002, rng.random((90, 130)) < 0.002
    away = [ndimage.distance_transform_edt(~mask) for mask in (truth, prediction)]
    expected = (away[0][prediction].sum() + away[1][truth].sum()) / (truth.sum() + prediction.sum())
    scores = score_image(prediction, truth, ScoreSettings(pixel_size_nm=4))
    assert scores.assd_px == pytest.approx(expected)
    assert scores.assd_nm == pytest.approx(4 * expected)


def test_surface_distances_are_exact_in_rows_of_many_far_pixels():
    """There the search to the left and right gives up, and the envelope of the columns takes over."""
    prediction = np.zeros((40, 900), bool)
    prediction[::2, ::2] = True
    truth = np.zeros_like(prediction)
    truth[3, 2] = truth[38, 880] = True
    away = [ndimage.distance_transform_edt(~mask) for mask in (truth, prediction)]
    expected = (away[0][prediction].sum() + away[1][truth].sum()) / (truth.sum() + prediction.sum())
    assert score_image(prediction, truth).assd_px == pytest.approx(expected)


def test_background_within_the_tolerance_is_found_across_bands():
    """The image has more columns than a band; membranes are thick, so that few of their pixels are near background."""
    rng = np.random.default_rng(5)
    truth, prediction = (ndimage.gaussian_filter(rng.normal(size=(60, 700)), 6) > 0.02 for _ in range(2))
    scores = score_image(prediction, truth, ScoreSettings(tolerance_px=4))
    disc = np.hypot(*np.mgrid[-4:5, -4:5]) <= 4
    near_truth, near_own = (ndimage.binary_dilation(~mask, disc) for mask in (truth, prediction))
    assert scores.background_tolerant.precision == pytest.approx((~prediction & near_truth).sum() / (~prediction).sum())
    assert scores.background_tolerant.recall == pytest.approx((~truth & near_own).sum() / (~truth).sum())


@pytest.mark.parametrize("seed", range(3))
def test_error_objects_equal_their_definition(seed):
    truth, prediction = perturbed(seed)
    found = score_image(prediction, truth, ScoreSettings(tolerance_px=1)).objects
    far_from = [ndimage.distance_transform_edt(~mask) > 1 for mask in (truth, prediction)]
    missed, false = truth & ~prediction, prediction & ~truth
    free = ~truth & ~prediction
    assert found.missed_stretches == textbook_patches(truth & far_from[1], 8).max()
    assert found.false_stretches == textbook_patches(prediction & far_from[0], 8).max()
    assert found.broken_membranes == textbook_bridges(textbook_patches(missed, 4), free, label_cells(truth))
    own_cells = textbook_patches(~prediction, 4)
    assert found.spurious_membranes == textbook_bridges(textbook_patches(false, 8), free, own_cells)
    assert found.broken_membranes + found.spurious_membranes > 0


def test_a_hole_in_a_membrane_is_a_broken_one_and_a_false_wall_a_spurious_one():
    truth = np.zeros((20, 40), bool)
    truth[:, 10:13] = True
    broken, thinner, divided = truth.copy(), truth.copy(), truth.copy()
    broken[8:10, 10:13] = False
    thinner[8:10, 10:12] = False
    divided[:, 30] = True
    settings = ScoreSettings(tolerance_px=1)
    assert score_image(broken, truth, settings).objects.broken_membranes == 1
    assert score_image(thinner, truth, settings).objects.broken_membranes == 0
    assert score_image(divided, truth, settings).objects.spurious_membranes == 1
    assert score_image(broken, truth, settings).cells.v_rand < 0.8 < score_image(thinner, truth, settings).cells.v_rand


@given(PAIRS)
@settings(deadline=None)
def test_a_perfect_prediction_scores_best_and_no_other_scores_better(pair):
    truth, prediction = pair
    perfect, other = score_image(truth, truth).row(), score_image(prediction, truth).row()
    for name, best in perfect.items():
        if name in ("assd_nm",) or math.isnan(best):
            continue
        is_error = name.startswith(("assd", "voi", "adapted", "missed", "broken", "false", "spurious"))
        assert best == pytest.approx(0.0 if is_error else 1.0, abs=1e-9), name
        if not math.isnan(other[name]):
            assert other[name] >= -1e-12 if is_error else -1e-12 <= other[name] <= 1 + 1e-12, name


@given(PAIRS)
@settings(deadline=None)
def test_inverting_both_images_swaps_the_classes(pair):
    truth, prediction = pair
    upright, inverted = score_image(prediction, truth), score_image(~prediction, ~truth)
    assert upright.membrane == inverted.background
    assert upright.background == inverted.membrane
    assert upright.membrane_tolerant == inverted.background_tolerant
    assert upright.background_tolerant == inverted.membrane_tolerant


@given(PAIRS)
@settings(deadline=None)
def test_swapping_prediction_and_truth_swaps_precision_and_recall(pair):
    truth, prediction = pair
    one, other = score_image(prediction, truth), score_image(truth, prediction)
    assert (one.membrane.precision, one.membrane.recall) == (other.membrane.recall, other.membrane.precision)
    assert one.membrane_tolerant.f1 == pytest.approx(other.membrane_tolerant.f1)
    assert one.assd_px == pytest.approx(other.assd_px, nan_ok=True)


@given(PAIRS)
@settings(deadline=None)
def test_a_larger_tolerance_never_lowers_a_score(pair):
    truth, prediction = pair
    f1 = [score_image(prediction, truth, ScoreSettings(tolerance_px=r)).membrane_tolerant.f1 for r in (0, 1, 2.5, 20)]
    assert f1 == sorted(f1)


@pytest.mark.parametrize(
    ("n_correct", "n_predicted", "n_found", "n_true", "expected"),
    [(0, 0, 0, 5, (1, 0, 0)), (0, 5, 0, 0, (0, 1, 0)), (0, 0, 0, 0, (1, 1, 1)), (0, 3, 0, 4, (0, 0, 0))],
)
def test_empty_classes_follow_the_competitions_script(n_correct, n_predicted, n_found, n_true, expected):
    found = class_scores(n_correct, n_predicted, n_found, n_true)
    assert (found.precision, found.recall, found.f1) == expected


def test_the_competition_takes_five_pixels_of_background_per_pixel_of_membrane():
    mask = np.zeros((6, 10), bool)
    mask[0] = True
    assert competition_accepts(mask)
    mask[1, 0] = True
    assert not competition_accepts(mask)


def test_the_thresholds_are_those_of_the_isbi_script():
    bright_cells = np.linspace(0, 1, 256, dtype=np.float32)[None]  # what the script is given
    added = 0.0
    for threshold in ISBI_THRESHOLDS:
        expected = ~(bright_cells > np.float64(added))
        margin = np.abs(bright_cells - added) > 1e-6  # rounding of 0.1 + 0.1 + ... decides on the threshold itself
        found = membrane_at(255 - np.arange(256, dtype=np.uint8)[None], threshold)
        np.testing.assert_array_equal(found[margin], expected[margin])
        np.testing.assert_array_equal(membrane_at(1 - bright_cells, threshold)[margin], expected[margin])
        added += 0.1


def test_the_best_threshold_is_one_for_all_images():
    truths = [tissue(seed) for seed in range(3)]
    maps = [np.where(truth, level, 20).astype(np.uint8) for truth, level in zip(truths, (220, 220, 70), strict=True)]
    scores = [score_image(one, truth) for one, truth in zip(maps, truths, strict=True)]
    best = best_thresholds(scores)
    assert best["v_rand"].threshold == 0.2
    assert best["v_rand"].spread.mean == pytest.approx(1.0)
    assert summarize(scores)["v_rand"].mean < 1.0
    assert [one[0] for one in scores[0].at_thresholds] == list(ISBI_THRESHOLDS)
    fixed = {t: v for t, v, _ in scores[0].at_thresholds}[0.5]
    assert fixed == scores[0].cells.v_rand
    assert best_thresholds([*scores, score_image(truths[0], truths[0])]) == {}


def test_undefined_scores_are_left_out_of_the_mean():
    found = spread([1.0, math.nan, 3.0])
    assert (found.mean, found.sd, found.lowest, found.highest, found.n) == (2.0, math.sqrt(2), 1.0, 3.0, 2)
    assert math.isnan(spread([4.0]).sd)
    assert spread([math.nan]).n == 0


def test_a_shifted_truth_is_compared_where_both_lie():
    mask = tissue(1)
    moved, still = shifted_pair(mask, 2, -3)
    np.testing.assert_array_equal(moved, np.roll(mask, (2, -3), (0, 1))[2:, :-3])
    np.testing.assert_array_equal(still, mask[2:, :-3])
    assert score_image(*shifted_pair(mask, 0, 0)).membrane.f1 == 1.0
    f1 = [score_image(*shifted_pair(mask, 0, columns)).membrane.f1 for columns in range(4)]
    assert f1 == sorted(f1, reverse=True)
    with pytest.raises(UsageError, match="smaller than the image"):
        shifted_pair(mask, 60, 0)


def test_the_error_map_holds_every_pixel_once():
    truth, prediction = perturbed(2)
    codes = compare(prediction, truth).codes
    np.testing.assert_array_equal(codes & 1, truth)
    np.testing.assert_array_equal(codes >> 1 & 1, prediction)
    assert not (codes >> 2)[truth == prediction].any()


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((3, 3), bool), np.zeros((3, 4), bool), r"one size; got \(3, 3\) and \(3, 4\)"),
        (np.zeros((3, 3), bool), np.zeros((3, 3), np.uint8), "truth must be a two-dimensional boolean mask"),
        (np.zeros((3, 3), bool), np.zeros((3, 3, 1), bool), "truth must be a two-dimensional boolean mask"),
        (np.zeros((0, 3), bool), np.zeros((0, 3), bool), "truth must be"),
        (np.zeros((3, 3), np.int64), np.zeros((3, 3), bool), "got int64"),
        (np.full((3, 3), 1.5), np.zeros((3, 3), bool), "0 to 1; got 1.5 to 1.5"),
        (np.full((3, 3), np.nan), np.zeros((3, 3), bool), "0 to 1"),
    ],
)
def test_arrays_that_cannot_be_scored_are_named(prediction, truth, message):
    with pytest.raises(InputError, match=message):
        score_image(prediction, truth)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 1.2}, "`threshold` must be at most 1; got 1.2"),
        ({"threshold": math.nan}, "`threshold` must be finite; got nan"),
        ({"tolerance_px": -1}, "`tolerance_px` must be at least 0; got -1"),
        ({"tolerance_px": math.nan}, "`tolerance_px` must be finite; got nan"),
        ({"pixel_size_nm": 0}, "`pixel_size_nm` must be greater than 0; got 0"),
        ({"thresholds": (0.5, 2)}, "`thresholds.1` must be at most 1; got 2"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        ScoreSettings(**wrong)


@pytest.mark.real_data
def test_moving_an_isbi_label_by_a_pixel_costs_what_was_measured(real_data):
    from emseg.data.isbi2012 import load_isbi2012

    _, labels = load_isbi2012()
    truths = [label == 0 for label in labels]
    no_map = ScoreSettings(thresholds=())
    pairs = [[shifted_pair(truth, 0, columns) for truth in truths] for columns in (1, 3)]
    f1 = [np.mean([score_image(*pair, no_map).membrane.f1 for pair in moved]) for moved in pairs]
    assert f1 == pytest.approx([0.912, 0.742], abs=0.001)
    assert not any(competition_accepts(truth) for truth in truths)
