"""Files of labelme: outlines drawn by hand on a wafer image.

    {"imagePath": "wafer.png", "imageHeight": ..., "imageWidth": ...,
     "shapes": [{"label": "good", "points": [[x, y], ...], "shape_type": "polygon"}, ...]}

Polygons and rectangles (two opposite corners, or all four) are sections; other shapes are left out, and a note counts
them. Source: https://github.com/wkentaro/labelme.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from emseg.errors import InputError
from emseg.files import read_json
from emseg.sections import Section, WaferSections, as_polygon
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES

_RECTANGLES = ("rectangle", "oriented_rectangle", "rotation")


@dataclass(frozen=True, eq=False)
class LabelmeWafer:
    """The sections of a labelme file, and the image that they were drawn on."""

    image_path: Path
    sections: WaferSections


def read_labelme(
    path: str | Path,
    *,
    image_path: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    pixel_size_um: float | None = None,
) -> LabelmeWafer:
    """Return the sections of a labelme file; its image is beside it, unless `image_path` names another.

    The classes are the paper's four if all labels are among them, else the labels in alphabetical order. Raises
    `InputError` for a missing image, no usable shape, impossible outlines, and labels that are not in `class_names`.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise InputError(f"{path} is no labelme file: it must be an object with a list `shapes`.")
    image_path = _image_path(path, document) if image_path is None else Path(image_path)
    for key in ("imageHeight", "imageWidth"):
        if not isinstance(document.get(key), int) or document[key] < 1:
            raise InputError(f"`{key}` of {path} must be a positive whole number; it is {document.get(key)!r}.")
    sections = []
    left_out: Counter[str] = Counter()
    for place, shape in enumerate(document["shapes"]):
        kind = str(shape.get("shape_type", "polygon")) if isinstance(shape, dict) else "something else"
        if kind != "polygon" and kind not in _RECTANGLES:
            left_out[kind] += 1
            continue
        label = shape.get("label")
        if not isinstance(label, str) or not label:
            raise InputError(f"shape {place} of {path} must have a label; it is {label!r}.")
        sections.append(Section(_outline(f"shape {place} of {path}", shape.get("points"), kind), label))
    if not sections:
        kinds = ", ".join(left_out) or "nothing"
        raise InputError(f"{path} has no section: it needs polygons or rectangles and holds {kinds}.")
    notes = tuple(f"left out: {count} of shape {kind!r}, which is no outline" for kind, count in left_out.items())
    labels = sorted({section.label for section in sections})
    names = tuple(class_names or (SECTION_CLASSES if set(labels) <= set(SECTION_CLASSES) else labels))
    name, height, width = path.name.removesuffix(".json"), document["imageHeight"], document["imageWidth"]
    made = WaferSections(name, height, width, tuple(sections), names, pixel_size_um=pixel_size_um, notes=notes)
    return LabelmeWafer(image_path, made)


def _image_path(path: Path, document: dict[str, Any]) -> Path:
    name = document.get("imagePath")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path} names no image (`imagePath`). Give the image beside the file.")
    drawn_on = PureWindowsPath(name)  # labelme writes the separators of its own machine
    for found in (path.parent / drawn_on.as_posix(), path.parent / drawn_on.name):
        if found.is_file():
            return found
    raise InputError(f"{path} was drawn on {name}, which is not beside it. Put the image into {path.parent}.")


def _outline(what: str, points: Any, kind: str) -> Float64[np.ndarray, "vertex 2"]:
    try:
        corners = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or (kind in _RECTANGLES and len(corners) not in (2, 4)):
        raise InputError(f"{what} must have points [x, y]; a rectangle has two of them.")
    if kind == "rectangle" and len(corners) == 2:
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        return np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    return as_polygon(corners[:, ::-1])
