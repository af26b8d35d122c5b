"""What the navigation chapter measures is what it says: the simulated stage, regions, calibration, true quads."""

from dataclasses import replace

import numpy as np
import pytest

from chapters import wafer_navigation as chapter
from emseg.synthetic.wafer import WaferDesign
from emseg.wafer.navigation.found import FoundSection, FoundWafer
from emseg.wafer.navigation.stage import fit_stage
from emseg.wafer.scores import score_navigation

PIXEL_UM = 12.0


@pytest.fixture(scope="module")
def wafer():
    design = WaferDesign(640, 640, 76.0, n_sections=24)
    return chapter.load_wafer("synthetic", design, pixel_size_um=PIXEL_UM, seed=1)


@pytest.fixture(scope="module")
def found(wafer):
    """The truth as if it had been found, without errors."""
    sections = tuple(
        FoundSection(one.polygon, one.polygon, one.label, 0.9, angle_deg=one.angle_deg)
        for one in wafer.truth.sections
        if len(one.polygon) == 4
    )
    return FoundWafer(
        "w", 640, 640, sections, wafer.truth.class_names, PIXEL_UM, stage_order=tuple(range(len(sections)))
    )


def test_true_quads_are_the_good_sections_and_follow_their_angle(wafer):
    scored = score_navigation(wafer.truth, wafer.truth)
    quads = {one.true for one in scored.pairs if one.corner_px is not None}
    assert quads == {place for place, one in enumerate(wafer.truth.sections) if one.label == "good"}
    for place in quads:
        one = wafer.truth.sections[place]
        down, right = one.polygon[1] - one.polygon[0]
        off = np.degrees(np.arctan2(right, down)) - one.angle_deg
        assert abs((off + 180) % 360 - 180) < 10


def test_the_stage_error_is_that_of_landmarks_and_centres(wafer, found):
    """Exact landmarks and exact quads arrive exactly; a shift of all quads arrives as that shift in micrometres."""
    exact = fit_stage(chapter.simulated_landmarks(wafer.landmarks, PIXEL_UM, 0.0, 0), kind="similarity")
    scores = score_navigation(wafer.truth, found)
    assert chapter.stage_errors(wafer, found, scores, exact, PIXEL_UM) == pytest.approx(0, abs=1e-6)
    assert len(chapter.stage_errors(wafer, found, scores, exact, PIXEL_UM)) == len(found.sections)
    shifted = replace(
        found, sections=tuple(replace(one, corners=one.corners + np.array([3, 4])) for one in found.sections)
    )
    scores = score_navigation(wafer.truth, shifted)
    assert chapter.stage_errors(wafer, shifted, scores, exact, PIXEL_UM) == pytest.approx(5 * PIXEL_UM)


def test_landmarks_have_the_error_that_was_asked_for(wafer):
    many = np.repeat(wafer.landmarks, 500, axis=0)
    read = chapter.simulated_landmarks(many, PIXEL_UM, 10.0, 0).stage_um - chapter.true_stage(many, PIXEL_UM)
    assert read.std() == pytest.approx(10.0, rel=0.05)


def test_a_region_comes_to_its_place_on_every_section_and_upside_down_is_an_error(wafer, found):
    scores = score_navigation(wafer.truth, found)
    regions = chapter.with_regions(wafer, found, scores)
    assert np.median(chapter.region_errors(wafer, regions, scores)) < 3  # sections are not all of one shape
    upside_down = [
        replace(one, corners=np.roll(one.corners, 2, axis=0)) if k == 3 else one for k, one in enumerate(found.sections)
    ]
    wrong = replace(found, sections=tuple(upside_down))
    errors = chapter.region_errors(wafer, chapter.with_regions(wafer, wrong, scores), scores)
    assert errors[[one.found for one in scores.pairs].index(3)] > 15


def test_no_region_without_a_section_of_known_direction(wafer):
    nothing = FoundWafer("w", 640, 640, (), wafer.truth.class_names)
    assert chapter.with_regions(wafer, nothing, score_navigation(wafer.truth, nothing)) is nothing


def test_the_calibration_error_is_the_gap_of_a_detector_that_is_too_sure():
    true = np.arange(100) % 2 == 0
    assert chapter.calibration_error(np.full(100, 0.5), true) == pytest.approx(0, abs=0.05)
    assert chapter.calibration_error(np.full(100, 0.9), true) == pytest.approx(0.4, abs=0.05)


def test_candidates_count_in_the_calibration(wafer, found):
    best, *others = found.sections
    confidence, true = chapter.is_true(wafer, replace(found, sections=tuple(others), candidates=(best,)))
    assert len(confidence) == len(found.sections)
    assert true.all()


def test_the_path_row_by_row_goes_back_and_forth():
    square = np.array([[-5.0, -5], [-5, 5], [5, 5], [5, -5]])
    places = [(10, 10), (30, 10), (10, 40), (30, 40)]
    sections = tuple(FoundSection(square + place, square + place, "good", 0.9) for place in places)
    assert chapter.row_path_um(FoundWafer("w", 50, 50, sections, ("good",)), 2.0) == pytest.approx(2 * (30 + 20 + 30))


def test_scores_stand_in_one_table_with_a_column_for_each_part(wafer, found):
    left = score_navigation(wafer.truth, found, region=(0, 320))
    table = chapter.scores_table({"whole": score_navigation(wafer.truth, found), "left": left})
    cells = {row[0].text: [one.text for one in row[1:]] for row in table.rows}
    assert cells["found"] == [str(len(found.sections)), str(len(left.pairs))]
    assert cells["corner error, median"][0].startswith("0.0")
