"""From what overlapping tiles show to whole sections, none doubled and no two that touch made one.

Two outlines A and B are of the same section where |A and B| / |A or B| >= 0.4. Neighbours that overlap by 30 % of their
area reach 0.18, two views of one section usually 0.8, so that the rule is not delicate. Boxes would not do: those of
touching oblique sections overlap by a third.

    cut     reaches an inner border of its tile: a neighbouring tile shows the section whole
    part    at least 3/4 of it lies in a better detection that is larger
    fused   much larger than usual, and filled by two or more other detections that leave each other alone

All three are dropped; a cut one that no whole one covers stays at half its score, which makes it a candidate for
review. The score of a section is the mean, over all tiles that contain it whole, of its probability there: the sum over
the classes of the best score for each, for a section whose class is in doubt is a section all the same. It is 0 where
the network saw nothing: one tile's error is outvoted. So are classes: votes are the sums of the scores for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.wafer.navigation.found import Detected

SAME = 0.4  # intersection over union
INSIDE = 0.75  # fraction of the smaller one's area
FUSED_AREA = 1.4  # times the median area
FUSED_FILLED = 0.7  # fraction of a fused outline's area that its sections fill
CUT_FACTOR = 0.5
_RELIABLE = 0.5  # score of the detections whose median area is the usual one


@dataclass(frozen=True, eq=False)
class Seen:
    """One detection in one tile, its outline in pixels of the wafer image; `whole`: no inner border cuts it."""

    outline: Float64[np.ndarray, "vertex 2"]
    score: float
    label: str
    tile: int
    whole: bool


def merge_detections(seen: Sequence[Seen], tiles: Float64[np.ndarray, "tile 4"], margin: float) -> list[Detected]:
    """Return the sections behind the detections of all tiles, best first.

    `tiles` are (top, left, bottom, right) in pixels of the wafer image, infinite at the image's own borders; a tile
    contains a section whole that stays `margin` pixels away from its sides.
    """
    if not seen:
        return []
    shapes = np.array([_polygon(one.outline) for one in seen])
    areas, scores = shapely.area(shapes), np.array([one.score for one in seen])
    whole = np.array([one.whole for one in seen])
    overlaps = _Overlaps(shapes, areas)
    alive = (areas > 0) & ~_fused(overlaps, areas, scores, whole)
    owner = np.full(len(seen), -1)
    for place in np.lexsort((-scores, ~whole)):
        if not alive[place] or owner[place] >= 0:
            continue
        owner[place] = place
        others, shared = overlaps.of(int(place))
        free = alive[others] & (owner[others] < 0)
        same = free & (shared / (areas[place] + areas[others] - shared) >= SAME)
        part = free & ~same & (areas[others] < areas[place]) & (shared >= INSIDE * areas[others])
        owner[others[same]] = place
        alive[others[part]] = False
    found = [_voted(seen, np.flatnonzero(owner == leader), leader, tiles, margin) for leader in np.unique(owner[alive])]
    return sorted(found, key=lambda one: -one.score)


class _Overlaps:
    """Areas that detections share, for each with all that it meets."""

    def __init__(self, shapes: NDArray[np.object_], areas: NDArray[np.float64]) -> None:
        first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        kept = first != second
        first, second = first[kept], second[kept]
        order = np.argsort(first, kind="stable")
        self.others = second[order]
        self.shared = shapely.area(shapely.intersection(shapes[first[order]], shapes[self.others]))
        self.starts = np.searchsorted(first[order], np.arange(len(areas) + 1))

    def of(self, place: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the detections that one meets, and the area shared with each."""
        own = slice(self.starts[place], self.starts[place + 1])
        return self.others[own], self.shared[own]

    def between(self, one: int, other: int) -> float:
        """Return the area shared by two."""
        others, shared = self.of(one)
        return float(shared[others == other].sum())


def _fused(
    overlaps: _Overlaps, areas: NDArray[np.float64], scores: NDArray[np.float64], whole: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which detections cover two or more sections that were also seen alone."""
    fused = np.zeros(len(areas), bool)
    usual = areas[whole & (scores >= _RELIABLE)]
    if not usual.size:
        return fused
    large = np.flatnonzero(areas > FUSED_AREA * np.median(usual))
    for place in large:
        others, shared = overlaps.of(int(place))
        small = whole[others] & (areas[others] < areas[place] / FUSED_AREA) & (shared >= INSIDE * areas[others])
        small &= scores[others] >= scores[place] / 2
        alone: list[int] = []
        for other in others[small][np.argsort(-scores[others[small]], kind="stable")]:
            if all(overlaps.between(other, kept) < SAME * min(areas[other], areas[kept]) for kept in alone):
                alone.append(int(other))
        filled = sum(overlaps.between(int(place), other) for other in alone)
        fused[place] = len(alone) >= 2 and filled >= FUSED_FILLED * areas[place]
    return fused


def _voted(
    seen: Sequence[Seen],
    members: NDArray[np.intp],
    leader: int,
    tiles: Float64[np.ndarray, "tile 4"],
    margin: float,
) -> Detected:
    """Return one section: the outline of its leading detection, score and class by the vote of tiles."""
    outline = seen[leader].outline
    best: dict[int, dict[str, float]] = {}
    votes: dict[str, float] = {}
    for member in members:
        one = seen[member]
        votes[one.label] = votes.get(one.label, 0.0) + one.score
        if one.whole or not seen[leader].whole:
            of_classes = best.setdefault(one.tile, {})
            of_classes[one.label] = max(of_classes.get(one.label, 0.0), one.score)
    (top, left), (bottom, right) = outline.min(0) - margin, outline.max(0) + margin
    holds = (tiles[:, :2] <= (top, left)).all(1) & (tiles[:, 2:] >= (bottom, right)).all(1)
    electors = set(np.flatnonzero(holds).tolist()) | set(best)
    score = sum(min(sum(one.values()), 1.0) for one in best.values()) / len(electors)
    score *= 1.0 if seen[leader].whole else CUT_FACTOR
    total = sum(votes.values()) or 1.0
    return Detected(outline, float(score), {label: vote / total for label, vote in sorted(votes.items())})


def _polygon(outline: Float64[np.ndarray, "vertex 2"]) -> shapely.Geometry:
    shape = shapely.Polygon(outline) if len(outline) >= 3 else shapely.Polygon()
    return shape if shape.is_valid else shape.buffer(0)
