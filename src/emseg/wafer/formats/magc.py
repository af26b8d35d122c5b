"""Files `.magc`: the sections of a wafer as MagFinder and SBEMimage exchange them, read and written without loss.

An INI text. The groups sections, rois, focus, magnets and landmarks each state their number of items, and item k of a
group is a separate part. There are two dialects, and a file is written in the one that it came in:

    SBEMimage, napari-mass     [sections.0000] ...   [serialorder] serialorder = 0,1   [tsporder] tsporder = []
    MagFinder                  [section.0000] ...    [serial_order] serial_order = 0,1   [stage_order] ...
                               [roi.0007.01] is the second region of section 7

    polygon = x1,y1,x2,y2,...      corners in pixels of the wafer image
    center = x,y      area = 4086 (square pixels)      angle = 99.862 (degrees)      compression = 1

ROIs, focus points (corners of a polygon) and magnets (a location) belong to the section with their number; `template`
is the section whose ROI was propagated to this one. Landmarks are places by which the stage is registered. The serial
order is that of cutting, the stage order one with a short stage path: numbers of sections, or the text [] where
unknown. Unknown parts and keys are kept as text, parts in their order. Deviation: comments are dropped.

On all 433 sections of SBEMimage's example the angle is, to 0.001 degree, that of the first side,
atan2(x2 - x1, y2 - y1): 0 points down, 90 right, the range is (-180, 180]. The first side is the longer one there
(medians 67.0 and 61.7 px), so this is `Section.angle_deg`, and angles are taken over as they are.

Source: https://github.com/SBEMimage/SBEMimage, array/example; the format has no documentation.
"""

import configparser
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from emseg.errors import InputError
from emseg.files import decoding, write_atomically
from emseg.sections import Section, WaferSections, as_polygon
from emseg.wafer.formats.outlines import KINDS, Faults, Outline, kind_of, wafer_sections

Number = int | float
Point = tuple[Number, ...]  # (x, y)
Order = tuple[int, ...] | str  # a text where the file holds no numbers: "[]" for an unknown order
Dialect = Literal["SBEMimage", "MagFinder"]
UNKNOWN_ORDER = "[]"
GROUPS = {"sections": "section", "rois": "roi", "focus": "focus", "magnets": "magnet", "landmarks": "landmark"}
_ORDERS: dict[str, tuple[str, str]] = {
    "SBEMimage": ("serialorder", "tsporder"),
    "MagFinder": ("serial_order", "stage_order"),
}
_KEYS = ("template", "polygon", "center", "area", "angle", "compression", "location")
_DIGITS = 3  # of the coordinates and angles that we write


@dataclass(frozen=True)
class MagcItem:
    """One item of a group; a key that its part lacks is None. Points are (x, y) in pixels, the area in pixels.

    `place` counts the regions of one section in MagFinder's dialect.
    """

    number: int
    template: int | None = None
    polygon: tuple[Point, ...] | None = None
    center: Point | None = None
    area: Number | None = None
    angle: Number | None = None
    compression: Number | None = None
    location: Point | None = None
    extra: tuple[tuple[str, str], ...] = ()
    place: int | None = None


@dataclass(frozen=True)
class MagcWafer:
    """The content of a `.magc` file; `other` contains unknown parts, as (name, ((key, text), ...))."""

    sections: tuple[MagcItem, ...] = ()
    rois: tuple[MagcItem, ...] = ()
    focus: tuple[MagcItem, ...] = ()
    magnets: tuple[MagcItem, ...] = ()
    landmarks: tuple[MagcItem, ...] = ()
    serial_order: Order = UNKNOWN_ORDER
    stage_order: Order = UNKNOWN_ORDER
    other: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    dialect: Dialect = "SBEMimage"
    layout: tuple[str, ...] = field(default=(), compare=False)  # the parts in the order of the file


