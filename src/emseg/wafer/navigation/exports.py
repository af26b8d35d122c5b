"""The result of a wafer as files: one that contains everything, and those that other programs read.

    NAME.found.json       everything (`read_found`); places are (row, column), as in `FoundWafer`
    NAME.csv              a line for each section, with its orders and, where the pixel size is known, micrometres
    NAME.magc             SBEMimage, napari-mass       NAME.magfinder.magc   MagFinder
    NAME.mass.json        napari-mass                  NAME.coco.json        COCO, `emseg wafer train`
    NAME.geojson          QuPath, napari               NAME.rois.zip         ImageJ, Fiji
    NAME.labelme.json     labelme

MagFinder opens the first `.magc` of a folder, so give its file, with the image, a separate folder. A section has the
same number in all files: its place in the result, from 0. Files of selected classes leave numbers out;
`NAME.found.json` and `NAME.coco.json`, from which a finder learns, always contain all sections. A section whose
direction is unknown has that of its first side in the two `.magc` files and in `.mass.json`, which have no place for
an unknown angle.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import shapely
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emseg.checks import describe, require_one_of
from emseg.errors import InputError
from emseg.files import digest_of, read_json, write_atomically
from emseg.wafer.formats.benchmark_folder import require_wafer_name
from emseg.wafer.formats.coco import coco_document
from emseg.wafer.formats.drawn_outlines import geojson_document, labelme_document, write_imagej
from emseg.wafer.formats.magc import GROUPS, UNKNOWN_ORDER, Dialect, MagcItem, MagcWafer, side_angle_deg, write_magc
from emseg.wafer.formats.mass_json import MassSection, MassShape, MassWafer, write_mass_json
from emseg.wafer.formats.outlines import Outline, other_kind
from emseg.wafer.navigation.found import FoundSection, FoundWafer, Region
from emseg.wafer.section_figures import class_colours
from emseg.wafer.tiles import Tile, TileSection

FOUND = ".found.json"
_POINTS = ("center", "corner0", "corner1", "corner2", "corner3")
_DIGITS = 3  # of coordinates in the files of other programs

Number = Annotated[float, Field(allow_inf_nan=False)]
Place = tuple[Number, Number]
Points = Float64[np.ndarray, "_ 2"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Region(_Part):
    kind: Literal["roi", "focus"]
    points: tuple[Place, ...]


class _Section(_Part):
    corners: tuple[Place, Place, Place, Place]
    outline: Annotated[tuple[Place, ...], Field(min_length=3)]
    label: str
    score: Number
    votes: dict[str, Number]
    angle_deg: Number | None
    confidence: Annotated[float, Field(ge=0, le=1)]
    residual: Number | None
    magnet: Place | None
    regions: tuple[_Region, ...]
    reasons: tuple[str, ...]

    def section(self) -> FoundSection:
        regions = tuple(Region(one.kind, _places(one.points)) for one in self.regions)
        more = {"regions": regions, "corners": _places(self.corners), "outline": _places(self.outline)}
        return FoundSection(**self.model_dump() | more)


class FoundFile(_Part):
    """The content of NAME.found.json: a result, its image's file, and the classes of the other files if not all."""

    emseg_found: Literal[1]
    image: str | None
    exported_classes: tuple[str, ...] | None
    name: str
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    class_names: tuple[str, ...]
    pixel_size_um: Annotated[Number, Field(gt=0)] | None
    sections: tuple[_Section, ...]
    candidates: tuple[_Section, ...]
    serial_order: tuple[int, ...] | None
    stage_order: tuple[int, ...] | None
    landmarks: tuple[Place, ...] | None
    notes: tuple[str, ...]

    @model_validator(mode="after")
    def _agrees(self) -> "FoundFile":
        require_wafer_name(self.name)
        for order in (self.serial_order or (), self.stage_order or ()):
            if len(set(order)) < len(order) or not set(order) <= set(range(len(self.sections))):
                raise InputError(f"an order must list sections, each at most once, from 0 to {len(self.sections) - 1}.")
        for one in (*self.sections, *self.candidates):
            require_one_of("label", one.label, self.class_names)
        return self

    def wafer(self) -> FoundWafer:
        """Return the result."""
        known = self.model_dump(exclude={"emseg_found", "image", "exported_classes"})
        known["sections"] = tuple(one.section() for one in self.sections)
        known["candidates"] = tuple(one.section() for one in self.candidates)
        return FoundWafer(**known | {"landmarks": None if self.landmarks is None else _places(self.landmarks)})


