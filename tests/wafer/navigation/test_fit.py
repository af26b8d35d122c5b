"""Fitted sections: corner order, angles to 360 degrees, what is said of doubtful ones."""

from dataclasses import replace

import numpy as np
import pytest
from wafer.navigation.drawn_sections import angle_errors, corner_errors, draw_wafer

from emseg.wafer.navigation.fit import fit_sections
from emseg.wafer.navigation.template import template_from_annotations


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
