"""Templates: what they carry, how they are stored, and quads between pixels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from wafer.navigation.drawn_sections import draw_wafer, wavy

from emseg.errors import InputError
from emseg.wafer.formats.magc import MagcItem, MagcWafer
from emseg.wafer.navigation import find
from emseg.wafer.navigation.fit import fit_sections
from emseg.wafer.navigation.found import Region
from emseg.wafer.navigation.template import UNORIENTED, SectionTemplate, parts_of_magc, template_from_annotations
from emseg.wafer.quads import agreement, is_clockwise, outline_quad, rectangle_along


@pytest.fixture(scope="module")
def wafer():
    return draw_wafer(16)


def places(wafer, along: float, down: float) -> list[np.ndarray]:
    """Return the point of each section at these fractions of its sides 0 and 3."""
    quads = [one.polygon for one in wafer.truth.sections]
    return [quad[0] + along * (quad[1] - quad[0]) + down * (quad[3] - quad[0]) for quad in quads]


def test_magnets_and_regions_of_one_section_come_to_lie_on_all(wafer):
    magnet, roi = places(wafer, 0.5, 0.85), places(wafer, 0.3, 0.3)
    regions = {3: [Region("roi", roi[3] + np.array([(-3.0, -3), (-3, 3), (3, 3)])), Region("focus", roi[3][None])]}
    template = template_from_annotations(
        wafer.image, wafer.truth, magnets={k: tuple(point) for k, point in enumerate(magnet)}, regions=regions
    )
    found = fit_sections(wafer.image, wafer.detected(), SectionTemplate.from_arrays(template.arrays()))
    assert [part.kind for part in found[0].regions] == ["roi", "focus"]
    for one, at, drawn in zip(found, magnet, roi, strict=True):
        assert np.linalg.norm(np.array(one.magnet) - at) < 1.0
        assert np.linalg.norm(one.regions[1].points[0] - drawn) < 1.0


def test_arrays_hold_the_whole_template(wafer):
    template = template_from_annotations(wafer.image, replace(wafer.truth, sections=wafer.truth.sections[:2]))
    again = SectionTemplate.from_arrays(template.arrays())
    assert (again.image == template.image).all()
    assert (again.corners == template.corners).all()
    assert (again.scale, again.oriented, again.n_sections, again.magnet, again.regions) == (1.0, True, 2, None, ())


def test_parts_of_a_magc_file_are_places_of_row_and_column():
    polygon = ((1, 2), (3, 4), (5, 6))
    magc = MagcWafer(
        sections=(MagcItem(7, polygon=polygon), MagcItem(4, polygon=polygon)),
        magnets=(MagcItem(4, location=(10, 20)), MagcItem(9, location=(0, 0))),
        rois=(MagcItem(7, polygon=polygon),),
        focus=(MagcItem(7, polygon=polygon[:1]),),
        landmarks=(MagcItem(0, location=(5, 6)),),
    )
    magnets, regions, landmarks = parts_of_magc(magc)
    assert magnets == {1: (20.0, 10.0)}
    assert landmarks.tolist() == [[6, 5]]
    assert list(regions) == [0]
    assert [one.kind for one in regions[0]] == ["roi", "focus"]
    assert regions[0][0].points.tolist() == [[2, 1], [4, 3], [6, 5]]


def test_a_wafer_without_sections_has_no_template(wafer):
    with pytest.raises(InputError, match="at least one annotated section; drawn has none"):
        template_from_annotations(wafer.image, replace(wafer.truth, sections=()))


def test_the_quad_of_an_outline_is_exact_between_pixels_though_its_corners_are_round():
    quad = np.array([(10.3, 20.6), (12.1, 85.2), (70.4, 83.9), (69.7, 19.2)])
    found = outline_quad(wavy(quad, np.random.default_rng(0), 0.0))
    distance = np.linalg.norm(found[:, None] - quad, axis=2)
    assert distance.min(1).max() < 0.3
    assert is_clockwise(found)


def test_a_neighbour_on_one_side_does_not_bend_it():
    whole = shapely.box(100, 100, 160, 170)
    bitten = whole.difference(shapely.box(154, 125, 170, 133))
    found = outline_quad(shapely.get_coordinates(bitten)[:-1])
    assert agreement(shapely.Polygon(found), whole) > 0.98


@pytest.mark.parametrize("n", [3, 40])
def test_outlines_without_four_sides_give_their_rectangle(n):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    outline = 50 + 20 * np.column_stack([np.cos(angle), np.sin(angle)])
    found = outline_quad(outline)
    assert shapely.Polygon(found).buffer(4.0).covers(shapely.Polygon(outline))
    assert is_clockwise(found)


@pytest.mark.parametrize("angle", [-135.0, 0.0, 33.0, 180.0])
def test_a_rectangle_along_a_direction_holds_the_outline(angle):
    outline = np.array([(0.0, 0), (4, 9), (10, 3)])
    quad = rectangle_along(outline, angle)
    down, right = quad[1] - quad[0]
    assert np.cos(np.radians(angle) - np.arctan2(right, down)) == pytest.approx(1.0)
    assert shapely.Polygon(quad).buffer(1e-9).covers(shapely.Polygon(outline))
    assert is_clockwise(quad)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("annotated", [True, False])
def test_a_note_says_that_without_annotation_all_angles_share_one_unknown_turn(monkeypatch, wafer, annotated):
    detected = SimpleNamespace(sections=wafer.detected(), notes=())
    monkeypatch.setattr(find, "detect_sections", lambda *_, **__: detected)
    finder = SimpleNamespace(template=None, confidence=float, class_names=("good",))
    template = template_from_annotations(wafer.image, wafer.truth) if annotated else None
    found = find.find_sections(wafer.image, finder, template=template)
    assert (UNORIENTED in found.notes) is not annotated
