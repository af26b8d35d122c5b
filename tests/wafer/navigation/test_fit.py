"""Fitted sections: corner order, angles to 360 degrees, what is said of doubtful ones."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from wafer.navigation.drawn_sections import angle_errors, corner_errors, draw_wafer, wavy

from emseg.sections import Section
from emseg.synthetic.wafer.drawn_wafer import synthesize_wafer
from emseg.synthetic.wafer.wafer_design import WaferDesign
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.navigation.fit import fit_sections
from emseg.wafer.navigation.found import Detected
from emseg.wafer.navigation.template import template_from_annotations
from emseg.wafer.quads import agreement


@pytest.fixture(scope="module")
def wafer():
    return draw_wafer(16)


@pytest.fixture(scope="module")
def template(wafer):
    return template_from_annotations(wafer.image, wafer.truth)


def test_corners_and_angles_agree_with_the_annotation_to_360_degrees(wafer, template):
    """Though the outlines are wavy and begin anywhere, and greys, light and a seam differ."""
    found = fit_sections(wafer.image, wafer.detected(), template)
    assert np.abs(angle_errors(found, wafer.truth)).max() < 1.0
    assert corner_errors(found, wafer.truth).max() < 1.0
    assert all(one.residual < 0.3 and one.reasons == () for one in found)


def test_one_annotated_section_gives_all_their_direction(wafer):
    one = template_from_annotations(wafer.image, replace(wafer.truth, sections=wafer.truth.sections[5:6]))
    found = fit_sections(wafer.image, wafer.detected(), one)
    assert np.abs(angle_errors(found, wafer.truth)).max() < 1.5
    assert np.median(corner_errors(found, wafer.truth)) < 0.7


def test_without_annotation_all_sections_share_one_turn(wafer):
    found = fit_sections(wafer.image, wafer.detected())
    off = angle_errors(found, wafer.truth)
    common = 90 * np.round(np.median(off) / 90)
    assert np.abs((off - common + 180) % 360 - 180).max() < 3.0


@pytest.mark.parametrize("scale", [0.7, 2.2])
def test_a_template_serves_images_of_another_scale(template, scale):
    other = draw_wafer(9, seed=3, scale=scale, across=3)
    detected = [Detected(one.polygon, 0.9, {"good": 1.0}) for one in other.truth.sections]
    found = fit_sections(other.image, detected, template)
    assert np.abs(angle_errors(found, other.truth)).max() < 2.0
    assert corner_errors(found, other.truth).max() < 1.5 * max(scale, 1.0)


def test_corners_of_a_template_outlined_counterclockwise_keep_their_numbers(wafer):
    """The look is never mirrored: corner 3 is then above corner 0."""
    turned = [replace(one, polygon=one.polygon[[1, 0, 3, 2]], angle_deg=None) for one in wafer.truth.sections]
    truth = replace(wafer.truth, sections=tuple(turned))
    found = fit_sections(wafer.image, wafer.detected(), template_from_annotations(wafer.image, truth))
    assert corner_errors(found, truth).max() < 1.0


def test_half_a_section_is_not_made_whole(wafer, template):
    """It keeps its outline's rectangle, in the direction of the fit."""
    detected = wafer.detected()
    image, truth = wafer.image.copy(), wafer.truth.sections[6].polygon
    half = np.array([truth[0], truth[1], (truth[1] + truth[2]) / 2, (truth[0] + truth[3]) / 2])
    lost = np.array([half[3], half[2], truth[2], truth[3]])[:, ::-1]
    cv2.fillPoly(image, [np.round(lost).astype(np.int32)], 170)
    detected[6] = Detected(half, 0.9, {"incomplete": 0.6, "good": 0.4})
    one = fit_sections(image, detected, template)[6]
    assert agreement(shapely.Polygon(one.corners), shapely.Polygon(half)) > 0.9
    assert any("kept the outline's rectangle" in reason or "poor fit" in reason for reason in one.reasons)
    assert any("below the median" in reason for reason in one.reasons)
    assert "class disputed (incomplete 60%, good 40%)" in one.reasons
    assert one.residual > 0.3


def test_what_is_not_a_section_fits_poorly_and_is_less_certain(wafer, template):
    detected, image, place = wafer.detected(), wafer.image.copy(), 5
    (top, left), (bottom, right) = (
        corner.astype(int) for corner in np.sort(wafer.truth.sections[place].polygon, 0)[[0, -1]]
    )
    image[top:bottom, left:right] = cv2.GaussianBlur(
        np.random.default_rng(0).normal(128, 90, (bottom - top, right - left)), (0, 0), 3
    )
    one = fit_sections(image, detected, template)[place]
    assert any(reason.startswith("poor fit of the template") for reason in one.reasons)
    assert one.confidence < 0.7 * 0.95


