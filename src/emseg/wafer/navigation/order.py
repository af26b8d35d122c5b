"""The orders of a wafer's sections: the order of cutting, where ribbons show it, and a short path of the stage.

Serial order. Sections of one ribbon lie edge to edge: facing sides of neighbours are parallel and nearly coincide.
With a section's side s of length w, its depth d behind that side, and the offset (gap, across) from the middle of side
s of a to the middle of side s + 2 of b, section b follows a, and each is the other's nearest, where

    |angle(b) - angle(a)| <= 20 degrees        -0.5 d <= gap <= 0.15 d        |across| <= 0.3 w

The sides with most such links are those of the ribbons. Links of the other sides occur by chance, so n' of those beside
n links give a certainty of 1 - (n' + 1) / (n + 1). Parts of a broken ribbon are joined where gap <= d, the turn is at
most 10 degrees and across <= 0.1 w. Which end was cut first does not show (`next_side` states it), nor does the order
of the runs, which follows the stage's path.

Stage order. An open path through all centres that is short: a travelling salesman's tour with one more place, at
distance 0 from all, by Lin-Kernighan moves (fast-tsp). How short it can be is bounded from below by the 1-tree of Held
and Karp, here for a path: with any potentials p of the n centres and distances c,

    L >= min over spanning trees of sum (c_ij + p_i + p_j) + the two smallest p - 2 sum p

and the potentials follow p += t (degree - 2).

Source: Held and Karp, Operations Research 18:1138 (1970); Helsgaun, European Journal of Operational Research 126:106
(2000); https://github.com/shmulvad/fast-tsp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit
from scipy.spatial import cKDTree

from emseg.checks import require_count
from emseg.wafer.navigation.found import FoundSection, FoundWafer

Points = Float64[np.ndarray, "point 2"]
Order = tuple[int, ...]

_MAX_UPON = 0.5
_TOUCH, _BREAK = (0.15, 20.0, 0.3), (1.0, 10.0, 0.1)  # largest gap / d, turn in degrees, across / w
LEAST_CONFIDENCE = 0.5  # in a step of the serial order; below, it is left open
_FULL = np.iinfo(np.uint16).max
_NOTES = ("serial order ", "stage path ")  # how ours begin; an earlier ordering's are replaced


@dataclass(frozen=True)
class PathLengths:
    """Lengths of the paths through the centres, in `unit`; no path through all is shorter than `bound`.

    `serial` is None where the order of cutting is unknown, and covers the `n_serial` sections in it.
    """

    stage: float
    bound: float
    serial: float | None
    n_serial: int
    unit: str

    @property
    def sentence(self) -> str:
        """The lengths in one sentence."""
        above = 100 * (self.stage / self.bound - 1) if self.bound > 0 else 0.0
        text = f"stage path {self.stage:,.0f} {self.unit}, at most {above:.1f} % above the shortest"
        if self.serial is None:
            return text + "; serial order unknown"
        return text + f"; path in serial order {self.serial:,.0f} {self.unit} ({self.n_serial} sections)"


def order_sections(found: FoundWafer, *, next_side: int | None = None, seconds: float | None = None) -> FoundWafer:
    """Return the wafer with its stage order and, where ribbons show it, its serial order; notes state both.

    A known serial order is kept. `next_side` (0 to 3) is the side of a section on which the next cut lies; None takes
    side 1 or 2, whichever direction the ribbons have, and a note states that it is assumed. `seconds` limits the search
    for a short path (default: 1 for 1,000 sections, at most 5). The serial order contains only the sections in
    ribbons; it is left open where the confidence in a step is below 0.5. Raises `UsageError` for an impossible
    `next_side`.
    """
    centers = centers_of(found.sections)
    stage = shortest_path(centers, seconds=seconds)
    serial, notes = found.serial_order, [note for note in found.notes if not note.startswith(_NOTES)]
    if serial is None and len(centers) > 1:
        runs, confidence = find_ribbons(found.sections, next_side=next_side)
        said = f"(confidence {confidence:.2f})"
        if confidence < LEAST_CONFIDENCE:
            notes.append(f"serial order not visible: too few sections lie edge to edge in ribbons {said}")
        else:
            place = {section: number for number, section in enumerate(stage)}
            in_order = sorted(runs, key=lambda run: min(place[section] for section in run))
            serial = tuple(section for run in in_order for section in run)
            text = f"serial order of {len(serial)} of {len(centers)} sections along ribbons {said}"
            text += "; the order of its ribbons is not visible" if len(runs) > 1 else ""
            notes.append(text + ("; which end was cut first is assumed" if next_side is None else ""))
    ordered = replace(found, serial_order=serial, stage_order=stage)
    if len(centers) > 1:
        notes.append(path_lengths(ordered).sentence)
    return replace(ordered, notes=tuple(notes))


def path_lengths(found: FoundWafer, classes: Sequence[str] | None = None) -> PathLengths:
    """Return the lengths of the paths through sections of these classes, in um with a known pixel size, else px."""
    chosen = {place for place, one in enumerate(found.sections) if classes is None or one.label in classes}
    centers = centers_of(found.sections) * (found.pixel_size_um or 1.0)
    serial = [place for place in found.serial_order or () if place in chosen]
    path = [place for place in found.stage_order or range(len(centers)) if place in chosen]
    stage, unit = path_length(centers, path), "px" if found.pixel_size_um is None else "um"
    bound = path_bound(centers[path], stage)
    return PathLengths(stage, bound, path_length(centers, serial) if serial else None, len(serial), unit)


def centers_of(sections: Sequence[FoundSection]) -> Points:
    """Return the centres (row, column) of the sections' quads, in pixels."""
    return np.array([one.corners.mean(0) for one in sections], dtype=np.float64).reshape(-1, 2)


