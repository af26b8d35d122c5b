"""Fitted sections: quads that agree in corner order, with angles to 360 degrees, from detected outlines.

    start      the quad of the outline's four sides (`emseg.wafer.quads`), in its four turns
    turn       the one in which the wafer's template correlates best
    fit        rotation and shift, refined by ECC against the template (`emseg.wafer.navigation.alignment`)
    size       one scale for the whole wafer: what its clearest sections are stretched by, as their median

A fit that is poor, or far from the outline, invents nothing: the section keeps its outline's rectangle, in the corner
order of the fit, and reports it in `reasons`. Incomplete and folded sections often do.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from emseg.wafer.formats.magc import side_angle_deg
from emseg.wafer.navigation.alignment import Frame, moved, refine, rigid, search
from emseg.wafer.navigation.found import Detected, FoundSection, Region
from emseg.wafer.navigation.template import SectionTemplate, median_template
from emseg.wafer.quads import Quad, agreement, is_clockwise, outline_quad, outline_shape, rectangle_along

FEWEST = 6  # sections from which a wafer's own template is made
LEAST_CORRELATION = 0.4
LEAST_AGREEMENT = 0.8  # overlap of a fit with its outline
LEAST_MARGIN = 0.03  # by which a turn must correlate better than any other
_CLEAREST = 30  # sections from which the wafer's scale is measured
_LOW_SCORE = 0.6
_DISPUTED = 0.7  # votes for the class
_ODD_SIZE = 0.2
_OVERLAP = 0.05
_SAME_SCALE = 0.03  # relative, within which a template's own scale is the wafer's
_RIVAL = 0.15  # correlation of turns before refinement within which both are refined
_POOR = 0.25  # correlation below the wafer's median


def fit_sections(
    image: NDArray[Any],
    detected: Sequence[Detected],
    template: SectionTemplate | None = None,
    *,
    calibrate: Callable[[float], float] = float,
) -> list[FoundSection]:
    """Return the sections of a wafer image, in the order of `detected`.

    Without a template, one is made of the wafer's own sections (`median_template`), where there are `FEWEST` of them;
    with fewer, corners are those of the outlines' rectangles and angles are unknown. `calibrate` turns scores into
    probabilities. `image` needs a shape and slices alone; its parts are read section by section.
    """
    if not detected:
        return []
    quads = [outline_quad(one.outline) for one in detected]
    shapes = [outline_shape(one.outline) for one in detected]
    typical = _typical(image.shape, detected, shapes)
    if template is None and len(typical) >= FEWEST:
        template = median_template(image, np.array([quads[place] for place in typical]))
    fits: list[_Fit | None] = [None] * len(quads)
    if template is not None and typical:
        scale = _scale(image, [quads[place] for place in typical], template)
        fits = [_fit(image, quad, template, scale) for quad in quads]
    usual_area = float(np.median([shapes[place].area for place in typical])) if typical else math.nan
    usual_match = float(np.median([fit.correlation for fit in fits if fit] or [1.0]))
    sections = []
    for one, quad, shape, fit, overlap in zip(detected, quads, shapes, fits, _overlaps(shapes), strict=True):
        reasons = _doubts(one, shape.area / usual_area - 1.0, overlap, image.shape)
        known: dict[str, Any] = {"confidence": calibrate(one.score)}
        corners = quad
        if fit is None and template is not None:
            reasons.append("the template fits nowhere on it")
        if fit is not None and template is not None:
            corners, doubts = _settled(one, quad, shape, fit, usual_match)
            reasons += doubts
            known["angle_deg"] = side_angle_deg(corners) if fit.is_directed else None
            known["confidence"] *= 1.0 - max(0.0, usual_match - fit.correlation)
            known["residual"] = min(1.0 - fit.correlation, 1.0)
            if fit.is_directed:
                known["regions"] = tuple(
                    Region(part.kind, moved(fit.to_image, part.points)) for part in template.regions
                )
                if template.magnet is not None:
                    known["magnet"] = tuple(moved(fit.to_image, np.array([template.magnet]))[0].tolist())
        labels = (one.outline, one.label, one.score, dict(one.votes))
        sections.append(FoundSection(corners, *labels, reasons=tuple(reasons), **known))
    return sections


@dataclass(frozen=True, eq=False)
class _Fit:
    """A template on one section; `margin` is what the other turns correlate less by."""

    to_image: Frame
    corners: Quad
    correlation: float
    margin: float

    @property
    def is_directed(self) -> bool:
        return self.correlation >= LEAST_CORRELATION and self.margin >= LEAST_MARGIN


def _fit(
    image: NDArray[Any], quad: Quad, template: SectionTemplate, scale: float, *, affine: bool = False
) -> _Fit | None:
    """Return the template's fit in the best of four turns, stretched if `affine`; None where none converges."""
    order = quad if is_clockwise(template.corners) else quad[::-1]
    starts = [rigid(template.corners, np.roll(order, turn, 0), scale) for turn in range(4)]
    found = [search(image, template.image, template.side_px, start) for start in starts]
    found.sort(key=lambda one: one.correlation, reverse=True)
    near = [one for one in found if one.correlation > found[0].correlation - _RIVAL]
    refined = [fit for one in near if (fit := refine(one, template.image)) is not None]
    refined.sort(key=lambda one: one.correlation, reverse=True)
    rivals = [one.correlation for one in (*refined[1:], *found[len(near) :])]
    best = refine(refined[0], template.image, affine=True) if affine and refined else next(iter(refined), None)
    if best is None:
        return None
    margin = refined[0].correlation - max(rivals, default=-1.0)
    return _Fit(best.to_image, moved(best.to_image, template.corners), best.correlation, margin)


