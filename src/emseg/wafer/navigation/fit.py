"""Fitted sections: quads that agree in corner order, with angles to 360 degrees, from detected outlines.

    start      the quad of the outline's four sides (`emseg.wafer.navigation.quads`), in its four turns
    turn       the one in which the wafer's template correlates best
    fit        rotation and shift, refined by ECC against the template (`emseg.wafer.navigation.alignment`)
    size       one scale for the whole wafer: what its clearest sections are stretched by, as their median

A fit that is poor, or far from the outline, invents nothing: the section keeps its outline's rectangle, in the corner
order of the fit, and says so in `reasons`. Incomplete and folded sections often do.
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
from emseg.wafer.navigation.alignment import Alignment, moved, refine, rigid, search
from emseg.wafer.navigation.found import Detected, FoundSection, Region
from emseg.wafer.navigation.quads import Quad, agreement, clockwise, outline_quad, outline_shape, rectangle_along
from emseg.wafer.navigation.template import SectionTemplate, median_template

FEWEST = 6  # sections from which a wafer's own template is made
LEAST_CORRELATION = 0.4
LEAST_AGREEMENT = 0.8  # overlap of a fit with its outline
LEAST_MARGIN = 0.03  # by which a turn must correlate better than any other
_CLEAREST = 30  # sections from which the wafer's scale is measured
_LOW_SCORE = 0.6
_DISPUTED = 0.7  # votes for the class
_ODD_SIZE = 0.2
_OVERLAP = 0.05
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
    quads = [outline_quad(one.outline) for one in detected]
    shapes = [outline_shape(one.outline) for one in detected]
    typical = _typical(image.shape, detected, shapes)
    if template is None and len(typical) >= FEWEST:
        template = median_template(image, np.array([quads[place] for place in typical]))
    fits: list[_Fit | None] = [None] * len(quads)
    if template is not None and typical:
        scale = _scale(image, [quads[place] for place in typical], template)
        fits = [_fit(image, quad, template, scale) for quad in quads]
    overlaps = _overlaps(shapes)
    usual_area = float(np.median([shapes[place].area for place in typical])) if typical else math.inf
    usual_match = float(np.median([fit.correlation for fit in fits if fit] or [1.0]))
    sections = []
    for one, quad, shape, fit, overlap in zip(detected, quads, shapes, fits, overlaps, strict=True):
        reasons = _doubts(one, shape, overlap, usual_area, image.shape)
        corners, angle, doubts = _settled(one, quad, shape, fit, usual_match)
        match = 1.0 if fit is None else 1.0 - max(0.0, usual_match - fit.correlation)
        magnet, regions = _carried(template, fit)
        sections.append(
            FoundSection(
                corners,
                one.outline,
                one.label,
                one.score,
                dict(one.votes),
                angle,
                confidence=calibrate(one.score) * match,
                residual=None if fit is None else min(1.0 - fit.correlation, 1.0),
                magnet=magnet,
                regions=regions,
                reasons=(*reasons, *doubts),
            )
        )
    return sections


@dataclass(frozen=True, eq=False)
class _Fit:
    """A template on one section; `margin` is what the other turns correlate less by."""

    alignment: Alignment
    corners: Quad
    margin: float

    @property
    def correlation(self) -> float:
        return self.alignment.correlation

    @property
    def is_directed(self) -> bool:
        return self.correlation >= LEAST_CORRELATION and self.margin >= LEAST_MARGIN


def _fit(image: NDArray[Any], quad: Quad, template: SectionTemplate, scale: float) -> _Fit | None:
    """Return the template's fit in the best of four turns, None where no refinement converges."""
    order = quad if (clockwise(template.corners) == template.corners).all() else quad[::-1]
    starts = [rigid(template.corners, np.roll(order, turn, 0), scale) for turn in range(4)]
    found = [search(image, template.image, template.side_px, start) for start in starts]
    found.sort(key=lambda one: one.correlation, reverse=True)
    near = [one for one in found if one.correlation > found[0].correlation - _RIVAL]
    refined = [fit for one in near if (fit := refine(one, template.image)) is not None]
    if not refined:
        return None
    refined.sort(key=lambda one: one.correlation, reverse=True)
    rivals = [one.correlation for one in (*refined[1:], *found[len(near) :])]
    return _Fit(refined[0], moved(refined[0].to_image, template.corners), refined[0].correlation - max(rivals))


