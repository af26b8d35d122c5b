"""With a severity each defect takes the share of its section that was asked for; without one nothing has changed."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from emseg.errors import UsageError
from emseg.synthetic.wafer import Severity, WaferDesign, synthesize_wafer
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.benchmark_design import preset
from emseg.synthetic.wafer.layout import cut_sections
from emseg.synthetic.wafer.section_shape import draw_shape

LENGTH, WIDTH = 120.0, 86.0
SMOOTH = np.zeros((64, 64), dtype=np.float32)  # a texture that displaces no border
FINE = 2  # samples a pixel along each side, so that the measure is another than the drawing's own


def lost(shape) -> float:
    """Return the share of its block that a section has lost, from covers that are drawn `FINE` times as large."""
    frame, box = np.array([136.0, 104.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 272, 208])
    side, fold, disc, tear = shape.side.copy(), shape.fold.copy(), shape.disc.copy(), shape.tear.copy()
    side[:, 2] *= FINE
    side[:, 3] /= FINE
    fold[:, 2:4] *= FINE
    fold[:, 4] /= FINE
    disc[:, :3] *= FINE
    tear[:, [0, 1, 4, 5, 6]] *= FINE
    tear[:, 7] /= FINE
    areas = [
        kernels.cover_section(frame, box, sides, *others, SMOOTH, np.zeros(2)).sum(dtype=np.int64)
        for sides, others in ((side, (fold, disc, tear)), (side[:4], (fold[:0], disc[:0], tear[:0])))
    ]
    return 1.0 - areas[0] / areas[1]


@pytest.mark.parametrize(
    ("quality", "kind"),
    [("incomplete", "missing"), ("fold", "folded"), ("damaged", "torn")],
)
@pytest.mark.parametrize("width", [WIDTH, 0.56 * LENGTH])
def test_a_defect_takes_at_least_and_at_most_what_was_asked_for(quality, kind, width):
    severity = Severity(missing=(0.3, 0.5), folded=(0.15, 0.25), torn=(0.12, 0.3))
    shares = []
    for k in range(30):
        rng = np.random.default_rng((3, k))
        shape = draw_shape(quality, LENGTH, width, None, rng.uniform(0.25, 0.6), rng, severity)
        shares.append(lost(shape))
    least, greatest = getattr(severity, kind)
    assert min(shares) > least - 0.01
    assert max(shares) < greatest + 0.01
    assert max(shares) - min(shares) > 0.5 * (greatest - least)


def test_without_a_severity_half_of_the_damage_is_smaller():
    """What the severity is for: the same draws without it."""
    shares = [lost(draw_shape("damaged", LENGTH, WIDTH, None, 0.0, np.random.default_rng((3, k)))) for k in range(40)]
    assert np.median(shares) < 0.12


def test_a_good_section_is_the_same_with_a_severity():
    one, other = (
        draw_shape("good", LENGTH, WIDTH, None, 0.0, np.random.default_rng(1), severity)
        for severity in (None, Severity())
    )
    assert np.array_equal(one.side, other.side)
    assert lost(other) == 0.0


def test_the_places_that_must_be_seen_lie_on_the_new_cut():
    shape = draw_shape("incomplete", LENGTH, WIDTH, None, 0.5, np.random.default_rng(2), Severity())
    assert shape.defect @ shape.side[4, :2] == pytest.approx([shape.side[4, 2]] * 3)


def test_sections_of_a_new_knife_still_miss_less_and_less():
    design = WaferDesign(
        n_sections=300, section_length_px=40, incomplete=0.45, good=0.55, fold=0.0, damaged=0.0,
        stuck_share=0.7, overlapping_share=0.0, piled_share=0.0, severity=Severity(),
    )  # fmt: skip
    falls = []
    for group in cut_sections(design, np.random.default_rng(5)):
        shares = [lost(shape) for shape in group.shapes[:4] if shape.quality == "incomplete"]
        falls += [first - second for first, second in pairwise(shares)]
    assert len(falls) >= 20
    assert np.mean(np.array(falls) > 0) > 0.8  # the last of a run may be a chance neighbour


@pytest.mark.parametrize("background", ["silicon", "tape"])
def test_the_tone_of_folds_can_be_chosen(background):
    """Folded sections grow lighter or darker by it: those of one wafer, drawn twice."""
    design = WaferDesign(600, 600, 64, background=background, good=0.0, incomplete=0.0, fold=1.0, damaged=0.0, dust=0.0)
    darker, lighter = (
        synthesize_wafer(replace(design, fold_tone=tone), seed=4).image.astype(float) for tone in ("darker", "lighter")
    )
    changed = np.abs(lighter - darker) > 25
    assert changed.mean() > 0.02
    assert (lighter > darker)[changed].all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"missing": (0.5, 0.3)}, r"`missing` must be two fractions .* between 0\.02 and 0\.7; got \(0\.5, 0\.3\)"),
        ({"folded": (0.1, 0.6)}, r"`folded` must be two fractions .* between 0\.02 and 0\.35; got \(0\.1, 0\.6\)"),
        ({"torn": (0.0, 0.3)}, r"`torn` must be two fractions .* between 0\.02 and 0\.4; got \(0\.0, 0\.3\)"),
        ({"torn": 0.3}, r"`torn` must be a list; got 0\.3"),
        ({"torn": (0.1, 0.2, 0.3)}, r"`torn` must be two fractions"),
        ({"torn": (0.1, math.nan)}, r"`torn` must be two fractions"),
        ({"torn": (0.1, "0.3")}, r"`torn\.1` must be a number; got '0\.3'"),
    ],
)
def test_a_severity_that_cannot_be_is_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        Severity(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"severity": 0.3}, r"`severity` must be an instance of severity; got 0\.3"),
        (
            {"fold_tone": "light"},
            r"`fold_tone` must be one of 'either', 'lighter', 'darker'; got 'light'\. Did you mean 'ligh",
        ),
    ],
)
def test_a_wafer_with_such_a_wish_is_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        WaferDesign(**changed)


# Drawn by version 1 of the generator before severities came: pixels and truth of the presets that records name.
DRAWN = {
    ("smoke", 0): "27bfa381af07a4ba",
    ("smoke", 1): "e062b43f9cc868ac",
    ("laptop", 0): "60cdf81be82c8826",
    ("laptop", 1): "20413d13884ded93",
}


@pytest.mark.parametrize("drawn", DRAWN)
def test_wafers_of_the_older_presets_are_what_they_were(drawn):
    name, number = drawn
    assert synthesize_wafer(preset(name).wafer(number), seed=number).fingerprint() == DRAWN[drawn]
