"""Found and true sections of a wafer are counted as a person would count them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UsageError
from emseg.sections import Section, WaferSections
from emseg.wafer.navigation.found import FoundSection, FoundWafer
from emseg.wafer.scores import score_navigation

SIDE = 40.0


def square(row: float, column: float, angle: float = 0.0, size: float = SIDE) -> np.ndarray:
    """Return corners of a square about a centre; side 0 has the direction `angle`."""
    turn = np.deg2rad(angle)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    return np.array([row, column]) + size / 2 * np.array(
        [-along - across, along - across, along + across, -along + across]
    )


def wafer(*centres: tuple[float, float], label: str = "good", size_um: float | None = None) -> WaferSections:
    sections = tuple(Section(square(*place), label, 0.0) for place in centres)
    return WaferSections("w", 400, 800, sections, ("good", "fold"), size_um)


def found(*corners: np.ndarray, label: str = "good", angle: float = 0.0) -> FoundWafer:
    sections = tuple(FoundSection(one, one, label, 0.9, angle_deg=angle) for one in corners)
    return FoundWafer("w", 400, 800, sections, ("good", "fold"))


def counts(scores) -> dict[str, int]:
    return {name: len(getattr(scores, name)) for name in ("pairs", "missed", "false", "doubled", "fused")}


def test_the_truth_found_scores_best():
    truth = wafer((60, 60), (60, 100), (60, 140), size_um=0.5)  # edge to edge
    scores = score_navigation(truth, truth)
    assert counts(scores) == {"pairs": 3, "missed": 0, "false": 0, "doubled": 0, "fused": 0}
    assert scores.recall.value == scores.precision.value == scores.angles_within(0).value == 1
    assert scores.errors("given_corner_px").max() == scores.errors("centre_px").max() == scores.turn_deg == 0
    assert scores.recall.interval == pytest.approx((0.4385, 1), abs=1e-3)  # Wilson's interval of 3 / 3


def test_a_section_found_twice_is_doubled_and_one_false():
    scores = score_navigation(wafer((60, 60)), found(square(60, 60), square(63, 60)))
    assert counts(scores) == {"pairs": 1, "missed": 0, "false": 1, "doubled": 1, "fused": 0}


def test_two_halves_of_a_section_are_a_double_and_find_nothing():
    left, right = square(60, 60), square(60, 60)
    left[2:, 1] -= SIDE * 0.55
    right[:2, 1] += SIDE * 0.55
    assert counts(score_navigation(wafer((60, 60)), found(left, right))) == {
        "pairs": 0, "missed": 1, "false": 2, "doubled": 1, "fused": 0,
    }  # fmt: skip


def test_two_sections_found_as_one_are_fused():
    both = square(60, 60)
    both[2:, 1] += SIDE
    assert counts(score_navigation(wafer((60, 60), (60, 100)), found(both))) == {
        "pairs": 1, "missed": 1, "false": 0, "doubled": 0, "fused": 1,
    }  # fmt: skip
    assert counts(score_navigation(wafer((60, 60), (60, 100)), found(both), iou=0.75))["pairs"] == 0


def test_the_larger_overlap_wins_among_touching_sections():
    """A found section shifted towards its neighbour keeps its own truth, and the neighbour its own."""
    scores = score_navigation(wafer((60, 60), (60, 100)), found(square(60, 108), square(60, 72)))
    assert {(one.true, one.found) for one in scores.pairs} == {(0, 1), (1, 0)}


def test_a_region_takes_sections_by_their_centres():
    truth = wafer((60, 60), (60, 399), (60, 700))
    seen = found(square(60, 60), square(60, 402), square(200, 300), square(200, 600))
    right = score_navigation(truth, seen, region=(400, 800))
    assert counts(right) == {"pairs": 0, "missed": 1, "false": 1, "doubled": 0, "fused": 0}
    left = score_navigation(truth, seen, region=(0, 400))
    assert counts(left) == {"pairs": 2, "missed": 0, "false": 1, "doubled": 0, "fused": 0}


def test_errors_are_those_that_were_made():
    truth = wafer((60, 60), (60, 160), size_um=0.5)
    seen = found(square(63, 64), square(60, 160))
    scores = score_navigation(truth, seen)
    assert scores.errors("centre_px") == pytest.approx([5, 0])
    assert scores.errors("corner_px") == pytest.approx([5, 0])
    table = scores.table().set_index(["measure", "unit"])["value"]
    assert table["centre error, median", "px"] == pytest.approx(2.5)
    assert table["centre error, median", "um"] == pytest.approx(1.25)


@given(st.floats(-44, 44), st.integers(0, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_one_section_upside_down_counts_and_a_convention_of_all_does_not(angle, turn, numbered_backwards):
    """All sections turned by `turn` sides follow another convention, which is reported; one turned more is an error."""
    centres = [(60 + 60 * row, 60 + 80 * column) for row in range(3) for column in range(3)]
    truth = WaferSections("w", 400, 800, tuple(Section(square(*c, angle), "good", angle) for c in centres), ("good",))
    corners = [np.roll(square(*c, angle), -turn, axis=0) for c in centres]
    corners[4] = np.roll(corners[4], 2, axis=0)
    if numbered_backwards:
        corners[0] = corners[0][::-1]
    angles = [angle + 90 * turn + (180 if k == 4 else 0) for k in range(9)]
    sections = [FoundSection(c, c, "good", 0.9, angle_deg=a) for c, a in zip(corners, angles, strict=True)]
    seen = FoundWafer("w", 400, 800, tuple(sections), ("good",))
    scores = score_navigation(truth, seen)
    assert scores.errors("corner_px") == pytest.approx(0, abs=1e-9)
    assert (scores.roll, scores.turn_deg) == (-turn % 4, 90 * turn)
    wrong = {4, 0} if numbered_backwards else {4}
    assert {one.true for one in scores.pairs if one.given_corner_px > 1} == wrong
    assert {one.true for one in scores.pairs if one.angle_deg > 1} == {4}
    assert scores.angles_within(2).value == pytest.approx(8 / 9)
    assert scores.angles_within(2, period=180).value == 1


def test_classes_are_counted_by_what_they_are_taken_for():
    truth = WaferSections(
        "w", 400, 800,
        (Section(square(60, 60), "good"), Section(square(60, 120), "fold"), Section(square(60, 180), "fold")),
        ("good", "fold"),
    )  # fmt: skip
    scores = score_navigation(truth, found(square(60, 60), square(60, 120)))
    assert scores.confusion == {("good", "good"): 1, ("fold", "good"): 1}
    assert (scores.recall_of("good").value, scores.recall_of("fold").value) == (1, 0.5)
    assert scores.right_class.value == 0.5
    assert scores.angles_within(2).value is None  # the truth has no angles


def test_outlines_are_paired_where_the_truth_has_what_is_visible():
    half = square(60, 60)
    half[2:, 1] -= SIDE / 2
    seen = FoundWafer("w", 400, 800, (FoundSection(square(60, 80), half, "good", 0.9),), ("good", "fold"))
    truth = WaferSections("w", 400, 800, (Section(half, "good"),), ("good", "fold"))
    assert len(score_navigation(truth, seen, shapes="outlines").pairs) == 1
    assert len(score_navigation(truth, seen).pairs) == 0


@pytest.mark.parametrize(("truth", "seen", "recall", "precision"), [
    (wafer(), found(), None, None),
    (wafer((60, 60)), found(), 0, None),
    (wafer(), found(square(60, 60)), None, 0),
])  # fmt: skip
def test_an_empty_wafer_is_scored(truth, seen, recall, precision):
    scores = score_navigation(truth, seen)
    assert (scores.recall.value, scores.precision.value) == (recall, precision)
    assert len(scores.table())


def test_a_crossed_quad_is_scored_by_its_area():
    """That of two triangles, half of the square."""
    crossed = square(60, 60)[[0, 2, 1, 3]]
    assert counts(score_navigation(wafer((60, 60)), found(crossed), iou=0.6))["false"] == 1


@pytest.mark.parametrize(("changes", "match"), [
    ({"iou": 0}, "iou"),
    ({"region": (400, 400)}, "smaller one first"),
    ({"shapes": "boxes"}, "shapes"),
])  # fmt: skip
def test_what_cannot_be_scored_is_refused(changes, match):
    with pytest.raises(UsageError, match=match):
        score_navigation(wafer((60, 60)), found(), **changes)


def test_sections_of_another_image_are_refused():
    with pytest.raises(UsageError, match="one image; got 400 x 800 and 500 x 800"):
        score_navigation(wafer((60, 60)), FoundWafer("w", 500, 800, (), ("good",)))
