"""Sections of `.magc` and `.mass.json` files as `WaferSections`, and the inverse.

On all 433 sections of SBEMimage's example the angle is, to 0.001 degree, that of the first side,
atan2(x2 - x1, y2 - y1): 0 points down, 90 right, the range is (-180, 180]. The first side is the longer one there
(medians 67.0 and 61.7 px), so this is `Section.angle_deg`, and angles are taken over as they are.

A point (x, y) is (row, column) = (y, x). Neither file has classes: reading gives "section", writing drops them.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from emseg.errors import InputError
from emseg.sections import Section, WaferSections, as_polygon
from emseg.wafer.formats.magc import UNKNOWN_ORDER, MagcItem, MagcWafer, Number, Order, Point
from emseg.wafer.formats.mass_json import MassSection, MassShape, MassWafer

_DIGITS = 3  # of the coordinates and angles that we write


def sections_from_magc(
    wafer: MagcWafer, *, name: str, height: int, width: int, pixel_size_um: float | None = None
) -> WaferSections:
    """Return the sections as outlines on an image of this size, all of the class "section".

    A missing angle is that of the first side. Serial numbers are known where the file gives the serial order of all its
    sections. Raises `InputError` for a section without a polygon, or one that cannot be an outline.
    """
    items = [(item.number, item.polygon, item.angle) for item in wafer.sections]
    return _wafer(name, height, width, items, wafer.serial_order, pixel_size_um)


def sections_from_mass(
    wafer: MassWafer, *, name: str, height: int, width: int, pixel_size_um: float | None = None
) -> WaferSections:
    """Return the samples as outlines on an image of this size, as `sections_from_magc` does."""
    items = []
    for section in wafer.sections:
        sample = section.sample or MassShape()
        if not section.key.isdecimal():
            raise InputError(f"sections must have numbers as keys; {name} has {section.key!r}.")
        items.append((int(section.key), sample.polygon, sample.angle))
    return _wafer(name, height, width, items, wafer.serial_order or UNKNOWN_ORDER, pixel_size_um)


def magc_from_sections(wafer: WaferSections) -> MagcWafer:
    """Return the sections as a `.magc` file holds them; classes have no place there and are dropped.

    Corners begin with the side whose direction is nearest to the section's angle.
    """
    items = tuple(
        MagcItem(place, None, shape.polygon, shape.center, round(section.area_px), shape.angle, compression=1)
        for place, (section, shape) in enumerate((one, _shape(one)) for one in wafer.sections)
    )
    return MagcWafer(sections=items, serial_order=_serial_order(wafer))


def mass_from_sections(wafer: WaferSections) -> MassWafer:
    """Return the sections as a `.mass.json` file holds them; classes have no place there and are dropped."""
    sections = tuple(MassSection(str(place), _shape(section)) for place, section in enumerate(wafer.sections))
    return MassWafer(sections, None, "emseg", {}, _serial_order(wafer), UNKNOWN_ORDER)


def side_angle_deg(polygon: Float64[np.ndarray, "vertex 2"], side: int = 0) -> float:
    """Return the direction of side number `side` of an outline (row, column): 0 down, 90 right, in (-180, 180]."""
    rows, columns = polygon[(side + 1) % len(polygon)] - polygon[side]
    return math.degrees(math.atan2(columns + 0.0, rows))  # -0.0 would give -180


def _wafer(
    name: str,
    height: int,
    width: int,
    items: Sequence[tuple[int, tuple[Point, ...] | None, Number | None]],  # number, polygon (x, y), angle
    order: Order,
    pixel_size_um: float | None,
) -> WaferSections:
    if not items:
        raise InputError(f"{name} has no section. Draw its outlines first.")
    places = {number: place for place, number in enumerate(order)} if isinstance(order, tuple) else {}
    whole = set(places) == {number for number, _, _ in items} and len(places) == len(order)
    sections = []
    for number, points, angle in items:
        if not points or any(len(point) < 2 for point in points):
            raise InputError(f"every section needs a polygon; section {number} of {name} has none.")
        polygon = as_polygon([(point[1], point[0]) for point in points])
        angle_deg = side_angle_deg(polygon) if angle is None else float(angle)
        sections.append(Section(polygon, angle_deg=angle_deg, serial_number=places[number] if whole else None))
    notes = () if whole else ("the file gives no serial order of all sections, so serial numbers are unknown",)
    return WaferSections(name, height, width, tuple(sections), pixel_size_um=pixel_size_um, notes=notes)


def _serial_order(wafer: WaferSections) -> Order:
    """The indices of the sections in the order of cutting, unknown if one serial number is."""
    numbers = [section.serial_number for section in wafer.sections]
    if not numbers or None in numbers:
        return UNKNOWN_ORDER
    return tuple(int(place) for place in np.argsort(np.array(numbers, dtype=np.int64)))


def _shape(section: Section) -> MassShape:
    """Corners (x, y), beginning with the side nearest to the section's angle; centre and angle."""
    polygon, angle = section.polygon, section.angle_deg
    if angle is None:
        angle = side_angle_deg(polygon)
    else:
        off = [abs((side_angle_deg(polygon, side) - angle + 180) % 360 - 180) for side in range(len(polygon))]
        polygon = np.roll(polygon, -int(np.argmin(off)), axis=0)
    corners, (y, x) = tuple((float(x), float(y)) for y, x in polygon.round(_DIGITS)), section.center
    return MassShape(corners, (round(x, _DIGITS), round(y, _DIGITS)), round(angle, _DIGITS))