def write_wafer(
    found: FoundWafer, folder: str | Path, *, image: str | Path | None = None, classes: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """Write a result in all formats to `folder` and return the files, that with everything first.

    `image` is the file of the wafer image; by default the one that a result written here before names. With `classes`
    the files for other programs, except COCO, contain only sections of these. Each file is written in one step. Raises
    `UsageError` for a class that the wafer has not, or a name that cannot be part of a file's name; `InputError` if
    writing fails.
    """
    folder, name = Path(folder), require_wafer_name(found.name)
    for one in classes or ():
        require_one_of("classes", one, found.class_names)
    master = folder / f"{name}{FOUND}"
    if image is None and master.is_file():
        image = open_found(master).image
    image = None if image is None else Path(image).resolve()
    numbers = [number for number, one in enumerate(found.sections) if classes is None or one.label in classes]
    image_name, size = image.name if image else f"{name}.png", (found.height, found.width)
    from_folder = Path(os.path.relpath(image, folder)).as_posix() if image else image_name  # labelme opens the image so
    chosen = {number: found.sections[number] for number in numbers}
    colours = class_colours(found.class_names)
    document = {"image": None if image is None else str(image), "exported_classes": classes and list(classes)}
    writers: dict[str, Callable[[Path], None]] = {
        FOUND: _text(json.dumps({"emseg_found": 1, **document, **found_document(found)}, indent=1)),
        ".csv": _text(_csv_text(found, numbers)),
        ".magc": lambda path: write_magc(magc_of(found, numbers, "SBEMimage"), path),
        ".magfinder.magc": lambda path: write_magc(magc_of(found, numbers, "MagFinder"), path),
        ".mass.json": lambda path: write_mass_json(mass_of(found, numbers), path),
        ".coco.json": _text(json.dumps(_coco_document(found, image_name))),
        ".geojson": _text(json.dumps(geojson_document(_outlines(chosen), colours), indent=1)),
        ".rois.zip": lambda path: write_imagej(_outlines(chosen), colours, path),
        ".labelme.json": _text(json.dumps(labelme_document(_outlines(chosen), from_folder, *size), indent=1)),
    }
    paths = tuple(folder / f"{name}{suffix}" for suffix in writers)
    for path, write in zip(paths, writers.values(), strict=True):
        write(path)
    return paths


def read_found(place: str | Path) -> FoundWafer:
    """Return the result in a folder that `write_wafer` wrote, or in its file; raises as `open_found` does."""
    return open_found(place).wafer()


def open_found(place: str | Path) -> FoundFile:
    """Return the content of a folder's file NAME.found.json, or of the file `place`.

    Raises `InputError` for a folder with none or several, and for a damaged file, naming the place at fault.
    """
    path = Path(place)
    if path.is_dir():
        inside = sorted(path.glob(f"*{FOUND}"))
        if len(inside) != 1:
            names = f" ({', '.join(one.name for one in inside)}). Name one of them" if inside else ""
            raise InputError(
                f"{path} must be a folder of `emseg wafer find`, with one NAME{FOUND}; it has {len(inside)}{names}."
            )
        path = inside[0]
    document = read_json(path)
    if not isinstance(document, dict) or "emseg_found" not in document:
        raise InputError(f"{path} must be a file NAME{FOUND} of `emseg wafer find`{other_kind(document, None)}.")
    try:
        return FoundFile.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {describe(error)} Find the sections again.") from None


def found_digest(found: FoundWafer) -> str:
    """Return a short digest of the corners and classes of all sections and candidates."""
    shown = [(one.corners.tolist(), one.label) for one in (*found.sections, *found.candidates)]
    return digest_of(json.dumps([found.name, shown]))


def found_document(found: FoundWafer) -> dict[str, Any]:
    """Return a result as JSON knows it."""
    return json.loads(json.dumps(dataclasses.asdict(found), default=lambda value: value.tolist()))  # type: ignore[no-any-return]


def magc_of(found: FoundWafer, numbers: Sequence[int], dialect: Dialect) -> MagcWafer:
    """Return the sections with these numbers in the form of a `.magc` file; classes have no place there."""
    items: dict[str, list[MagcItem]] = {group: [] for group in GROUPS}
    for number in numbers:
        one = found.sections[number]
        shape, area = _shape(one.corners, one.angle_deg)
        items["sections"].append(
            MagcItem(number, area=area, compression=1 if dialect == "SBEMimage" else None, **shape)
        )
        rois, focus = _regions(one)
        for place, points in enumerate(rois):
            (shape, area), several = _shape(points), len(rois) > 1 or dialect == "MagFinder"
            items["rois"].append(MagcItem(number, area=area, place=place if several else None, **shape))
        items["focus"] += [MagcItem(number, polygon=tuple(focus))] if focus else []
        items["magnets"] += [] if one.magnet is None else [MagcItem(number, location=_xy([one.magnet])[0])]
    items["landmarks"] = [MagcItem(place, location=point) for place, point in enumerate(_xy(found.landmarks))]
    groups: Any = {group: tuple(listed) for group, listed in items.items()}
    return MagcWafer(**groups, **_orders(found, numbers), dialect=dialect)


def mass_of(found: FoundWafer, numbers: Sequence[int]) -> MassWafer:
    """Return the sections with these numbers in the form of a `.mass.json` file; classes have no place there."""
    sections = {}
    for number in numbers:
        one = found.sections[number]
        rois, focus = _regions(one)
        parts: dict[str, Any] = {"sample": MassShape(**_shape(one.corners, one.angle_deg)[0])}
        parts["rois"] = {str(place): MassShape(**_shape(points)[0]) for place, points in enumerate(rois)}
        parts["focus"] = {str(place): MassShape(location=point) for place, point in enumerate(focus)}
        parts["magnet"] = None if one.magnet is None else MassShape(polygon=tuple(_xy([one.magnet])))
        sections[str(number)] = MassSection(**{key: part for key, part in parts.items() if part})
    landmarks = {str(k): {"source": MassShape(location=point)} for k, point in enumerate(_xy(found.landmarks))}
    orders: dict[str, Any] = _orders(found, numbers)
    orders = {key: () if order == UNKNOWN_ORDER else order for key, order in orders.items()}  # here an empty list
    return MassWafer(source="emseg", sections=sections, landmarks=landmarks, **orders)


def _shape(places: Points, angle_deg: float | None = None) -> tuple[dict[str, Any], int]:
    """Corners (x, y), their centre of mass, the angle, by default that of the first side; and the area."""
    shape = shapely.Polygon(places) if len(places) > 2 else shapely.MultiPoint(places)
    angle = side_angle_deg(places) if angle_deg is None else angle_deg
    (center,) = _xy(shape.centroid.coords)
    return {"polygon": tuple(_xy(places)), "center": center, "angle": round(angle, _DIGITS)}, round(shape.area)


def _regions(one: FoundSection) -> tuple[list[Points], list[Place]]:
    """The regions of interest of a section, and all its focus points (x, y)."""
    rois = [region.points for region in one.regions if region.kind == "roi"]
    return rois, [point for region in one.regions if region.kind == "focus" for point in _xy(region.points)]


def _orders(found: FoundWafer, numbers: Sequence[int]) -> dict[str, Any]:
    """The orders that contain all these sections: MagFinder shows no others than those of its serial order."""
    orders = {"serial_order": found.serial_order, "stage_order": found.stage_order}
    chosen = {key: tuple(one for one in order or () if one in set(numbers)) for key, order in orders.items()}
    return {key: order if len(order) == len(numbers) > 0 else UNKNOWN_ORDER for key, order in chosen.items()}


def _xy(places: Any) -> list[Place]:
    """Places (row, column) as points (x, y) of the other programs, rounded; none for None."""
    rounded = np.array([] if places is None else places, dtype=np.float64).reshape(-1, 2).round(_DIGITS)
    return [(x, y) for y, x in (rounded + 0.0).tolist()]  # no -0.0


def _outlines(chosen: Mapping[int, FoundSection]) -> list[Outline]:
    return [
        Outline(f"section {number}", [_xy(one.corners)], one.label, one.angle_deg, number=number, score=one.confidence)
        for number, one in chosen.items()
    ]


def _coco_document(found: FoundWafer, image_name: str) -> dict[str, Any]:
    shown = tuple(
        TileSection(number, one.label, (one.corners,), float(shapely.Polygon(one.corners).area), 1.0, False)
        for number, one in enumerate(found.sections)
    )
    whole = Tile(found.name, 0, 0, found.height, found.width, shown)
    document = coco_document([whole], found.class_names, f"sections of {found.name}, found by emseg")
    document["images"][0]["file_name"] = image_name
    for entry in document["annotations"]:
        entry["score"] = round(found.sections[entry["section"]].confidence, 6)
    return document


def _csv_text(found: FoundWafer, numbers: Sequence[int]) -> str:
    """A line for each section; lengths in pixels and, with a pixel size, in micrometres of the image."""
    units = {"px": 1.0} | ({"um": found.pixel_size_um} if found.pixel_size_um else {})
    orders = {"serial_place": found.serial_order or (), "stage_place": found.stage_order or ()}
    places = {key: {number: place for place, number in enumerate(order)} for key, order in orders.items()}
    lines = []
    for number in numbers:
        one = found.sections[number]
        line = {"section": number, "class": one.label, "confidence": one.confidence, "score": one.score}
        line |= {"residual": one.residual, "angle_deg": one.angle_deg} | {
            key: places[key].get(number) for key in places
        }
        points = np.array([shapely.Polygon(one.corners).centroid.coords[0], *one.corners])
        for (unit, scale), (name, place) in product(units.items(), zip(_POINTS, points, strict=True)):
            line |= {f"{name}_x_{unit}": place[1] * scale, f"{name}_y_{unit}": place[0] * scale}
        lines.append(line | {"reasons": "; ".join(one.reasons)})
    table = pd.DataFrame(lines, columns=None if lines else ["section", "class"])
    whole = dict.fromkeys(set(table) & set(orders), "Int64")  # a number or nothing
    return str(table.astype(whole).round(_DIGITS).to_csv(index=False, lineterminator="\n"))


def _places(points: Sequence[tuple[float, float]]) -> Points:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: write_atomically(path, text if text.endswith("\n") else text + "\n")
