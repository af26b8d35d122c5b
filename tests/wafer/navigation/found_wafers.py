"""Found wafers for the tests of what comes after finding: ribbons, loose sections of one template, four classes."""

import math

import numpy as np

from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.navigation.found import FoundSection, FoundWafer, Region

CORNERS = np.array([(0.0, 0.0), (60.0, 4.0), (58.0, 80.0), (2.0, 84.0)]) - (30.0, 42.0)  # side 0 down, at angle 0


def section_at(row, column, angle_deg=0.0, **known):
    """A section of the template, its middle at (row, column), rotated by `angle_deg` from down towards right."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    corners = CORNERS @ np.array([[c, s], [-s, c]]) + (row, column)
    side = corners[1] - corners[0]
    angle = math.degrees(math.atan2(side[1], side[0]))
    known = {"label": "good", "score": 0.9, "angle_deg": angle, **known}
    return FoundSection(corners, corners, **known)


def ribbon(n, row, column, angle_deg=0.0, *, bend_deg=0.0, pitch=84.0, shift=0.0):
    """`n` sections edge to edge, each next one at side 2 of the one before."""
    sections = []
    for k in range(n):
        sections.append(section_at(row, column, angle_deg))
        heading = math.radians(angle_deg + bend_deg / 2)
        row, column = row - pitch * math.sin(heading), column + pitch * math.cos(heading)
        row, column = row + shift * (-1) ** k * math.cos(heading), column + shift * (-1) ** k * math.sin(heading)
        angle_deg += bend_deg
    return sections


def wafer_of(sections, **known):
    """A found wafer of 4000 x 4000 px with these sections."""
    return FoundWafer("drawn", 4000, 4000, tuple(sections), ("good", "fold"), **known)


def found_wafer(
    n: int = 12, *, seed: int = 0, name: str = "made", pitch: int = 100, regions: bool = True
) -> FoundWafer:
    """Sections of four classes, turned at random, on a square grid of `pitch` pixels; the last one has no angle."""
    rng, columns = np.random.default_rng(seed), int(np.ceil(np.sqrt(n)))
    sections = []
    for number in range(n):
        angle = float(rng.uniform(-179, 180))
        centre = np.array([number // columns + 0.5, number % columns + 0.5]) * pitch + rng.uniform(-5, 5, 2)
        along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])  # from corner 0 to corner 1
        across = np.array([-along[1], along[0]])
        corners = np.array([-along * 0.3 - across * 0.22, along * 0.3 - across * 0.22])
        corners = centre + pitch * np.concatenate(
            [corners, [along * 0.3 + across * 0.22, -along * 0.3 + across * 0.22]]
        )
        places = (Region("roi", centre + (corners - centre) * 0.4), Region("focus", corners[:3] * 0.5 + centre * 0.5))
        label, known = SECTION_CLASSES[number % 4], number < n - 1
        sections.append(
            FoundSection(
                corners,
                np.concatenate([corners, corners.mean(0)[None] + across * pitch * 0.2])[[0, 1, 2, 4, 3]],
                label,
                score=float(rng.uniform(0.5, 1)),
                votes={label: 0.75, SECTION_CLASSES[(number + 1) % 4]: 0.25},
                angle_deg=angle if known else None,
                confidence=float(rng.uniform(0.3, 1)),
                residual=float(rng.uniform(0, 0.2)) if known else None,
                magnet=tuple(map(float, centre)) if regions else None,
                regions=places if regions else (),
                reasons=("two classes have similar votes",) if number % 5 == 0 else (),
            )
        )
    order = tuple(map(int, rng.permutation(n)))
    side = columns * pitch
    landmarks = np.array([(5.0, 5.0), (5.0, side - 5.0), (side - 5.0, 5.5)])
    return FoundWafer(name, side, side, tuple(sections), SECTION_CLASSES, 0.5, order[: n // 2], order, landmarks)
