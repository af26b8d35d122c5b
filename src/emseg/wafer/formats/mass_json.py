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
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emseg.errors import InputError
from emseg.files import read_json, write_atomically
from emseg.sections import WaferSections
from emseg.wafer.formats.magc import (
    GROUPS,
    UNKNOWN_ORDER,
    MagcItem,
    MagcWafer,
    Number,
    Order,
    corners_of,
    numbered_sections,
    serial_order,
)
from emseg.wafer.formats.outlines import Faults, other_kind, refuse_faults

MassPoint = Annotated[tuple[Number, ...], Field(min_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class MassShape(_Part):
    """A sample, a ROI, a focus point, a magnet or a landmark; a key that the file lacks is not set."""

    polygon: tuple[MassPoint, ...] | None = None
    center: MassPoint | None = None
    angle: Number | None = None
    location: MassPoint | None = None


class MassSection(_Part):
    """One section: the outline of the tissue (`sample`) and what belongs to it, by the file's keys."""

    sample: MassShape | None = None
    rois: dict[str, MassShape] | None = None
    focus: dict[str, MassShape] | None = None
    magnet: MassShape | None = None


class MassWafer(_Part):
    """The content of a `.mass.json` file; a landmark is its places ("source", "target") by name."""

    created: str | None = None
    source: str | None = None
    sections: dict[str, MassSection]
    landmarks: dict[str, dict[str, MassShape]] | None = None
    serial_order: Order | None = None
    stage_order: Order | None = None


def read_mass_json(path: str | Path) -> MassWafer:
    """Return the content of a `.mass.json` file; raises `InputError` that lists the places at fault."""
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("sections"), dict):
        raise InputError(f"{path} is not a .mass.json file, with an object `sections`{other_kind(document, 'mass')}.")
    try:
        return MassWafer.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        listed = {".".join(map(str, one["loc"])): one for one in reversed(error.errors())}
        faults = [f"{place}: {one['msg']}; got {str(one['input'])[:60]}." for place, one in reversed(listed.items())]
        refuse_faults(path, [f"{path} is a damaged .mass.json file: {faults[0]}", *faults[1:]])
        raise


def write_mass_json(wafer: MassWafer, path: str | Path) -> None:
    """Write a `.mass.json` file that `read_mass_json` reads as the same wafer."""
    write_atomically(path, json.dumps(wafer.model_dump(exclude_unset=True), indent=4))


def sections_from_mass(
    wafer: MassWafer,
    *,
    name: str,
    height: int,
    width: int,
    pixel_size_um: float | None = None,
    faults: Faults = "refuse",
) -> WaferSections:
    """Return the samples as outlines on an image of this size, as `sections_from_magc` does."""
    samples = [(number, section.sample or MassShape()) for number, section in _numbered(wafer, name)]
    items = [(number, sample.polygon, sample.angle) for number, sample in samples]
    size = {"name": name, "height": height, "width": width, "pixel_size_um": pixel_size_um}
    return numbered_sections(items, wafer.serial_order or UNKNOWN_ORDER, faults, **size)


def magc_of_mass(wafer: MassWafer) -> MagcWafer:
    """Return the content as a `.magc` file contains it: focus points as one polygon, landmarks by their source."""
    items: dict[str, list[MagcItem]] = {group: [] for group in GROUPS}
    for number, section in _numbered(wafer, "the file"):
        sample, magnet = section.sample or MassShape(), section.magnet and (section.magnet.polygon or ())
        focus = tuple(one.location for one in (section.focus or {}).values() if one.location)
        items["sections"].append(MagcItem(number, polygon=sample.polygon, center=sample.center, angle=sample.angle))
        items["rois"] += [
            MagcItem(number, polygon=one.polygon, place=k) for k, one in enumerate((section.rois or {}).values())
        ]
        items["focus"] += [MagcItem(number, polygon=focus)] if focus else []
        items["magnets"] += [MagcItem(number, location=magnet[0])] if magnet else []
    sources = [one["source"].location for one in (wafer.landmarks or {}).values() if "source" in one]
    items["landmarks"] = [MagcItem(place, location=point) for place, point in enumerate(sources)]
    groups: Any = {group: tuple(listed) for group, listed in items.items()}
    orders = (wafer.serial_order or UNKNOWN_ORDER, wafer.stage_order or UNKNOWN_ORDER)
    return MagcWafer(**groups, serial_order=orders[0], stage_order=orders[1])


def mass_from_sections(wafer: WaferSections) -> MassWafer:
    """Return the sections in the form of a `.mass.json` file; classes have no place there and are dropped."""
    sections = {}
    for place, section in enumerate(wafer.sections):
        corners, center, angle = corners_of(section)
        sections[str(place)] = MassSection(sample=MassShape(polygon=corners, center=center, angle=angle))
    order = serial_order(wafer)
    known = order if isinstance(order, tuple) else ()  # an unknown order is an empty list in this format
    return MassWafer(source="emseg", sections=sections, landmarks={}, serial_order=known, stage_order=())


def _numbered(wafer: MassWafer, name: str) -> Iterator[tuple[int, MassSection]]:
    for key, section in wafer.sections.items():
        if not (key.isascii() and key.isdecimal()):
            raise InputError(f"sections must have numbers as keys; {name} has {key!r}.")
        yield int(key), section
