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
`serialorder` is the order of cutting, `tsporder` one with a short stage path: numbers of sections, or the text [] where
unknown. Unknown parts and keys are kept as text. Deviation: comments are dropped, parts are written in the order above.

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
            known = {k: _value(f"`{k}` of [{name}] in {path}", k, entries[k]) for k in _KEYS if k in entries}
            extra = tuple((key, text) for key, text in entries.items() if key not in _KEYS)
            items[group].append(MagcItem(int(number), **known, extra=extra))
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
    orders: list[Order] = []
    for name in _ORDERS:
        text = parts.get(name, {}).get(name, UNKNOWN_ORDER)
        is_known = all(word.strip().isdecimal() for word in text.split(","))
        orders.append(tuple(map(int, text.split(","))) if is_known else text)
    groups = {group: tuple(found) for group, found in items.items()}
    return MagcWafer(**groups, serial_order=orders[0], stage_order=orders[1], other=tuple(other))


def write_magc(wafer: MagcWafer, path: str | Path) -> None:
    """Write a `.magc` file that `read_magc` reads as the same wafer."""
    parts: dict[str, dict[str, str]] = {}
    for group in GROUPS:
        items: tuple[MagcItem, ...] = getattr(wafer, group)
        parts[group] = {"number": str(len(items))}
        parts |= {f"{group}.{item.number:04d}": _entries(item) for item in items}
    for name, order in zip(_ORDERS, (wafer.serial_order, wafer.stage_order), strict=True):
        parts[name] = {name: order if isinstance(order, str) else ",".join(map(str, order))}
    lines = []
    for name, entries in (parts | {name: dict(entries) for name, entries in wafer.other}).items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    write_atomically(path, "\n".join([*lines, ""]))


def _read_parts(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of keys
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=path.name)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the name and the folder.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no readable .magc file: {reason}. Copy it again from its source.") from error
    parts = {name: dict(parser.items(name)) for name in parser.sections()}
    if not any(name.partition(".")[0] in GROUPS for name in parts):
        raise InputError(f"{path} is no .magc file: it has none of the parts {', '.join(GROUPS)}.")
    return parts


def _value(what: str, key: str, text: str) -> Any:
    """The number, point (x, y) or points that the text of a known key holds."""
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
    text = text.strip()
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
