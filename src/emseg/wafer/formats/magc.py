"""Files `.magc`: the sections of a wafer as MagFinder and SBEMimage exchange them, read and written without loss.

An INI text. The groups sections, rois, focus, magnets and landmarks each say how many items they have, and item k of a
group is a part of its own:

    [sections]            [sections.0000]
    number = 433          polygon = x1,y1,x2,y2,...      corners in pixels of the wafer image
                          center = x,y
                          area = 4086                    square pixels
                          angle = 99.862                 degrees
                          compression = 1

ROIs, focus points (corners of a polygon) and magnets (a location) belong to the section of their number; `template` is
the section whose ROI was propagated to this one. Landmarks are places that the stage is matched by. `serialorder` is
the order in which the sections were cut, `tsporder` that which makes the stage's path short; each lists numbers of
sections, or is the text [] where nobody knows.

Every key and value comes back as it was, numbers as the same numbers; parts and keys that are unknown here are kept as
texts. Deviation: comments are not kept, and parts are written in the order above.

Source: https://github.com/SBEMimage/SBEMimage, array/example; the format has no document of its own.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

from emseg.errors import InputError

Number = int | float
Point = tuple[Number, ...]  # (x, y)
Order = tuple[int, ...] | str  # a text where the file holds no numbers: "[]" for an unknown order
GROUPS = ("sections", "rois", "focus", "magnets", "landmarks")
UNKNOWN_ORDER = "[]"


@dataclass(frozen=True)
class MagcItem:
    """One item of a group; what its part does not say is None. Points are (x, y) in pixels, the area in pixels."""

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
    """All that a `.magc` file says; `other` holds parts that are unknown here, as (name, ((key, text), ...))."""

    sections: tuple[MagcItem, ...] = ()
    rois: tuple[MagcItem, ...] = ()
    focus: tuple[MagcItem, ...] = ()
    magnets: tuple[MagcItem, ...] = ()
    landmarks: tuple[MagcItem, ...] = ()
    serial_order: Order = UNKNOWN_ORDER
    stage_order: Order = UNKNOWN_ORDER
    other: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


def read_magc(path: str | Path) -> MagcWafer:
    """Return what a `.magc` file says; raise `InputError` that names the part and the key at fault."""
    path = Path(path)
    parts = _read_parts(path)
    items: dict[str, list[MagcItem]] = {group: [] for group in GROUPS}
    other = []
    for name, entries in parts.items():
        group, _, number = name.partition(".")
        if group in GROUPS and number.isdigit():
            items[group].append(_item(path, name, int(number), entries))
        elif not (name in GROUPS and set(entries) == {"number"}) and name not in ("serialorder", "tsporder"):
            other.append((name, tuple(entries.items())))
    for group in GROUPS:
        said = parts.get(group, {}).get("number", str(len(items[group])))
        if said != str(len(items[group])):
            raise InputError(
                f"{path} says that it has {said} {group}, and holds {len(items[group])}: it was cut off or edited. "
                f"Copy it again, or correct `number` in [{group}]."
            )
        numbers = [item.number for item in items[group]]
        if len(set(numbers)) < len(numbers):
            raise InputError(f"the numbers of {group} must be unique; {path} has one of them twice.")
    return MagcWafer(
        sections=tuple(items["sections"]),
        rois=tuple(items["rois"]),
        focus=tuple(items["focus"]),
        magnets=tuple(items["magnets"]),
        landmarks=tuple(items["landmarks"]),
        serial_order=_order(parts.get("serialorder", {}).get("serialorder", UNKNOWN_ORDER)),
        stage_order=_order(parts.get("tsporder", {}).get("tsporder", UNKNOWN_ORDER)),
        other=tuple(other),
    )


def write_magc(wafer: MagcWafer, path: str | Path) -> None:
    """Write a `.magc` file that `read_magc` reads as the same wafer."""
    parts: list[tuple[str, dict[str, str]]] = []
    for group in GROUPS:
        items: tuple[MagcItem, ...] = getattr(wafer, group)
        parts.append((group, {"number": str(len(items))}))
        parts += [(f"{group}.{item.number:04d}", _entries(item)) for item in items]
    parts.append(("serialorder", {"serialorder": _order_text(wafer.serial_order)}))
    parts.append(("tsporder", {"tsporder": _order_text(wafer.stage_order)}))
    parts += [(name, dict(entries)) for name, entries in wafer.other]
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()) + "\n"
        for name, entries in parts
    )
    Path(path).write_text(text, encoding="utf-8", newline="\n")


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
    def numbers(key: str) -> list[Number] | None:
        if key not in entries:
            return None
        try:
            return [_number(text) for text in entries[key].split(",")]
        except ValueError:
            raise InputError(f"`{key}` of [{part}] in {path} must be numbers; it is {entries[key]!r}.") from None

    def one(key: str) -> Number | None:
        found = numbers(key)
        if found is not None and len(found) != 1:
            raise InputError(f"`{key}` of [{part}] in {path} must be one number; it is {entries[key]!r}.")
        return None if found is None else found[0]

    def points(key: str) -> tuple[Point, ...] | None:
        found = numbers(key)
        if found is not None and len(found) % 2:
            raise InputError(f"`{key}` of [{part}] in {path} must be pairs x,y; it has {len(found)} numbers.")
        return None if found is None else tuple(zip(found[::2], found[1::2], strict=True))

    def point(key: str) -> Point | None:
        found = points(key)
        if found is not None and len(found) != 1:
            raise InputError(f"`{key}` of [{part}] in {path} must be one point x,y; it is {entries[key]!r}.")
        return None if found is None else found[0]

    template = one("template")
    if isinstance(template, float):
        raise InputError(f"`template` of [{part}] in {path} must be the number of a section; it is {template}.")
    known = {"template", "polygon", "center", "area", "angle", "compression", "location"}
    return MagcItem(
        number,
        template,
        points("polygon"),
        point("center"),
        one("area"),
        one("angle"),
        one("compression"),
        point("location"),
        tuple((key, value) for key, value in entries.items() if key not in known),
    )


def _entries(item: MagcItem) -> dict[str, str]:
    entries = {}
    for key in ("template", "polygon", "center", "area", "angle", "compression", "location"):
        value = getattr(item, key)
        if value is None:
            continue
        if key == "polygon":
            entries[key] = ",".join(str(number) for point in value for number in point)
        elif isinstance(value, tuple):
            entries[key] = ",".join(str(number) for number in value)
        else:
            entries[key] = str(value)
    return entries | dict(item.extra)


def _number(text: str) -> Number:
    text = text.strip()
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _order(text: str) -> Order:
    """Return the numbers of an order, or its text where it holds none."""
    words = text.split(",")
    return tuple(int(word) for word in words) if all(word.strip().isdecimal() for word in words) else text


def _order_text(order: Order) -> str:
    return order if isinstance(order, str) else ",".join(map(str, order))