def read_magc(path: str | Path) -> MagcWafer:
    """Return the content of a `.magc` file; raises `InputError` that lists the parts and keys at fault."""
    path = Path(path)
    if (kind := kind_of(path)) != "magc":
        raise InputError(f"{path} is not a .magc file; it is {KINDS[kind]}.")
    parts = _read_parts(path)
    items: dict[str, list[MagcItem]] = {group: [] for group in GROUPS}
    other = []
    singular = any(re.fullmatch(r"(section|roi|magnet|landmark)\.[0-9.]+", name) for name in parts)
    dialect: Dialect = "MagFinder" if singular or "serial_order" in parts else "SBEMimage"
    groups = {one if dialect == "MagFinder" else group: group for group, one in GROUPS.items()}
    for name, entries in parts.items():
        found = re.fullmatch(r"(\w+)\.([0-9]{1,9})(?:\.([0-9]{1,9}))?", name, re.ASCII)
        if found and found[1] in groups:
            known = {k: _value(f"`{k}` of [{name}] in {path}", k, entries[k]) for k in _KEYS if k in entries}
            extra = tuple((key, text) for key, text in entries.items() if key not in _KEYS)
            place = None if found[3] is None else int(found[3])
            items[groups[found[1]]].append(MagcItem(int(found[2]), **known, extra=extra, place=place))
        elif not (name in GROUPS and set(entries) == {"number"}) and name not in _ORDERS[dialect]:
            other.append((name, tuple(entries.items())))
    for group, listed in items.items():
        said = parts.get(group, {}).get("number", str(len(listed)))
        if said != str(len(listed)):
            raise InputError(
                f"{path} announces {said} {group}, and contains {len(listed)}: it was cut off or edited. "
                f"Copy it again, or correct `number` in [{group}]."
            )
        if len({(item.number, item.place) for item in listed}) < len(listed):
            raise InputError(f"the numbers of {group} must be unique; {path} has one of them twice.")
    orders: list[Order] = []
    for name in _ORDERS[dialect]:
        text = parts.get(name, {}).get(name, UNKNOWN_ORDER)
        is_known = all(re.fullmatch("[0-9]{1,9}", word.strip()) for word in text.split(","))
        orders.append(tuple(map(int, text.split(","))) if is_known else text)
    whole = {group: tuple(listed) for group, listed in items.items()}
    return MagcWafer(
        **whole, serial_order=orders[0], stage_order=orders[1], other=tuple(other), dialect=dialect, layout=tuple(parts)
    )


def write_magc(wafer: MagcWafer, path: str | Path) -> None:
    """Write a `.magc` file that `read_magc` reads as the same wafer, in its dialect."""
    parts: dict[str, dict[str, str]] = {}
    for group, one in GROUPS.items():
        items: tuple[MagcItem, ...] = getattr(wafer, group)
        if items or not wafer.layout or group in wafer.layout:
            parts[group] = {"number": str(len(items))}
        for item in items:
            place = "" if item.place is None else f".{item.place:02d}"
            parts[f"{one if wafer.dialect == 'MagFinder' else group}.{item.number:04d}{place}"] = _entries(item)
        if wafer.dialect == "MagFinder" and items and not wafer.layout:
            parts[f"end_{group}"] = {}
    for name, order in zip(_ORDERS[wafer.dialect], (wafer.serial_order, wafer.stage_order), strict=True):
        parts[name] = {name: order if isinstance(order, str) else ",".join(map(str, order))}
    parts |= {name: dict(entries) for name, entries in wafer.other}
    in_order = dict.fromkeys([*(name for name in wafer.layout if name in parts), *parts])
    lines = []
    for name in in_order:
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in parts[name].items()), ""]
    write_atomically(path, "\n".join([*lines, ""]))


def sections_from_magc(
    wafer: MagcWafer,
    *,
    name: str,
    height: int,
    width: int,
    pixel_size_um: float | None = None,
    faults: Faults = "refuse",
) -> WaferSections:
    """Return the sections as outlines on an image of this size, all of the class "section".

    A missing angle is that of the first side. Serial numbers are known where the file gives the serial order of all its
    sections. Raises `InputError` for a section without a polygon, or one that cannot be an outline.
    """
    items = [(item.number, item.polygon, item.angle) for item in wafer.sections]
    size = {"name": name, "height": height, "width": width, "pixel_size_um": pixel_size_um}
    return numbered_sections(items, wafer.serial_order, faults, **size)


def magc_from_sections(wafer: WaferSections) -> MagcWafer:
    """Return the sections in the form of a `.magc` file; classes have no place there and are dropped.

    Corners begin with the side whose direction is nearest to the section's angle.
    """
    items = []
    for place, section in enumerate(wafer.sections):
        corners, center, angle = corners_of(section)
        items.append(MagcItem(place, None, corners, center, round(section.area_px), angle, compression=1))
    return MagcWafer(sections=tuple(items), serial_order=serial_order(wafer))


