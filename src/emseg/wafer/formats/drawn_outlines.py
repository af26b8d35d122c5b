"""Outlines drawn in one image: the files of labelme, VIA, QuPath, ImageJ and of YOLO's segmentation.

    labelme   {"imagePath": ..., "imageHeight": ..., "shapes": [{"label": "good", "points": [[x, y], ...]}, ...]}
    VIA       {KEY: {"filename": ..., "regions": [{"shape_attributes": {"all_points_x": [...], ...}, ...}]}}
    QuPath    GeoJSON: {"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", ...}}, ...]}
    ImageJ    one region (.roi) or an archive of several (.zip); a region is named after its class, if there are classes
    YOLO      text: a class number and x1 y1 x2 y2 ... in fractions of the image's sides; four numbers are a box

Polygons, rectangles and masks are sections; other shapes are left out, and a note counts them. Shapes of labelme with
one group and one label are the parts of one section. Without a class a section has the class "section".

Source: github.com/wkentaro/labelme; robots.ox.ac.uk/~vgg/software/via; RFC 7946; ImageJ's RoiDecoder; ultralytics.
"""

import base64
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import roifile
import yaml
from PIL import Image

from emseg.errors import InputError
from emseg.files import atomic_path, decoding, read_json
from emseg.sections import UNSORTED_CLASS
from emseg.wafer.formats.outlines import Outline, number_in, other_kind, outline_of_mask

_RECTANGLES = ("rectangle", "oriented_rectangle", "rotation")
_LAST_CLASS = 999_999  # of YOLO


class Drawn:
    """The outlines of a file, and which other shapes it contains; `size` (height, width) where the file gives it."""

    def __init__(self, outlines: Sequence[Outline], left_out: Mapping[str, int], size: Any = None) -> None:
        self.outlines, self.size = list(outlines), size
        self.notes = tuple(f"left out: {n} of shape {kind!r}, which is not an outline" for kind, n in left_out.items())


def read_labelme(path: Path) -> Drawn:
    """Return the shapes of a labelme file."""
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise InputError(
            f"{path} is not a labelme file, an object with a list `shapes`{other_kind(document, 'labelme')}."
        )
    size = tuple(document.get(key) for key in ("imageHeight", "imageWidth"))
    if size != (None, None) and not all(isinstance(side, int) and side >= 1 for side in size):
        came = " and ".join(json.dumps(side)[:40] for side in size)
        raise InputError(f"`imageHeight` and `imageWidth` of {path} must be positive whole numbers; they are {came}.")
    outlines: dict[Any, Outline] = {}
    left_out: Counter[str] = Counter()
    for place, shape in enumerate(document["shapes"]):
        what, kind = f"shape {place} of {path}", "something else"
        if isinstance(shape, dict):
            kind = str(shape.get("shape_type") or "polygon")
        if kind not in ("polygon", "mask", *_RECTANGLES):
            left_out[kind] += 1
            continue
        label, group = shape.get("label"), shape.get("group_id")
        if not isinstance(label, str) or not label:
            raise InputError(f"{what} must have a label; it is {label!r}.")
        parts = _labelme_parts(what, path, shape, kind)
        key = place if group is None else (str(group), label)
        known = outlines.get(key, Outline(what, (), label))
        number = known.number if known.parts else number_in(shape.get("description"))
        outlines[key] = Outline(known.what, (*known.parts, *parts), label, number=number)
    return Drawn(list(outlines.values()), left_out, None if None in size else size)


