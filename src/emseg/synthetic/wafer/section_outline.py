"""The outline of one section on a wafer and what can go wrong with it, as signed distances.

Everything is measured in the section's own frame, in units of the crop's width: `along` runs down its length, `across`
its width, both from its centre. A region is a field that is positive inside and whose zero line is the border; the
smaller of two fields is what both regions share. A pixel's coverage is its field over the pixel's width plus one half,
cut off at 0 and 1, so that borders are smooth without supersampling.

    good         a quad: four half planes, slightly out of square
    incomplete   one more half plane takes a part away, straight or oblique: the first sections of a new knife
    fold         a narrow strip lies double, so the tissue beyond it has moved in by twice the strip's width
    damaged      one to three of: a chip off the border, a hole, a tear that runs in from the border

Source for the classes: Sun et al. 2021 (FANet), section 4.1 and Fig. 2.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

Plane = Float32[np.ndarray, "height width"]

HALF_LENGTH = 0.31  # of a section of the usual size
HALF_WIDTH = 0.225
NOWHERE = np.float32(10.0)  # a field that no border cuts


@dataclass(frozen=True)
class Quad:
    """Four half planes, `normal` [4, 2] (along, across) and `reach` [4]: a point p is inside where n . p <= reach."""

    normal: NDArray[np.float64]
    reach: NDArray[np.float64]

    def distance(self, along: Plane, across: Plane) -> Plane:
        """Return how far inside the quad each point lies; negative outside."""
        field = np.full_like(along, NOWHERE)
        for (a, b), reach in zip(self.normal.astype(np.float32), self.reach.astype(np.float32), strict=True):
            np.minimum(field, reach - a * along - b * across, out=field)
        return field


@dataclass(frozen=True)
class Fold:
    """A strip `width` wide, across the direction `normal` at `offset`, bent by `bend`; `sign` +1 looks bright."""

    normal: tuple[float, float]
    offset: float
    width: float
    bend: float
    sign: float

    def side(self, along: Plane, across: Plane) -> Plane:
        """Return the distance of each point from the strip's middle line: negative before it, positive beyond."""
        a, b = (np.float32(part) for part in self.normal)
        beside = b * along - a * across
        return np.asarray(a * along + b * across - np.float32(self.offset) - np.float32(self.bend) * beside * beside)

    def unfold(self, along: Plane, across: Plane) -> tuple[Plane, Plane, Plane]:
        """Return where on the flat section each point was, and how far inside the strip it now lies."""
        side = self.side(along, across)
        hidden = np.where(side > 0, np.float32(self.width), np.float32(-self.width))
        a, b = (np.float32(part) for part in self.normal)
        return along + a * hidden, across + b * hidden, np.float32(0.5 * self.width) - np.abs(side)


def draw_quad(rng: np.random.Generator) -> Quad:
    """Draw a section's quad: its size, its proportions and how far each side leans all vary."""
    size = rng.uniform(0.86, 1.08)
    proportion = rng.uniform(0.93, 1.08)
    half = np.array([HALF_LENGTH * proportion, HALF_WIDTH / proportion]) * size
    angle = np.deg2rad(np.array([0.0, 90.0, 180.0, 270.0]) + rng.normal(0.0, 2.5, 4))
    return Quad(np.stack([np.cos(angle), np.sin(angle)], axis=1), half[[0, 1, 0, 1]] * rng.uniform(0.97, 1.03, 4))


def cut_off(quad: Quad, rng: np.random.Generator) -> tuple[Quad, tuple[float, float]]:
    """Return the quad with a part missing, and the middle (along, across) of what is left.

    A fifth half plane leaves 35 to 75 % of it, square to a side or oblique.
    """
    side = int(rng.integers(4))
    turn = rng.normal(0.0, np.deg2rad(3.0)) if rng.random() < 0.5 else np.deg2rad(rng.uniform(8, 30)) * _sign(rng)
    angle = math.atan2(quad.normal[side, 1], quad.normal[side, 0]) + turn
    extent = quad.reach[side] + quad.reach[(side + 2) % 4]
    opposite = quad.reach[(side + 2) % 4]
    reach = rng.uniform(0.35, 0.75) * extent - opposite
    cut = np.array([math.cos(angle), math.sin(angle)])
    middle = 0.5 * (reach - opposite) * cut
    left = Quad(np.concatenate([quad.normal, cut[None]]), np.append(quad.reach, reach))
    return left, (float(middle[0]), float(middle[1]))