def path_length(points: Points, order: Sequence[int]) -> float:
    """Return the length of the open path through the points in this order."""
    steps = np.diff(points[np.asarray(order, dtype=np.int64)], axis=0)
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum())


def shortest_path(points: Points, *, seconds: float | None = None) -> Order:
    """Return a short open path through all points, as their indices; it begins at the end nearer to (0, 0).

    A good path, not proven the shortest: compare with `path_bound`. Memory: 2 bytes for each pair of points.
    """
    import fast_tsp

    n = len(points)
    if n < 3:
        return tuple(range(n))
    scale = _FULL / max(float(np.hypot(*np.ptp(points, axis=0))), 1e-9)
    distances = np.zeros((n + 1, n + 1), dtype=np.uint16)  # place 0 is at distance 0 from all: it cuts the tour open
    for number, point in enumerate(points, start=1):
        distances[number, 1:] = np.rint(scale * np.hypot(*(points - point).T))
    limit = float(np.clip(n / 1000, 0.05, 5.0)) if seconds is None else seconds
    tour = fast_tsp.find_tour(distances, duration_seconds=limit)
    start = tour.index(0)
    path = [place - 1 for place in (*tour[start + 1 :], *tour[:start])]
    return tuple(path if points[path[0]].sum() <= points[path[-1]].sum() else path[::-1])


def path_bound(points: Points, length: float) -> float:
    """Return a length that no open path through all points falls below; `length` is that of a known path."""
    n = len(points)
    if n < 3:
        return float(length)
    potential, best, pace = np.zeros(n), 0.0, 1.0
    for _ in range(150 if n <= 2000 else 50):
        cost, degree = _spanning_tree(np.ascontiguousarray(points, dtype=np.float64), potential)
        ends = np.argpartition(potential, 1)[:2]
        bound = cost + potential[ends].sum() - 2 * potential.sum()
        degree[ends] += 1
        excess = (degree - 2).astype(np.float64)
        pace *= 1.0 if bound > best else 0.9
        best = max(best, float(bound))
        if not excess.any() or best >= length:
            break
        potential = potential + pace * max(length - bound, 0.0) / (excess @ excess) * excess
    return min(best, float(length))