def _scale(image: NDArray[Any], quads: list[Quad], template: SectionTemplate) -> float:
    """Return pixels of the image for one of the template, the same for all sections of a wafer."""
    start = float(np.median([math.sqrt(shapely.Polygon(quad).area) for quad in quads])) / template.side_px
    measured = []
    for quad in quads[:: max(len(quads) // _CLEAREST, 1)]:
        fit = _fit(image, quad, template, start)
        if fit is None or not fit.is_directed:
            continue
        stretched = refine(fit.alignment, template.image, affine=True)
        if stretched is not None:
            measured.append(math.sqrt(abs(np.linalg.det(stretched.to_image[:2, :2]))))
    scale = float(np.median(measured)) if measured else start
    return scale if abs(scale / start - 1.0) < _ODD_SIZE else start


def _typical(shape: tuple[int, ...], detected: Sequence[Detected], shapes: Sequence[shapely.Geometry]) -> list[int]:
    """Return the places of sections that show what is usual: of one class, whole, of the median size."""
    if not detected:
        return []
    counts = Counter(one.label for one in detected)
    label = "good" if counts["good"] else counts.most_common(1)[0][0]
    places = [k for k, one in enumerate(detected) if one.label == label and not _at_border(one, shape)]
    usual = np.median([shapes[k].area for k in places]) if places else 0.0
    return [k for k in places if abs(shapes[k].area / usual - 1.0) < _ODD_SIZE]


def _at_border(one: Detected, shape: tuple[int, ...]) -> bool:
    return bool((one.outline < 1.0).any() or (one.outline > np.array(shape[:2]) - 1.0).any())


def _overlaps(shapes: list[shapely.Geometry]) -> list[float]:
    """Return the fraction of each section's area that another one covers most of."""
    tree, overlaps = shapely.STRtree(shapes), [0.0] * len(shapes)
    for one, other in zip(*tree.query(shapes, predicate="intersects"), strict=True):
        if one != other:
            common = shapely.intersection(shapes[one], shapes[other]).area / shapes[one].area
            overlaps[one] = max(overlaps[one], float(common))
    return overlaps


def _settled(
    one: Detected, quad: Quad, shape: shapely.Geometry, fit: _Fit | None, usual_match: float
) -> tuple[Quad, float | None, list[str]]:
    """Return a section's corners, its angle where known, and what is doubtful about them."""
    if fit is None:
        return quad, None, []
    doubts = []
    if fit.correlation < usual_match - _POOR or fit.correlation < LEAST_CORRELATION:
        doubts.append(f"poor fit of the template (correlation {fit.correlation:.2f}; usual {usual_match:.2f})")
    elif not fit.is_directed:
        doubts.append(f"direction uncertain (two turns of the template correlate within {fit.margin:.2f})")
    corners, agreed = fit.corners, agreement(shapely.Polygon(fit.corners), shape)
    if fit.correlation < LEAST_CORRELATION:
        corners = _in_order_of(fit.corners, quad)
    elif agreed < LEAST_AGREEMENT:
        corners = _in_order_of(fit.corners, rectangle_along(one.outline, side_angle_deg(fit.corners)))
        doubts.append(f"the template's quad and the outline agree by {agreed:.0%} only; kept the outline's rectangle")
    return corners, side_angle_deg(corners) if fit.is_directed else None, doubts


def _in_order_of(model: Quad, quad: Quad) -> Quad:
    """Return the corners of `quad` in the order of those of `model` that are in the same direction."""
    winding = quad if (clockwise(model) == model).all() else quad[::-1]
    turns = [np.roll(winding, turn, 0) for turn in range(4)]
    center = model.mean(0) - quad.mean(0)
    return min(turns, key=lambda turned: float(np.linalg.norm(turned + center - model)))


def _carried(
    template: SectionTemplate | None, fit: _Fit | None
) -> tuple[tuple[float, float] | None, tuple[Region, ...]]:
    """Return the template's magnet and regions where they lie on the section; none where it hardly fits."""
    if template is None or fit is None or fit.correlation < LEAST_CORRELATION:
        return None, ()
    frame = fit.alignment.to_image
    regions = tuple(Region(one.kind, moved(frame, one.points)) for one in template.regions)
    if template.magnet is None:
        return None, regions
    row, column = moved(frame, np.array([template.magnet]))[0]
    return (float(row), float(column)), regions


def _doubts(
    one: Detected, shape: shapely.Geometry, overlap: float, usual_area: float, size: tuple[int, ...]
) -> list[str]:
    """Return why a person should look at a detection, its fit aside."""
    doubts = []
    if one.score < _LOW_SCORE:
        doubts.append(f"low score ({one.score:.2f})")
    first, *others = sorted(one.votes.items(), key=lambda vote: -vote[1])
    if others and first[1] < _DISPUTED:
        doubts.append(f"class disputed ({first[0]} {first[1]:.0%}, {others[0][0]} {others[0][1]:.0%})")
    if abs(shape.area / usual_area - 1.0) > _ODD_SIZE and math.isfinite(usual_area):
        odd = shape.area / usual_area - 1.0
        doubts.append(f"area {abs(odd):.0%} {'above' if odd > 0 else 'below'} the median")
    if _at_border(one, size):
        doubts.append("cut by the image's border")
    if overlap > _OVERLAP:
        doubts.append(f"a neighbour overlaps it by {overlap:.0%}")
    return doubts
