"""Found wafers for the tests of what comes after finding: ribbons and loose sections of one template."""

import math

import numpy as np

from emseg.wafer.navigation.found import FoundSection, FoundWafer

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
