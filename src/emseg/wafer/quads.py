"""The four sides of a section from its outline, between pixels: a straight line through each side.

    side k:    n . p = d, the Huber fit to the outline's points of that side without its ends (`_CORNER` of its length)
    corner k:  where the sides k - 1 and k meet

Corners run in the image as the hands of a clock do, from any of the four: which one is the tissue's first corner, an
outline cannot distinguish (see `emseg.wafer.navigation.fit`). Points are (row, column), continuous, as in
`emseg.sections`.
"""

import math

import cv2
import numpy as np
import shapely
from jaxtyping import Float64

Quad = Float64[np.ndarray, "4 2"]

_POINTS = 240
_CORNER = 0.12
_ROUNDS = 3
_FEWEST = 6  # points of a side, below which no line is fitted
_LEAST_AGREEMENT = 0.75  # overlap with the outline below which the lines have gone astray


def outline_quad(outline: Float64[np.ndarray, "vertex 2"]) -> Quad:
    """Return the quad of an outline's four sides; its smallest rectangle where four sides cannot be fitted."""
    shape = outline_shape(outline)
    ring = max(shapely.get_parts(shape), key=lambda part: part.area).exterior
    points = shapely.get_coordinates(ring.interpolate(np.linspace(0, 1, _POINTS, endpoint=False), normalized=True))
    quad = rectangle = _smallest_rectangle(points)
    for _ in range(_ROUNDS):
        side = np.roll(quad, -1, 0) - quad
        length = np.linalg.norm(side, axis=1)
        along = side / length[:, None]
        off = points[:, None] - quad
        position = (off * along).sum(-1) / length
        distance = np.abs(off[..., 0] * along[:, 1] - off[..., 1] * along[:, 0])
        nearest = distance.argmin(1)
        place = position[np.arange(_POINTS), nearest]
        nearest[(place < _CORNER) | (place > 1 - _CORNER)] = -1
        if min(np.count_nonzero(nearest == k) for k in range(4)) < _FEWEST:
            return rectangle
        lines = np.array([_line(points[nearest == k]) for k in range(4)])
        quad = np.array([np.linalg.lstsq(lines[[k - 1, k], :2], lines[[k - 1, k], 2])[0] for k in range(4)])
        fitted = shapely.Polygon(quad)
        if not fitted.is_valid or not agreement(fitted, shape) > _LEAST_AGREEMENT:
            return rectangle
    return quad


def rectangle_along(outline: Float64[np.ndarray, "vertex 2"], angle_deg: float) -> Quad:
    """Return the rectangle around an outline whose side from corner 0 to corner 1 has the direction `angle_deg`."""
    angle = math.radians(angle_deg)
    along = np.array([math.cos(angle), math.sin(angle)])
    axes = np.array([along, (-along[1], along[0])])  # the second is the direction from corner 3 to corner 0
    (low, bottom), (high, top) = (outline @ axes.T).min(0), (outline @ axes.T).max(0)
    quad: Quad = np.array([(low, top), (high, top), (high, bottom), (low, bottom)]) @ axes
    return quad


def outline_shape(outline: Float64[np.ndarray, "vertex 2"]) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the area within an outline; where it crosses itself, the parts that it encloses."""
    shape = shapely.Polygon(outline)
    return shape if shape.is_valid else shapely.buffer(shape, 0.0)


def agreement(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Return the intersection of two areas over their union, 0 to 1."""
    common = shapely.area(shapely.intersection(one, other))
    return float(common / max(shapely.area(one) + shapely.area(other) - common, 1e-12))


def _smallest_rectangle(points: Float64[np.ndarray, "point 2"]) -> Quad:
    corners = cv2.boxPoints(cv2.minAreaRect(points[:, ::-1].astype(np.float32)))[:, ::-1].astype(np.float64)
    return corners if is_clockwise(corners) else corners[::-1].copy()


def is_clockwise(quad: Quad) -> bool:
    """Return whether the corners follow each other in the image as the hands of a clock do."""
    first, second = quad[1] - quad[0], quad[2] - quad[1]
    return bool(first[1] * second[0] > first[0] * second[1])


def _line(points: Float64[np.ndarray, "point 2"]) -> tuple[float, float, float]:
    """Return the line (a, b, d) with a row + b column = d that fits points."""
    middle = points.mean(0)  # OpenCV computes with single precision
    line = cv2.fitLine((points - middle).astype(np.float32), cv2.DIST_HUBER, 0, 0.01, 0.01).ravel()
    down, right, (row, column) = float(line[0]), float(line[1]), line[2:] + middle
    return right, -down, float(right * row - down * column)