def test_a_section_cut_by_the_border_a_low_score_and_an_overlap_are_reasons(wafer, template):
    detected = wafer.detected()
    shift = detected[0].outline.min(0)[1]
    image = np.ascontiguousarray(wafer.image[:, int(shift) + 8 :])
    moved = [Detected(one.outline - [0, int(shift) + 8], one.score, one.votes) for one in detected]
    cut = shapely.Polygon(moved[0].outline).intersection(shapely.box(0, 0, *image.shape))
    moved[0] = Detected(shapely.get_coordinates(cut)[:-1], 0.4, {"good": 1.0})
    moved[2] = Detected(moved[3].outline - [0, 12.0], 0.9, {"good": 1.0})
    found = fit_sections(image, moved, template)
    assert {"low score (0.40)", "cut by the image's border"} <= set(found[0].reasons)
    assert abs((found[0].angle_deg - wafer.truth.sections[0].angle_deg + 180) % 360 - 180) < 2.0
    assert any(reason.startswith("a neighbour overlaps it by") for reason in found[3].reasons)
    assert found[7].reasons == ()


def test_the_calibration_is_used(wafer, template):
    found = fit_sections(wafer.image, wafer.detected(), template, calibrate=lambda score: 0.5 * score)
    assert all(0.4 < one.confidence <= 0.475 for one in found)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_sections_without_a_template_have_rectangles_and_no_angle(wafer, n):
    found = fit_sections(wafer.image, wafer.detected()[:n])
    assert len(found) == n
    for one, true in zip(found, wafer.truth.sections, strict=False):
        assert one.angle_deg is None
        assert one.residual is None
        assert agreement(shapely.Polygon(one.corners), true.shape) > 0.9


def test_a_blank_image_gives_outlines_alone(wafer, template):
    blank = np.full_like(wafer.image, 90)
    for one, true in zip(fit_sections(blank, wafer.detected(), template), wafer.truth.sections, strict=True):
        assert one.angle_deg is None
        assert one.reasons
        assert agreement(shapely.Polygon(one.corners), true.shape) > 0.9


@pytest.mark.parametrize("given", [True, False], ids=["annotated", "median"])
def test_synthetic_sections_agree_in_direction(given):
    """Sections of all four classes, touching and overlapping; the truth's angle is the direction of side 0."""
    made = synthesize_wafer(WaferDesign(height=900, width=900, section_length_px=90, n_sections=24), seed=2)
    detected = [Detected(one.polygon, 0.9, {one.label: 1.0}) for one in made.truth.sections]
    found = fit_sections(made.image, detected, template_from_annotations(made.image, made.truth) if given else None)
    off = angle_errors(found, made.truth)
    off = off[[one.label == "good" for one in made.truth.sections] & np.isfinite(off)]
    common = 0.0 if given else 90 * np.round(np.median(off) / 90)
    off = np.abs((off - common + 180) % 360 - 180)
    assert len(off) >= 8
    assert (off < 4.0).mean() >= 0.9
    assert np.median(off) < 1.5


def test_on_the_magc_wafer_outlines_like_a_networks_become_the_annotated_quads(real_data):
    """Template from the left, fits on the same side: the right 40 % stays unseen."""
    image, wafer = load_magc_wafer()
    left = [one for one in wafer.sections if one.center[1] < 0.6 * wafer.width]
    template = template_from_annotations(image, replace(wafer, sections=tuple(left[::2])))
    rng, shown = np.random.default_rng(0), replace(wafer, sections=tuple(left[1::4]))
    detected = [Detected(_seen(one, rng), 0.9, {"section": 1.0}) for one in shown.sections]
    seen = [
        agreement(shapely.Polygon(one.outline), true.shape) for one, true in zip(detected, shown.sections, strict=True)
    ]
    assert np.median(seen) < 0.94
    found = fit_sections(image, detected, template)
    assert np.median(corner_errors(found, shown)) < 1.5
    assert (np.abs(angle_errors(found, shown)) < 2.0).mean() >= 0.95


def _seen(section: Section, rng: np.random.Generator) -> np.ndarray:
    return wavy(section.polygon + rng.normal(0, 1.0, 2) + rng.normal(0, 1.2, (4, 2)), rng, 1.5)