def read_via(path: Path, image_name: str) -> Drawn:
    """Return the regions of a file of the VGG Image Annotator that belong to the image called `image_name`."""
    with decoding(path, "VIA"):
        document = read_json(path)
        entries = list(document.get("_via_img_metadata", document).values())
        named = [one for one in entries if PureWindowsPath(one["filename"]).name == image_name]
        if len(entries) > 1 and len(named) != 1:
            raise InputError(f"{path} lists {len(entries)} images, {len(named)} of them called {image_name}.")
        regions = (named or entries)[0]["regions"] if entries else []
        outlines, left_out = [], Counter[str]()
        for place, region in enumerate(regions.values() if isinstance(regions, dict) else regions):
            shape, kind = region["shape_attributes"], region["shape_attributes"]["name"]
            if kind in ("polygon", "polyline"):
                part = list(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
            elif kind == "rect":
                x, y, width, height = (shape[key] for key in ("x", "y", "width", "height"))
                part = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            else:
                left_out[kind] += 1
                continue
            classes = [
                value for value in region.get("region_attributes", {}).values() if isinstance(value, str) and value
            ]
            label = classes[0] if len(classes) == 1 else UNSORTED_CLASS
            outlines.append(Outline(f"region {place} of {path}", [part], label))
    return Drawn(outlines, left_out)


def read_geojson(path: Path) -> Drawn:
    """Return the polygons of a GeoJSON file, as QuPath exports its annotations, in pixels of the full image."""
    with decoding(path, "GeoJSON"):
        document = read_json(path)
        features = document if isinstance(document, list) else document.get("features")
        if features is None:  # one feature, or geometries alone
            features = [document] if "geometry" in document else [{"geometry": one} for one in _geometries(document)]
        outlines, left_out = [], Counter[str]()
        for place, feature in enumerate(features):
            found = _geometries(feature["geometry"] or {"type": "unlocated"})  # RFC 7946: null, or a geometry
            areas = [one for one in found if one["type"] in ("Polygon", "MultiPolygon")]
            left_out.update(one["type"] for one in found if one["type"] not in ("Polygon", "MultiPolygon"))
            if not areas:
                continue
            lists = [[one["coordinates"]] if one["type"] == "Polygon" else one["coordinates"] for one in areas]
            properties = feature.get("properties") or {}
            label = str((properties.get("classification") or {}).get("name") or UNSORTED_CLASS)
            parts = [[point[:2] for point in rings[0]] for polygons in lists for rings in polygons]
            number = number_in(properties.get("name"))
            outlines.append(Outline(f"feature {place} of {path}", parts, label, number=number))
    return Drawn(outlines, left_out)


def read_imagej(path: Path, class_names: Sequence[str]) -> Drawn:
    """Return the regions of an ImageJ file; a name that is one of `class_names`, up to a number, is the class."""
    with decoding(path, "ImageJ ROI"):
        read = roifile.roiread(path)
    outlines, left_out = [], Counter[str]()
    for place, roi in enumerate(read if isinstance(read, list) else [read]):
        with decoding(path, "ImageJ ROI"):
            kind = roifile.ROI_TYPE(roi.roitype)
            if kind in (roifile.ROI_TYPE.POINT, roifile.ROI_TYPE.LINE, roifile.ROI_TYPE.ANGLE):
                left_out[kind.name.lower()] += 1
                continue
            found = roi.coordinates(multi=True)
            parts = [np.asarray(part, dtype=np.float64) for part in (found if isinstance(found, list) else [found])]
            named = [name for name in class_names if str(roi.name).startswith(name)]
            label = max(named, key=len, default=UNSORTED_CLASS)
        number = number_in(roi.name)
        outlines.append(Outline(f"region {roi.name or place} of {path}", parts, label, number=number))
    return Drawn(outlines, left_out)


def read_yolo(path: Path, height: int, width: int, class_names: Sequence[str] | None) -> Drawn:
    """Return the sections of a label file of YOLO; classes are named by `class_names`, or data.yaml or classes.txt."""
    names, outlines = list(class_names or _yolo_names(path)) or [UNSORTED_CLASS], []
    with decoding(path, "UTF-8", repair="Save it as UTF-8."):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        what, words = f"line {number} of {path}", line.split()
        if not words:
            continue
        try:
            label, *values = map(float, words)
            points = np.asarray(values).reshape(-1, 2)
            is_usable = label.is_integer() and 0 <= label <= _LAST_CLASS
        except ValueError:
            is_usable = False
        if not is_usable:
            given = f"it is {line[:40]!r} ({len(words) - 1} after the class)"
            fault = f"{what} must be numbers: a class of 0 to {_LAST_CLASS}, then pairs x1 y1 x2 y2 ...; {given}."
            outlines.append(Outline(what, (), fault=fault))
            continue
        if len(points) == 2:  # a box: its centre and its sides
            points = points[0] + points[1] * np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        name = names[int(label)] if label < len(names) else f"class {label:.0f}"
        outlines.append(Outline(what, [points * (width, height)], name))
    return Drawn(outlines, {})


def labelme_document(outlines: Sequence[Outline], image_name: str, height: int, width: int) -> dict[str, Any]:
    """Return outlines as a labelme file; the number of a section is in its description."""
    shapes: list[dict[str, Any]] = [
        {"label": one.label, "points": [list(point) for point in part], "group_id": None, "description": one.what}
        | {"shape_type": "polygon", "flags": {}, "mask": None}
        for one in outlines
        for part in one.parts
    ]
    size = {"imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image_name} | size


def geojson_document(outlines: Sequence[Outline], colours: Mapping[str, str]) -> dict[str, Any]:
    """Return outlines as QuPath's annotations, which napari opens too; the colour of a class is "#rrggbb".

    The number of a section is in its name, its confidence among its measurements.
    """
    features = []
    for one in outlines:
        rings = [[list(point) for point in (*part, part[0])] for part in one.parts]
        geometry = {"type": "Polygon", "coordinates": rings}
        named = {"name": one.label, "color": list(bytes.fromhex(colours[one.label].removeprefix("#")))}
        properties: dict[str, Any] = {"objectType": "annotation", "name": one.what, "classification": named}
        if one.score is not None:
            # as QuPath wrote it before 0.4: every QuPath reads it, and napari-geojson no other form
            properties["measurements"] = [{"name": "confidence", "value": one.score}]
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def write_imagej(outlines: Sequence[Outline], colours: Mapping[str, str], path: Path) -> None:
    """Write outlines as an archive of ImageJ's regions, named by class and number: "good section 17"."""
    regions = []
    for one in outlines:
        region = roifile.ImagejRoi.frompoints(
            np.asarray(one.parts[0], dtype=np.float32), name=f"{one.label} {one.what}"
        )
        region.roitype = roifile.ROI_TYPE.POLYGON
        region.stroke_color = b"\xff" + bytes.fromhex(colours[one.label].removeprefix("#"))
        regions.append(region)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for region in regions:
            archive.writestr(f"{region.name}.roi", region.tobytes())


def _yolo_names(path: Path) -> Iterator[str]:
    for folder in (path.parent, *path.parents[1:3]):
        if (folder / "classes.txt").is_file():
            with decoding(folder / "classes.txt", "UTF-8", repair="Save it as UTF-8."):
                yield from (folder / "classes.txt").read_text(encoding="utf-8-sig").splitlines()
            return
        if (folder / "data.yaml").is_file():
            with decoding(folder / "data.yaml", "YAML"):
                names = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
                yield from (names.values() if isinstance(names, dict) else names)
            return


def _geometries(geometry: Any) -> list[Any]:
    """Return a GeoJSON geometry, or those of a collection."""
    if geometry["type"] != "GeometryCollection":
        return [geometry]
    return [one for member in geometry["geometries"] for one in _geometries(member)]


def _labelme_parts(what: str, path: Path, shape: Mapping[str, Any], kind: str) -> list[Any]:
    points: Any = shape.get("points")
    with decoding(path, "labelme"):
        n_points = len(points) if isinstance(points, list) else 0
        if kind in _RECTANGLES and n_points not in (2, 4):
            raise InputError(f"{what} must have points [x, y]; a rectangle has two of them, or four.")
        if kind == "mask":  # a picture of the box between its two points
            try:
                with decoding(path, "labelme"), Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
                    mask = np.asarray(image) > 0
            except InputError:
                came = json.dumps(shape.get("mask"))[:40]
                raise InputError(f"the mask of {what} must be a PNG in base64; it is {came}. Draw it again.") from None
            return [np.asarray(part) + np.min(points, axis=0) for part in outline_of_mask(mask)]
        if kind in _RECTANGLES and n_points == 2:
            (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
            return [[(left, top), (right, top), (right, bottom), (left, bottom)]]
    return [points]
