"""Files `.magc`: the sections of a wafer as MagFinder and SBEMimage exchange them, read and written without loss.

An INI text. The groups sections, rois, focus, magnets and landmarks each state their number of items, and item k of a
group is a separate part:

    [sections]            [sections.0000]
    number = 433          polygon = x1,y1,x2,y2,...      corners in pixels of the wafer image
                          center = x,y
                          area = 4086                    square pixels
                          angle = 99.862                 degrees
                          compression = 1

ROIs, focus points (corners of a polygon) and magnets (a location) belong to the section with their number; `template`
is the section whose ROI was propagated to this one. Landmarks are places by which the stage is registered.
`serialorder` is the order of cutting, `tsporder` the order with a short stage path; each lists numbers of sections, or
is the text [] where it is unknown.

Every key and value is written back as it was, numbers as the same numbers; unknown parts and keys are kept as text.
Deviation: comments are dropped, and parts are written in the order above.

Source: https://github.com/SBEMimage/SBEMimage, array/example; the format has no documentation.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emseg.errors import InputError
from emseg.files import write_atomically

Number = int | float
Point = tuple[Number, ...]  # (x, y)
Order = tuple[int, ...] | str  # a text where the file holds no numbers: "[]" for an unknown order
GROUPS = ("sections", "rois", "focus", "magnets", "landmarks")
UNKNOWN_ORDER = "[]"
_ORDERS = ("serialorder", "tsporder")
_KEYS = ("template", "polygon", "center", "area", "angle", "compression", "location")


@dataclass(frozen=True)
class MagcItem:
    """One item of a group; a key that its part lacks is None. Points are (x, y) in pixels, the area in pixels."""

    number: int
    template: int | None = None
    polygon: tuple[Point, ...] | None = None
    center: Point | None = None
    area: Number | None = None
    angle: Number | None = None
    compression: Number | None = None
    location: Point | None = None
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class MagcWafer:
    """The content of a `.magc` file; `other` holds unknown parts, as (name, ((key, text), ...))."""

    sections: tuple[MagcItem, ...] = ()
    rois: tuple[MagcItem, ...] = ()
    focus: tuple[MagcItem, ...] = ()
    magnets: tuple[MagcItem, ...] = ()
    landmarks: tuple[MagcItem, ...] = ()
    serial_order: Order = UNKNOWN_ORDER
    stage_order: Order = UNKNOWN_ORDER
    other: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


def read_magc(path: str | Path) -> MagcWafer:
    """Return the content of a `.magc` file; raises `InputError` that names the part and the key at fault."""
    path = Path(path)
    parts = _read_parts(path)
    items: dict[str, list[MagcItem]] = {group: [] for group in GROUPS}
    other = []
    for name, entries in parts.items():
        group, _, number = name.partition(".")
        if group in GROUPS and number.isdecimal():
            items[group].append(_item(path, name, int(number), entries))
        elif not (name in GROUPS and set(entries) == {"number"}) and name not in _ORDERS:
            other.append((name, tuple(entries.items())))
    for group, found in items.items():
        said = parts.get(group, {}).get("number", str(len(found)))
        if said != str(len(found)):
            raise InputError(
                f"{path} says that it has {said} {group}, and holds {len(found)}: it was cut off or edited. "
                f"Copy it again, or correct `number` in [{group}]."
            )
        if len({item.number for item in found}) < len(found):
            raise InputError(f"the numbers of {group} must be unique; {path} has one of them twice.")
    serial, stage = (_order(parts.get(name, {}).get(name, UNKNOWN_ORDER)) for name in _ORDERS)
    groups = {group: tuple(found) for group, found in items.items()}
    return MagcWafer(**groups, serial_order=serial, stage_order=stage, other=tuple(other))


def write_magc(wafer: MagcWafer, path: str | Path) -> None:
    """Write a `.magc` file that `read_magc` reads as the same wafer."""
    parts: list[tuple[str, dict[str, str]]] = []
    for group in GROUPS:
        items: tuple[MagcItem, ...] = getattr(wafer, group)
        parts.append((group, {"number": str(len(items))}))
        parts += [(f"{group}.{item.number:04d}", _entries(item)) for item in items]
    for name, order in zip(_ORDERS, (wafer.serial_order, wafer.stage_order), strict=True):
        parts.append((name, {name: order if isinstance(order, str) else ",".join(map(str, order))}))
    parts += [(name, dict(entries)) for name, entries in wafer.other]
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()) + "\n"
        for name, entries in parts
    )
    write_atomically(path, text)


def _read_parts(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of keys
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=path.name)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the name and the folder.") from None
    except IsADirectoryError:
        raise InputError(f"{path} must be a file; it is a folder. Name the file in it.") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no readable .magc file: {reason}. Copy it again from its source.") from error
    parts = {name: dict(parser.items(name)) for name in parser.sections()}
    if not any(name.partition(".")[0] in GROUPS for name in parts):
        raise InputError(f"{path} is no .magc file: it has none of the parts {', '.join(GROUPS)}.")
    return parts


def _item(path: Path, part: str, number: int, entries: dict[str, str]) -> MagcItem:
    values = {key: _value(f"`{key}` of [{part}] in {path}", key, entries[key]) for key in _KEYS if key in entries}
    extra = tuple((key, text) for key, text in entries.items() if key not in _KEYS)
    return MagcItem(number, **values, extra=extra)


def _value(what: str, key: str, text: str) -> Any:
    """The number, point (x, y) or points that the text of a known key holds."""
    try:
        numbers = [_number(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{what} must be numbers; it is {text!r}.") from None
    if key not in ("polygon", "center", "location"):
        if len(numbers) != 1:
            raise InputError(f"{what} must be one number; it is {text!r}.")
        if key == "template" and isinstance(numbers[0], float):
            raise InputError(f"{what} must be the number of a section; it is {numbers[0]}.")
        return numbers[0]
    if len(numbers) % 2:
        raise InputError(f"{what} must be pairs x,y; it has {len(numbers)} numbers.")
    if key != "polygon" and len(numbers) != 2:
        raise InputError(f"{what} must be one point x,y; it is {text!r}.")
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return points if key == "polygon" else points[0]


def _entries(item: MagcItem) -> dict[str, str]:
    entries = {}
    for key in _KEYS:
        value = getattr(item, key)
        if key == "polygon" and value is not None:
            value = [number for point in value for number in point]
        if value is not None:
            entries[key] = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return entries | dict(item.extra)


def _number(text: str) -> Number:
    text = text.strip()
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _order(text: str) -> Order:
    """The numbers of an order, or its text where it holds none."""
    words = text.split(",")
    return tuple(int(word) for word in words) if all(word.strip().isdecimal() for word in words) else text