@njit(cache=True)
def _spanning_tree(
    points: Points, potential: Float64[np.ndarray, " point"]
) -> tuple[float, Int64[np.ndarray, " point"]]:
    """Cost and degrees of the least spanning tree under distance + potentials of both ends (Prim)."""
    n = len(points)
    degree, nearest = np.zeros(n, np.int64), np.zeros(n, np.int64)
    cost, least, outside = 0.0, np.full(n, np.inf), np.ones(n, np.bool_)
    at = 0
    for _ in range(n - 1):
        outside[at] = False
        best = -1
        for other in range(n):
            if outside[other]:
                y, x = points[other, 0] - points[at, 0], points[other, 1] - points[at, 1]
                away = np.sqrt(y * y + x * x) + potential[other] + potential[at]
                if away < least[other]:
                    least[other], nearest[other] = away, at
                if best < 0 or least[other] < least[best]:
                    best = other
        cost += least[best]
        degree[best] += 1
        degree[nearest[best]] += 1
        at = best
    return cost, degree


def find_ribbons(sections: Sequence[FoundSection], *, next_side: int | None = None) -> tuple[tuple[Order, ...], float]:
    """Return the runs of sections that lie edge to edge, up to their common direction, and the confidence in a step.

    The corners of all sections must agree. Sections alone are in no run. The confidence is the links' certainty times
    the fraction of steps, all runs in a row, that are links.
    """
    if next_side is not None:
        require_count("next_side", next_side, 0, 3)
    links = [_links(sections, side, _TOUCH, {}) for side in range(4)]
    side = max((1, 2), key=lambda one: len(links[one])) if next_side is None else next_side
    by_chance = max(len(links[(side + 1) % 4]), len(links[(side + 3) % 4]))
    certainty = max(0.0, 1 - (by_chance + 1) / (len(links[side]) + 1))
    runs = _runs(_links(sections, side, _BREAK, links[side]))
    n_in_runs = sum(map(len, runs))
    return runs, certainty * (n_in_runs - len(runs)) / max(n_in_runs - 1, 1)


def _links(
    sections: Sequence[FoundSection], side: int, limits: tuple[float, float, float], taken: dict[int, int]
) -> dict[int, int]:
    """`taken` with further links: each section's neighbour on `side`, where each is the other's nearest."""
    known = [place for place, one in enumerate(sections) if one.angle_deg is not None]
    if len(known) < 2:
        return taken
    max_gap, max_turn_deg, max_across = limits
    corners = np.roll([sections[place].corners for place in known], -side, axis=1)
    angles = np.array([sections[place].angle_deg for place in known], dtype=np.float64)
    first, last = corners[:, 0], corners[:, 1]
    front, back = (first + last) / 2, (corners[:, 2] + corners[:, 3]) / 2
    depth, width = np.linalg.norm(front - back, axis=1), np.linalg.norm(last - first, axis=1)
    ahead, along = (front - back) / depth[:, None], (last - first) / width[:, None]
    reach = np.hypot(max(max_gap, _MAX_UPON) * depth, max_across * width)
    found = []
    for a, near in enumerate(cKDTree(back).query_ball_point(front, reach)):
        for b in set(near) - {a}:
            gap, across = ahead[a] @ (back[b] - front[a]) / depth[a], abs(along[a] @ (back[b] - front[a])) / width[a]
            turn_deg = abs((angles[b] - angles[a] + 180) % 360 - 180)
            if turn_deg <= max_turn_deg and across <= max_across and -_MAX_UPON <= gap <= max_gap:
                found.append((abs(gap) + across + turn_deg / 90, known[a], known[b]))
    links, followed = dict(taken), set(taken.values())
    for _, one, following in sorted(found):
        if one not in links and following not in followed:
            links[one] = following
            followed.add(following)
    return links


def _runs(links: dict[int, int]) -> tuple[Order, ...]:
    """The chains of links; a ring has no beginning and is left out."""
    runs = [[start] for start in sorted(set(links) - set(links.values()))]
    for run in runs:
        while run[-1] in links:
            run.append(links[run[-1]])
    return tuple(map(tuple, runs))