def numbered_sections(
    items: Iterable[tuple[int, tuple[Point, ...] | None, Number | None]], order: Order, faults: Faults, **size: Any
) -> WaferSections:
    """Return items (number, polygon (x, y), angle) as sections, with serial numbers where `order` has all of them."""
    items = list(items)
    places = {number: place for place, number in enumerate(order)} if isinstance(order, tuple) else {}
    whole = set(places) == {number for number, _, _ in items} and len(places) == len(order)
    outlines = []
    for number, points, angle in items:
        what, parts = f"section {number} of {size['name']}", [[point[:2] for point in points]] if points else []
        if angle is None and points and len(points) > 1:
            angle = side_angle_deg(as_polygon([(point[1], point[0]) for point in points]))
        serial = places[number] if whole else None
        outlines.append(Outline(what, parts, angle_deg=None if angle is None else float(angle), serial_number=serial))
    notes = () if whole else ("the file gives no serial order of all sections, so serial numbers are unknown",)
    return wafer_sections(outlines, size["name"], **size, class_names=("section",), faults=faults, notes=notes)


def corners_of(section: Section) -> tuple[tuple[Point, ...], Point, float]:
    """Return corners (x, y), beginning with the side nearest to the section's angle, the centre, and the angle."""
    polygon, angle = section.polygon, section.angle_deg
    if angle is None:
        angle = side_angle_deg(polygon)
    else:
        off = [abs((side_angle_deg(polygon, side) - angle + 180) % 360 - 180) for side in range(len(polygon))]
        polygon = np.roll(polygon, -int(np.argmin(off)), axis=0)
    corners, (y, x) = tuple((float(x), float(y)) for y, x in polygon.round(_DIGITS)), section.center
    return corners, (round(x, _DIGITS), round(y, _DIGITS)), round(angle, _DIGITS)


def serial_order(wafer: WaferSections) -> Order:
    """Return the indices of the sections in the order of cutting, unknown if one serial number is."""
    numbers = [section.serial_number for section in wafer.sections]
    if not numbers or None in numbers:
        return UNKNOWN_ORDER
    return tuple(int(place) for place in np.argsort(np.array(numbers, dtype=np.int64)))


def side_angle_deg(polygon: Float64[np.ndarray, "vertex 2"], side: int = 0) -> float:
    """Return the direction of side number `side` of an outline (row, column): 0 down, 90 right, in (-180, 180]."""
    rows, columns = polygon[(side + 1) % len(polygon)] - polygon[side]
    return math.degrees(math.atan2(columns + 0.0, rows))  # -0.0 would give -180


def _read_parts(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of keys
    with decoding(path, "UTF-8", repair="Save it as UTF-8."):
        text = path.read_text(encoding="utf-8-sig")
    with decoding(path, ".magc"):
        parser.read_string(text, source=path.name)
    parts = {name: dict(parser.items(name)) for name in parser.sections()}
    if not any(name.partition(".")[0] in (*GROUPS, *GROUPS.values()) for name in parts):
        raise InputError(f"{path} is not a .magc file: it has none of the parts {', '.join(GROUPS)}.")
    return parts


def _value(what: str, key: str, text: str) -> Any:
    """The number, point (x, y) or points that the text of a known key contains."""
    try:
        numbers = [_number(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{what} must be numbers; it is {text!r}.") from None
    if key == "polygon":
        if len(numbers) % 2:
            raise InputError(f"{what} must be pairs x,y; it has {len(numbers)} numbers.")
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))
    n_wanted, wanted = (2, "one point x,y") if key in ("center", "location") else (1, "one number")
    if len(numbers) != n_wanted:
        raise InputError(f"{what} must be {wanted}; it is {text!r}.")
    if key == "template" and isinstance(numbers[0], float):
        raise InputError(f"{what} must be the number of a section; it is {numbers[0]}.")
    return numbers[0] if n_wanted == 1 else tuple(numbers)


def _entries(item: MagcItem) -> dict[str, str]:
    values = {key: getattr(item, key) for key in _KEYS if getattr(item, key) is not None}
    if "polygon" in values:
        values["polygon"] = tuple(number for point in values["polygon"] for number in point)
    texts = {k: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for k, value in values.items()}
    return texts | dict(item.extra)


def _number(text: str) -> Number:
    return int(text) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else float(text)
