"""Finding: from an image to a result with quads, orders, candidates and what a user should know."""

from dataclasses import replace

import numpy as np
import pytest
from wafer.navigation.drawn_sections import draw_wafer, tissue
from wafer.navigation.drawn_wafers import KNOWN_PX, DrawnNetwork, draw, drawn_finder, matched, ribbons

from emseg.errors import UsageError
from emseg.synthetic.wafer import WaferDesign, synthesize_wafer
from emseg.wafer.navigation import detect, find
from emseg.wafer.navigation.detect import WaferDetections, estimate_section_size
from emseg.wafer.navigation.find import MIRRORED, find_sections
from emseg.wafer.navigation.finder import Calibration, load_finder
from emseg.wafer.navigation.template import UNORIENTED, SectionTemplate, template_from_annotations
from emseg.wafer.wafer_source import open_wafer_image

QUADS, SIZE = ribbons(2, 8, KNOWN_PX)
IMAGE = draw(QUADS, SIZE)
SIZED = {"section_size_px": KNOWN_PX}


@pytest.fixture
def network(monkeypatch):
    stand_in = DrawnNetwork()
    monkeypatch.setattr(detect, "predict_soft", stand_in)
    return stand_in


def test_a_result_has_every_section_with_quad_class_and_stage_order(network):
    found = find_sections(IMAGE, drawn_finder(), name="drawn", **SIZED)
    assert (found.name, found.height, found.width) == ("drawn", *SIZE)
    assert matched(found.sections, QUADS).min() > 0.9
    centers = np.array([one.corners.mean(0) for one in found.sections])
    truth = np.array([corners.mean(0) for corners in QUADS])
    assert np.linalg.norm(centers[:, None] - truth, axis=2).min(1).max() < KNOWN_PX / 8  # they have no texture to fit
    assert sorted(found.stage_order) == list(range(len(QUADS)))
    found.annotated()  # a valid annotated wafer


def test_an_empty_wafer_is_an_empty_valid_result(network):
    found = find_sections(draw([], SIZE), drawn_finder(), expected=12, **SIZED)
    assert (found.sections, found.candidates) == ((), ())
    assert "0 sections were found, 12 expected; nothing else was seen." in found.notes
    found.annotated()


class Doubting(DrawnNetwork):
    """Sees the sections of grey 60 to 64 less well."""

    def detect(self, tile):
        found = super().detect(tile)
        greys = [int(np.median(tile[int(t) + 8 : int(b) - 8, int(x) + 8 : int(y) - 8])) for t, x, b, y in found.boxes]
        scores = np.where(np.array(greys) < 65, 0.3 + np.array(greys) / 1000, 0.9)
        return replace(found, scores=scores.astype(np.float32))


def test_the_likeliest_misses_are_kept_best_first_where_the_count_is_short(monkeypatch):
    monkeypatch.setattr(detect, "predict_soft", Doubting())
    found = find_sections(IMAGE, drawn_finder(), expected=len(QUADS), **SIZED)
    assert (len(found.sections), len(found.candidates)) == (11, 5)
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert max(scores) < 0.5
    assert all(one.reasons == ("score below 0.5",) for one in found.candidates)
    assert "11 sections were found, 16 expected; the 5 likeliest misses are kept for review." in found.notes
    lower = find_sections(IMAGE, drawn_finder(), threshold=0.2, expected=len(QUADS), **SIZED)
    assert len(lower.sections) == len(QUADS)
    assert not any("expected" in note for note in lower.notes)


def test_a_template_of_other_sections_in_the_weights_gives_way_to_the_wafers_own(network):
    noise = np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32)
    other = SectionTemplate(noise, np.array([[16.0, 16], [16, 80], [80, 80], [80, 16]]), 1.0, True, 5)
    found = find_sections(IMAGE, drawn_finder(template=other), **SIZED)
    assert "The template in the weights is of other sections; this wafer's own median was used." in found.notes
    assert UNORIENTED in found.notes
    insisted = find_sections(IMAGE, drawn_finder(), template=other, **SIZED)  # what the user gives is not replaced
    assert all(one.reasons for one in insisted.sections)
    assert not any("own median" in note for note in insisted.notes)


def test_a_mirrored_template_is_noticed_and_not_used(monkeypatch):
    """That of a wafer photographed through its back; one of the same wafer, and one of symmetric tissue, are not."""
    wafer = draw_wafer(12)
    detected = WaferDetections(tuple(wafer.detected()), 64.0, ())
    monkeypatch.setattr(find, "detect_sections", lambda *_, **__: detected)
    template = template_from_annotations(wafer.image, wafer.truth)
    upright = find_sections(wafer.image, drawn_finder(template=template))
    assert MIRRORED not in upright.notes
    assert UNORIENTED not in upright.notes
    flipped = find_sections(wafer.image, drawn_finder(template=template.mirrored()))
    assert MIRRORED in flipped.notes
    assert {"This wafer's own median was used.", UNORIENTED} <= {*flipped.notes}
    assert all(one.residual < 0.3 for one in flipped.sections)
    insisted = find_sections(wafer.image, drawn_finder(), template=template.mirrored())
    assert MIRRORED in insisted.notes
    assert UNORIENTED not in insisted.notes
    symmetric = draw_wafer(12, look=np.maximum(tissue(), tissue()[:, ::-1]))
    detected = WaferDetections(tuple(symmetric.detected()), 64.0, ())
    same = template_from_annotations(symmetric.image, symmetric.truth)
    assert MIRRORED not in find_sections(symmetric.image, drawn_finder(template=same)).notes


def test_more_sections_than_expected_are_said(network):
    found = find_sections(IMAGE, drawn_finder(), expected=10, **SIZED)
    assert "16 sections were found, 10 expected: look at the least certain ones first." in found.notes


def test_confidence_is_calibrated(network):
    finder = drawn_finder(calibration=Calibration(1.0, -2.0, 100, 90))
    found = find_sections(IMAGE, finder, **SIZED)
    assert max(one.confidence for one in found.sections) <= float(finder.confidence(0.9)) + 1e-6


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"threshold": 0.0}, "`threshold` must be a finite number at least 0.1"),
        ({"expected": -1}, "`expected` must be a whole number of at least 0"),
        ({"pixel_size_um": 0.0}, "`pixel_size_um` must be a finite number greater than 0"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused_before_any_work(network, option, message):
    with pytest.raises(UsageError, match=message):
        find_sections(IMAGE, drawn_finder(), **option)
    assert network.tiles == []


def test_estimation_without_sections_says_nothing(network):

    assert estimate_section_size(drawn_finder(), open_wafer_image(draw([], SIZE))) is None


def test_the_section_size_of_a_whole_synthetic_wafer_is_estimated(monkeypatch):
    """By the network that ships, of sections twice as large as it knows, within 15 %."""
    monkeypatch.setattr(detect, "_SMALLEST_PX", 27.0)  # smaller ones cost most of the time
    made = synthesize_wafer(WaferDesign(1000, 1000, 150.0), seed=3)
    size = float(np.sqrt(np.median([one.area_px for one in made.truth.sections if one.label == "good"])))
    assert estimate_section_size(load_finder(device="cpu"), open_wafer_image(made.image)) == pytest.approx(
        size, rel=0.15
    )
