"""The visible outline of each section, from the pixels that it covers and those that lie on it.

From the top down: visible = cover x product over the sections above of (1 - their cover). Its contour at one half,
found between pixels (marching squares), is the polygon: the largest piece where the section shows in several. A section
is taken off the wafer where too little of it is to be seen, where what makes its class is hidden, or where another lies
within its outline; so the truth holds nothing that nobody can see.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from jaxtyping import Float64, Int64, UInt8

from emseg.synthetic.wafer import kernels
from emseg.synthetic.wafer.layout import Placed

SMALLEST_VISIBLE = 0.40  # of what the section covers, in one piece
SMALLEST_SEEN_DEFECT = 0.6
LARGEST_WITHIN = 0.04  # of the outline's area may be covered by others


@dataclass(frozen=True)
class Visible:
    """A section that can be seen: what it covers of `box` (first row, first column, rows, columns), and its outline."""

    placed: Placed
    box: Int64[np.ndarray, "4"]
    cover: UInt8[np.ndarray, "rows columns"]
    polygon: Float64[np.ndarray, "vertex 2"]
    shift: Float64[np.ndarray, "2"]


def visible_sections(
    placed: list[Placed], shifts: Float64[np.ndarray, "section 2"], texture: np.ndarray, length: float
) -> list[Visible]:
    """Return the sections that can be seen, the lowest first."""
    boxes = np.array([pixel_box(one) for one in placed], dtype=np.int64).reshape(-1, 4)
    kept: list[Visible] = []
    kept_boxes = np.zeros((len(placed), 4), dtype=np.int64)
    for k in range(len(placed) - 1, -1, -1):
        one, box = placed[k], boxes[k]
        shape = one.shape
        cover = kernels.cover_section(
            one.frame, box, shape.side, shape.fold, shape.disc, shape.tear, texture, shifts[k]
        )
        above = np.zeros(cover.shape, dtype=np.float32)
        for m in _touching(box, kept_boxes[: len(kept)]):
            _lay_over(above, box, kept[m])
        polygon = visible_outline(cover, above, box, one, length)
        if polygon is not None:
            kept_boxes[len(kept)] = box
            kept.append(Visible(one, box, cover, polygon, shifts[k]))
    return kept[::-1]


def pixel_box(one: Placed) -> tuple[int, int, int, int]:
    """Return the pixels that a section may touch: first row, first column, rows, columns."""
    y, x, c, s, half_u, half_v = one.box
    slack = 3.0 + 0.06 * half_u
    reach_y, reach_x = abs(c) * half_u + abs(s) * half_v + slack, abs(s) * half_u + abs(c) * half_v + slack
    row, column = math.floor(y - reach_y), math.floor(x - reach_x)
    return row, column, math.ceil(y + reach_y) - row, math.ceil(x + reach_x) - column


def visible_outline(
    cover: UInt8[np.ndarray, "rows columns"],
    above: np.ndarray,
    box: Int64[np.ndarray, "4"],
    one: Placed,
    length: float,
) -> Float64[np.ndarray, "vertex 2"] | None:
    """Return the outline (row, column) of what is seen of a section, or None where that is too little."""
    covered = cover.astype(np.float32) / 255
    visible = covered * (1 - above)
    if visible.sum() < SMALLEST_VISIBLE * covered.sum() or not _defect_is_seen(one, above, box):
        return None
    largest = _simple(kernels.largest_contour(np.pad(visible, 1), 0.5), max(0.25, 0.0025 * length))
    if largest.area < SMALLEST_VISIBLE * float(covered.sum()):
        return None
    ring = np.asarray(largest.exterior.coords)[:-1] - 0.5  # padded by one pixel; a pixel's centre is at + 0.5
    filled: np.ndarray = np.zeros(cover.shape, dtype=np.uint8)
    cv2.fillPoly(filled, [np.rint(ring[:, ::-1] - 0.5).astype(np.int32)], (1,))
    if float((above * filled).sum()) > LARGEST_WITHIN * largest.area + 2 * math.sqrt(largest.area):
        return None
    return np.ascontiguousarray(ring + box[:2])


def _simple(ring: Float64[np.ndarray, "vertex 2"], tolerance: float) -> shapely.Polygon:
    """Return the polygon with fewer points, off by `tolerance` at most, that does not cross itself."""
    if len(ring) < 4:
        return shapely.Polygon()
    fewer = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0].astype(np.float64)
    for points in (fewer, ring):
        if len(points) > 3 and (polygon := shapely.Polygon(points)).is_valid:
            return polygon
    parts = shapely.get_parts(shapely.Polygon(ring).buffer(0))
    return max(parts, key=lambda part: float(part.area))


def _touching(box: Int64[np.ndarray, "4"], others: Int64[np.ndarray, "other 4"]) -> list[int]:
    apart = (others[:, :2] >= box[:2] + box[2:]) | (others[:, :2] + others[:, 2:] <= box[:2])
    return [int(k) for k in np.flatnonzero(~apart.any(axis=1))]


def _lay_over(above: np.ndarray, box: Int64[np.ndarray, "4"], other: Visible) -> None:
    """Add what `other` hides of `box`."""
    low = np.maximum(box[:2], other.box[:2])
    high = np.minimum(box[:2] + box[2:], other.box[:2] + other.box[2:])
    here = above[low[0] - box[0] : high[0] - box[0], low[1] - box[1] : high[1] - box[1]]
    start, stop = low - other.box[:2], high - other.box[:2]
    there = other.cover[start[0] : stop[0], start[1] : stop[1]].astype(np.float32) / 255
    here += (1 - here) * there


def _defect_is_seen(one: Placed, above: np.ndarray, box: Int64[np.ndarray, "4"]) -> bool:
    """Say whether most of the places that make the section's class are free."""
    defect = one.shape.defect
    if not len(defect):
        return True
    y, x, c, s = one.box[:4]
    u, v = (defect - one.shape.middle).T
    rows = np.clip(np.floor(y + c * u - s * v).astype(int) - box[0], 0, above.shape[0] - 1)
    columns = np.clip(np.floor(x + s * u + c * v).astype(int) - box[1], 0, above.shape[1] - 1)
    return float((above[rows, columns] < 0.5).mean()) >= SMALLEST_SEEN_DEFECT
