"""Files `.mass.json`: the sections of a wafer as napari-mass writes them, read and written without loss.

    {"created": ..., "source": ...,
     "sections": {"0": {"sample": {"polygon": [[x, y], ...], "center": [x, y], "angle": degrees},
                        "rois": {"0": {"polygon": ..., "center": ..., "angle": ...}, ...},
                        "focus": {"0": {"location": [x, y]}, ...},
                        "magnet": {"polygon": [[x, y]]}}, ...},
     "landmarks": {"0": {"source": {"location": [x, y]}}, ...},
     "serial_order": [...], "stage_order": [...]}

The content is that of a `.magc` file (see `emseg.wafer.formats.magc`), without areas, compression and templates.
Unknown keys are kept. Deviation: keys are written in the order above.

Source: https://github.com/SBEMimage/SBEMimage, array/example.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from emseg.checks import is_number
from emseg.errors import InputError
from emseg.files import read_json, write_atomically
from emseg.wafer.formats.magc import Number, Order, Point

_FILE_KEYS = ("created", "source", "sections", "landmarks", "serial_order", "stage_order")


@dataclass(frozen=True)
class MassShape:
    """A sample, a ROI, a focus point, a magnet or a landmark; a key that the file lacks is None."""

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
    """The content of a `.mass.json` file; a landmark is its places ("source", "target") by name."""

    sections: tuple[MassSection, ...]
    created: str | None = None
    source: str | None = None
    landmarks: Mapping[str, Mapping[str, MassShape]] | None = None
    serial_order: Order | None = None
    stage_order: Order | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_mass_json(path: str | Path) -> MassWafer:
    """Return the content of a `.mass.json` file; raises `InputError` that names the place at fault."""
    document, read = read_json(path), _Reader(Path(path))
    if not isinstance(document, dict) or not isinstance(document.get("sections"), dict):
        raise InputError(f"{path} is no .mass.json file: it must be an object with an object `sections`.")
    given: dict[str, Any] = {key: document.get(key) for key in _FILE_KEYS}
    if "landmarks" in document:
        listed = read.object("landmarks", given["landmarks"])
        given["landmarks"] = {key: read.shapes(f"landmarks.{key}", entry) for key, entry in listed.items()}
    given["sections"] = tuple(read.section(key, entry) for key, entry in document["sections"].items())
    orders = {key: read.order(key, given[key]) for key in ("serial_order", "stage_order")}
    extra = {key: value for key, value in document.items() if key not in _FILE_KEYS}
    return MassWafer(**given | orders, extra=extra)


def write_mass_json(wafer: MassWafer, path: str | Path) -> None:
    """Write a `.mass.json` file that `read_mass_json` reads as the same wafer."""
    values = _entry(wafer) | {"sections": {section.key: _entry(section) for section in wafer.sections}}
    document = {key: values[key] for key in _FILE_KEYS if key in values} | dict(wafer.extra)
    write_atomically(path, json.dumps(document, indent=4))


@dataclass(frozen=True)
class _Reader:
    """Reads the parts of one file; `where` says where in it an entry is, such as "sections.0.sample"."""

    path: Path

    def require(self, good: bool, where: str, value: Any, what: str) -> Any:
        if not good:
            raise InputError(f"{where} in {self.path} must be {what}; it is {str(value)[:60]}.")
        return value

    def section(self, key: str, entry: Any) -> MassSection:
        readers = {"sample": self.shape, "rois": self.shapes, "focus": self.shapes, "magnet": self.shape}
        return MassSection(key, **self.known(f"sections.{key}", entry, readers))

    def shapes(self, where: str, entry: Any) -> dict[str, MassShape]:
        return {key: self.shape(f"{where}.{key}", one) for key, one in self.object(where, entry).items()}

    def shape(self, where: str, entry: Any) -> MassShape:
        readers = {"polygon": self.polygon, "center": self.point, "angle": self.angle, "location": self.point}
        return MassShape(**self.known(where, entry, readers))

    def known(self, where: str, entry: Any, readers: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
        """The values of an object's known keys, each by its reader, and all others as "extra"."""
        entry = self.object(where, entry)
        values = {key: read(f"{where}.{key}", entry[key]) for key, read in readers.items() if key in entry}
        return values | {"extra": {key: value for key, value in entry.items() if key not in readers}}

    def polygon(self, where: str, value: Any) -> tuple[Point, ...] | None:
        self.require(value is None or isinstance(value, list), where, value, "a list of [x, y]")
        return None if value is None else tuple(self.point(where, point) for point in value)

    def point(self, where: str, value: Any) -> Point:
        good = isinstance(value, list) and len(value) >= 2 and all(map(is_number, value))
        return tuple(self.require(good, where, value, "[x, y]"))

    def angle(self, where: str, value: Any) -> Number | None:
        return self.require(value is None or is_number(value), where, value, "a number")  # type: ignore[no-any-return]

    def order(self, where: str, value: Any) -> Order | None:
        if value is None or isinstance(value, str):
            return value
        good = isinstance(value, list) and all(isinstance(number, int) for number in value)
        return tuple(self.require(good, where, value, "a list of section numbers"))

    def object(self, where: str, value: Any) -> dict[str, Any]:
        return self.require(isinstance(value, dict), where, value, "an object")  # type: ignore[no-any-return]


def _entry(value: Any) -> Any:
    """A data class as its fields that are not None, then its `extra`; mappings entry by entry."""
    if isinstance(value, Mapping):
        return {key: _entry(one) for key, one in value.items()}
    if not isinstance(value, MassShape | MassSection | MassWafer):
        return value
    said = {one.name: getattr(value, one.name) for one in fields(value) if one.name not in ("key", "extra")}
    return {name: _entry(one) for name, one in said.items() if one is not None} | dict(value.extra)