def _scale(image: NDArray[Any], quads: list[Quad], template: SectionTemplate) -> float:
    """Return pixels of the image for one of the template: the template's own scale where that is near."""
    start = float(np.median([shapely.Polygon(quad).area for quad in quads])) ** 0.5 / template.side_px
    clearest = quads[:: max(len(quads) // _CLEAREST, 1)]
    fits = [_fit(image, quad, template, start, affine=True) for quad in clearest]
    measured = [abs(np.linalg.det(fit.to_image[:2, :2])) ** 0.5 for fit in fits if fit and fit.is_directed]
    scale = float(np.median(measured)) if measured else start
    scale = scale if abs(scale / start - 1.0) < _ODD_SIZE else start
    return template.scale if abs(scale / template.scale - 1.0) < _SAME_SCALE else scale


def _typical(shape: tuple[int, ...], detected: Sequence[Detected], shapes: Sequence[shapely.Geometry]) -> list[int]:
    """Return the places of sections that show what is usual: of one class, whole, of about the median size."""
    counts = Counter(one.label for one in detected)
    label = "good" if counts["good"] else max(counts, key=counts.__getitem__, default="")
    places = [k for k, one in enumerate(detected) if one.label == label and not _at_border(one, shape)]
    usual = np.median([shapes[k].area for k in places] or [1.0])
    return [k for k in places if abs(shapes[k].area / usual - 1.0) < _ODD_SIZE]


def _at_border(one: Detected, shape: tuple[int, ...]) -> bool:
    return bool((one.outline < 1.0).any() or (one.outline > np.array(shape[:2]) - 1.0).any())


def _overlaps(shapes: list[shapely.Geometry]) -> list[float]:
    """Return the largest fraction of each section's area that one other covers."""
    overlaps = [0.0] * len(shapes)
    for one, other in zip(*shapely.STRtree(shapes).query(shapes, predicate="intersects"), strict=True):
        if one != other:
            common = shapely.intersection(shapes[one], shapes[other]).area / max(shapes[one].area, 1e-9)
            overlaps[one] = max(overlaps[one], float(common))
    return overlaps


def _settled(
    one: Detected, quad: Quad, shape: shapely.Geometry, fit: _Fit, usual_match: float
) -> tuple[Quad, list[str]]:
    """Return a section's corners, in the order of the fit, and what is doubtful about them."""
    doubts = []
    if fit.correlation < max(usual_match - _POOR, LEAST_CORRELATION):
        doubts.append(f"poor fit of the template (correlation {fit.correlation:.2f}; usual {usual_match:.2f})")
    elif not fit.is_directed:
        doubts.append(f"direction uncertain (two turns of the template correlate within {fit.margin:.2f})")
    agreed = agreement(shapely.Polygon(fit.corners), shape)
    if fit.correlation >= LEAST_CORRELATION and agreed >= LEAST_AGREEMENT:
        return fit.corners, doubts
    if fit.correlation >= LEAST_CORRELATION:
        quad = rectangle_along(one.outline, side_angle_deg(fit.corners))
        doubts.append(f"the template's quad and the outline agree by {agreed:.0%} only; kept the outline's rectangle")
    order = quad if is_clockwise(fit.corners) else quad[::-1]
    shift = fit.corners.mean(0) - quad.mean(0)
    turns = [np.roll(order, turn, 0) for turn in range(4)]
    return min(turns, key=lambda turned: float(np.linalg.norm(turned + shift - fit.corners))), doubts


def _doubts(one: Detected, odd_size: float, overlap: float, shape: tuple[int, ...]) -> list[str]:
    """Return why a person should look at a detection, its fit aside."""
    first, second = (*sorted(one.votes.items(), key=lambda vote: -vote[1]), ("", 0.0))[:2]
    doubts = {
        f"low score ({one.score:.2f})": one.score < _LOW_SCORE,
        f"class disputed ({first[0]} {first[1]:.0%}, {second[0]} {second[1]:.0%})": second[1] > 1.0 - _DISPUTED,
        f"area {abs(odd_size):.0%} {'above' if odd_size > 0 else 'below'} the median": abs(odd_size) > _ODD_SIZE,
        "cut by the image's border": _at_border(one, shape),
        f"a neighbour overlaps it by {overlap:.0%}": overlap > _OVERLAP,
    }
    return [doubt for doubt, holds in doubts.items() if holds]
