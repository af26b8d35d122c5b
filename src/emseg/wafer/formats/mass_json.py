"""Files `.mass.json`: the sections of a wafer as napari-mass writes them, read and written without loss.

    {"created": ..., "source": ...,
     "sections": {"0": {"sample": {"polygon": [[x, y], ...], "center": [x, y], "angle": degrees},
                        "rois": {"0": {"polygon": ..., "center": ..., "angle": ...}, ...},
                        "focus": {"0": {"location": [x, y]}, ...},
                        "magnet": {"polygon": [[x, y]]}}, ...},
     "landmarks": {"0": {"source": {"location": [x, y]}}, ...},
     "serial_order": [...], "stage_order": [...]}

It holds what a `.magc` file does (see `emseg.wafer.formats.magc`), without areas, compression and
templates. An order that nobody knows is the text "[]". Keys that are unknown here are kept as they are.

Deviation: keys are written in the order above. Source: https://github.com/SBEMimage/SBEMimage, array/example.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emseg.errors import InputError
from emseg.wafer.formats.coco import read_json
from emseg.wafer.formats.magc import Number, Order, Point

_SHAPE_KEYS = ("polygon", "center", "angle", "location")
_SECTION_KEYS = ("sample", "rois", "focus", "magnet")
_FILE_KEYS = ("created", "source", "sections", "landmarks", "serial_order", "stage_order")
_INDENT = 4


@dataclass(frozen=True)
class MassShape:
    """A sample, a ROI, a focus point, a magnet or a landmark; what the file does not say is None."""

    polygon: tuple[Point, ...] | None = None
    center: Point | None = None
    angle: Number | None = None
    location: Point | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MassSection:
    """One section: the outline of the tissue (`sample`) and what belongs to it, by the file's keys."""

    key: str
    sample: MassShape | None = None
    rois: Mapping[str, MassShape] | None = None
    focus: Mapping[str, MassShape] | None = None
    magnet: MassShape | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MassWafer:
    """All that a `.mass.json` file says; a landmark is its places ("source", "target") by name."""

    sections: tuple[MassSection, ...]
    created: str | None = None
    source: str | None = None
    landmarks: Mapping[str, Mapping[str, MassShape]] | None = None
    serial_order: Order | None = None
    stage_order: Order | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_mass_json(path: str | Path) -> MassWafer:
    """Return what a `.mass.json` file says; raise `InputError` that names the place at fault."""
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("sections"), dict):
        raise InputError(f"{path} is no .mass.json file: it must be an object with an object `sections`.")
    landmarks = None
    if "landmarks" in document:
        landmarks = {
            key: _shapes(path, f"landmarks.{key}", entry)
            for key, entry in _object(path, "landmarks", document["landmarks"]).items()
        }
    return MassWafer(
        sections=tuple(_section(path, key, entry) for key, entry in document["sections"].items()),
        created=document.get("created"),
        source=document.get("source"),
        landmarks=landmarks,
        serial_order=_order(path, "serial_order", document.get("serial_order")),
        stage_order=_order(path, "stage_order", document.get("stage_order")),
        extra=_others(document, _FILE_KEYS),
    )


def write_mass_json(wafer: MassWafer, path: str | Path) -> None:
    """Write a `.mass.json` file that `read_mass_json` reads as the same wafer."""
    landmarks = wafer.landmarks
    document = _said(
        created=wafer.created,
        source=wafer.source,
        sections={section.key: _section_entry(section) for section in wafer.sections},
        landmarks=None if landmarks is None else {key: _shape_entries(shapes) for key, shapes in landmarks.items()},
        serial_order=wafer.serial_order,
        stage_order=wafer.stage_order,
    )
    Path(path).write_text(json.dumps(document | dict(wafer.extra), indent=_INDENT), encoding="utf-8", newline="\n")


def _section(path: Path, key: str, entry: Any) -> MassSection:
    where = f"sections.{key}"
    entry = _object(path, where, entry)
    return MassSection(
        key,
        sample=_shape(path, f"{where}.sample", entry["sample"]) if "sample" in entry else None,
        rois=_shapes(path, f"{where}.rois", entry["rois"]) if "rois" in entry else None,
        focus=_shapes(path, f"{where}.focus", entry["focus"]) if "focus" in entry else None,
        magnet=_shape(path, f"{where}.magnet", entry["magnet"]) if "magnet" in entry else None,
        extra=_others(entry, _SECTION_KEYS),
    )


def _shapes(path: Path, where: str, entry: Any) -> dict[str, MassShape]:
    return {key: _shape(path, f"{where}.{key}", one) for key, one in _object(path, where, entry).items()}


def _shape(path: Path, where: str, entry: Any) -> MassShape:
    entry = _object(path, where, entry)
    polygon, angle = entry.get("polygon"), entry.get("angle")
    if polygon is not None and not isinstance(polygon, list):
        raise InputError(f"{where}.polygon in {path} must be a list of [x, y]; it is {polygon!r}.")
    if angle is not None and not _is_number(angle):
        raise InputError(f"{where}.angle in {path} must be a number; it is {angle!r}.")
    return MassShape(
        None if polygon is None else tuple(_point(path, f"{where}.polygon", point) for point in polygon),
        _point(path, f"{where}.center", entry["center"]) if "center" in entry else None,
        angle,
        _point(path, f"{where}.location", entry["location"]) if "location" in entry else None,
        _others(entry, _SHAPE_KEYS),
    )


def _point(path: Path, where: str, point: Any) -> Point:
    if not isinstance(point, list) or len(point) < 2 or not all(_is_number(number) for number in point):
        raise InputError(f"a point must be [x, y]; {where} in {path} holds {point!r}.")
    return tuple(point)


def _order(path: Path, key: str, order: Any) -> Order | None:
    if order is None or isinstance(order, str):
        return order
    if not isinstance(order, list) or not all(isinstance(number, int) for number in order):
        raise InputError(f"{key} in {path} must list numbers of sections; it is {str(order)[:60]}.")
    return tuple(order)


def _section_entry(section: MassSection) -> dict[str, Any]:
    return _said(
        sample=None if section.sample is None else _shape_entry(section.sample),
        rois=None if section.rois is None else _shape_entries(section.rois),
        focus=None if section.focus is None else _shape_entries(section.focus),
        magnet=None if section.magnet is None else _shape_entry(section.magnet),
    ) | dict(section.extra)


def _shape_entries(shapes: Mapping[str, MassShape]) -> dict[str, Any]:
    return {key: _shape_entry(shape) for key, shape in shapes.items()}


def _shape_entry(shape: MassShape) -> dict[str, Any]:
    said = _said(polygon=shape.polygon, center=shape.center, angle=shape.angle, location=shape.location)
    return said | dict(shape.extra)


def _said(**entries: Any) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _others(entry: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in known}


def _object(path: Path, where: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{where} in {path} must be an object; it is {str(entry)[:60]}.")
    return entry


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