def draw_fold(quad: Quad, rng: np.random.Generator) -> Fold:
    """Draw a fold that crosses the section, more or less square to a side."""
    side = int(rng.integers(2))
    angle = math.atan2(quad.normal[side, 1], quad.normal[side, 0]) + rng.normal(0.0, np.deg2rad(14.0))
    return Fold(
        normal=(math.cos(angle), math.sin(angle)),
        offset=float(rng.uniform(-0.55, 0.55) * quad.reach[side]),
        width=float(rng.uniform(0.04, 0.08)),
        bend=float(rng.normal(0.0, 0.35)),
        sign=_sign(rng),
    )


def damage(field: Plane, quad: Quad, along: Plane, across: Plane, rng: np.random.Generator) -> Plane:
    """Return the field of a section with one to three chips, holes and tears."""
    for _ in range(int(rng.integers(1, 4))):
        make = (_chip, _hole, _tear)[int(rng.integers(3))]
        field = np.minimum(field, make(quad, along, across, rng))
    return field


def _chip(quad: Quad, along: Plane, across: Plane, rng: np.random.Generator) -> Plane:
    """Outside a ragged disc around a point of the border."""
    point, _ = _border_point(quad, rng)
    return _outside_disc(along, across, point, rng.uniform(0.06, 0.13), 1.0, rng)


def _hole(quad: Quad, along: Plane, across: Plane, rng: np.random.Generator) -> Plane:
    """Outside a ragged ellipse within the section."""
    reach = quad.reach
    point = np.array([rng.uniform(-0.65, 0.65) * reach[0], rng.uniform(-0.65, 0.65) * reach[1]])
    return _outside_disc(along, across, point, rng.uniform(0.035, 0.075), rng.uniform(0.6, 1.0), rng)


def _tear(quad: Quad, along: Plane, across: Plane, rng: np.random.Generator) -> Plane:
    """Outside a wedge that begins at the border and narrows to nothing on its crooked way in."""
    point, inward = _border_point(quad, rng)
    angle = math.atan2(inward[1], inward[0]) + rng.uniform(-0.5, 0.5)
    a, b = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u, v = along - np.float32(point[0]), across - np.float32(point[1])
    depth, beside = a * u + b * v, b * u - a * v
    length, mouth = rng.uniform(0.16, 0.40), rng.uniform(0.014, 0.032)
    crook = np.float32(rng.uniform(0.004, 0.014)) * np.sin(
        np.float32(rng.uniform(25, 55)) * depth + np.float32(rng.uniform(0, 2 * math.pi))
    )
    half_width = np.float32(mouth) * (1 - np.maximum(depth, 0) / np.float32(length)) + np.float32(0.002)
    return np.asarray(np.maximum(np.abs(beside - crook) - half_width, depth - np.float32(length)))


def _outside_disc(
    along: Plane,
    across: Plane,
    point: NDArray[np.float64],
    radius: float,
    squeeze: float,
    rng: np.random.Generator,
) -> Plane:
    turn = rng.uniform(0, math.pi)
    c, s = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    u, v = along - np.float32(point[0]), across - np.float32(point[1])
    x, y = c * u + s * v, (c * v - s * u) / np.float32(squeeze)
    ragged = 1 + np.float32(0.18) * np.sin(3 * np.arctan2(y, x) + np.float32(rng.uniform(0, 2 * math.pi)))
    return np.asarray(np.sqrt(x * x + y * y) - np.float32(radius) * ragged)


def _border_point(quad: Quad, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return a point of the quad's border and the direction from there into the section."""
    side = int(rng.integers(4))
    normal = quad.normal[side]
    tangent = np.array([-normal[1], normal[0]])
    return normal * quad.reach[side] + tangent * rng.uniform(-0.8, 0.8) * quad.reach[(side + 1) % 4], -normal


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
