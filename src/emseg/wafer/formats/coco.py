"""COCO annotation files: one reader of any user's file, which reports every fault by name, and one writer.

    images        id, file_name, height, width; in files that we wrote also wafer, row and column, where it was cut from
    annotations   id, image_id, category_id, segmentation, iscrowd; a segmentation is a list of closed outlines
                  [x1, y1, x2, y2, ...], and (x, y) is (column, row) here; several outlines are parts of one section
    categories    id, name

We write ids from 1, the categories in the order of the class names, "bbox" and "area" computed from the outlines.
`read_coco` refuses run-length masks: they hold pixels, and what follows needs outlines (scores read either).

Source: the "object detection" format of https://cocodataset.org/#format-data. Deviation: "bbox" and "area" are not
read, because they follow from the outline.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float64

from emseg.errors import InputError, suggest
from emseg.files import read_json
from emseg.sections import as_polygon, require_polygon
from emseg.wafer.tiles import Tile, TilePlace

Parts = tuple[Float64[np.ndarray, "vertex 2"], ...]
_COORDINATE_DIGITS = 3


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file; `wafer`, `row` and `column` are None where the file does not give them."""

    id: int
    file_name: str
    height: int
    width: int
    wafer: str | None = None
    row: int | None = None
    column: int | None = None


@dataclass(frozen=True, eq=False)
class CocoAnnotation:
    """One section in one image; `parts` are outlines (row, column) in the image."""

    id: int
    image_id: int
    label: str
    parts: Parts
    crowd: bool = False

    @property
    def area_px(self) -> float:
        """Area of all parts, in square pixels."""
        return float(sum(shapely.Polygon(part).area for part in self.parts))


@dataclass(frozen=True, eq=False)
class CocoSet:
    """The checked content of one COCO file."""

    path: Path
    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    class_names: tuple[str, ...]

    def of_image(self, image: CocoImage) -> tuple[CocoAnnotation, ...]:
        """Return the annotations of one image."""
        return tuple(self._by_image.get(image.id, ()))

    @cached_property
    def _by_image(self) -> dict[int, list[CocoAnnotation]]:
        grouped: dict[int, list[CocoAnnotation]] = {}
        for one in self.annotations:
            grouped.setdefault(one.image_id, []).append(one)
        return grouped

    @property
    def places(self) -> tuple[TilePlace, ...]:
        """Where the images were cut; raises `InputError` if the file does not say so for every image."""
        places = []
        for image in self.images:
            if image.wafer is None or image.row is None or image.column is None:
                raise InputError(
                    f"{self.path} does not say where {image.file_name} was cut (wafer, row, column), so what it shares "
                    "with other images is unknown. Cut the wafers with `emseg wafer tiles`."
                )
            places.append(TilePlace(image.wafer, image.row, image.column, image.height, image.width))
        return tuple(places)

    def count(self, label: str) -> int:
        """Return the number of annotations of the class `label`, without crowds."""
        return sum(one.label == label and not one.crowd for one in self.annotations)


def read_coco(
    path: str | Path, *, image_folder: str | Path | None = None, class_names: Sequence[str] | None = None
) -> CocoSet:
    """Return the content of a COCO file.

    With `image_folder` every image that the file names must be there; with `class_names` the file's categories must be
    among these. Raises `InputError`, in one sentence that names the file and the image, annotation or category at
    fault.
    """
    path = Path(path)
    entries = coco_entries(read_json(path), str(path))
    names = {one["id"]: one["name"] for one in sorted(entries["categories"], key=lambda one: int(one["id"]))}
    for name in names.values():
        if class_names is not None and name not in class_names:
            raise InputError(
                f"the classes must be {', '.join(class_names)}; {path} has {name!r}.{suggest(name, class_names)} "
                "Rename it in `categories`, or name the classes you mean."
            )
    images = tuple(_image(path, entry) for entry in entries["images"])
    _require_unique("file names of images", (image.file_name for image in images), str(path))
    by_id = {image.id: image for image in images}
    annotations = tuple(
        _annotation(f"annotation {one['id']} of {path}", one, by_id[one["image_id"]], names[one["category_id"]])
        for one in entries["annotations"]
    )
    if not images:
        raise InputError(f"{path} must list images; it lists none. Annotate at least one image.")
    if not annotations:
        raise InputError(f"{path} has no section in any image; there is nothing to learn or to score.")
    if image_folder is not None:
        require_images(path, images, Path(image_folder))
    return CocoSet(path, images, annotations, tuple(names.values()))


def coco_entries(content: Any, what: str) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the lists "images", "annotations" and "categories" of a COCO document called `what`, checked.

    Every entry has an id that occurs once, an image a positive size, a category a name, and an annotation an image and
    a category that are listed. Raises `InputError` that names the entry at fault.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{what} must be a COCO file, an object with images, annotations and categories.")
    lists: dict[str, Sequence[Mapping[str, Any]]] = {}
    for key, kind in (("images", "image"), ("annotations", "annotation"), ("categories", "category")):
        entries = content.get(key)
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise InputError(
                f"{what} must be a COCO file; its list {key!r} is missing. Export the annotations as COCO."
            )
        ids = [whole_number(entry, "id", f"{kind} {place}", what) for place, entry in enumerate(entries)]
        _require_unique(f"{kind} ids", ids, what)
        lists[key] = entries
    for image in lists["images"]:
        name = image.get("file_name") or f"image {image['id']}"
        height, width = (whole_number(image, key, name, what) for key in ("height", "width"))
        if height < 1 or width < 1:
            raise InputError(f"the size of an image must be positive; {what} says {height} x {width} for {name}.")
    names = [_text(one, "name", f"category {one['id']}", what) for one in lists["categories"]]
    _require_unique("category names", names, what)
    images = {one["id"] for one in lists["images"]}
    categories = {one["id"]: one["name"] for one in sorted(lists["categories"], key=lambda one: int(one["id"]))}
    if not categories:
        raise InputError(f"{what} must name at least one category; it names none.")
    for one in lists["annotations"]:
        name = f"annotation {one['id']} of {what}"
        if whole_number(one, "image_id", name, what) not in images:
            raise InputError(f"{name} belongs to image {one['image_id']}, which is not in the list of images.")
        if whole_number(one, "category_id", name, what) not in categories:
            known = ", ".join(f"{key} ({label})" for key, label in categories.items())
            raise InputError(f"{name} is of category {one['category_id']}, which is not one of {known}.")
    return lists


def whole_number(entry: Any, key: str, name: str, what: str) -> int:
    """Return the whole number `key` of an entry called `name` in the document `what`."""
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"`{key}` must be a whole number; {name} in {what} has {value!r}.")
    return int(value)


def require_images(path: Path, images: Iterable[CocoImage], folder: Path) -> None:
    """Raise `InputError` that names the first images of a COCO file that are not in `folder`."""
    if not folder.is_dir():
        raise InputError(f"the images of {path} must be in {folder}, which is no folder. Put them there.")
    missing = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{path} names images that are not in {folder}: {', '.join(missing[:3])}{more}. "
            "Copy them there, or correct `file_name`."
        )


def coco_document(tiles: Sequence[Tile], class_names: Sequence[str], description: str) -> dict[str, Any]:
    """Return tiles as a COCO document; ids count from 1.

    Each image carries where it was cut (wafer, row, column), each annotation the section's index in the wafer's list
    and the fraction of it that is visible.
    """
    images, annotations = [], []
    for number, tile in enumerate(tiles, start=1):
        place = {"wafer": tile.wafer, "row": tile.row, "column": tile.column}
        images.append({"id": number, "file_name": tile.file_name, "height": tile.height, "width": tile.width} | place)
        annotations += [
            annotation_entry(number, class_names.index(one.label), one.parts, one.area_px, one.crowd)
            | {"section": one.number, "visible": round(one.visible, 6)}
            for one in tile.sections
        ]
    return document_of(images, annotations, class_names, description)


def annotation_entry(image: int, label: int, parts: Parts, area_px: float, crowd: bool) -> dict[str, Any]:
    """Return an annotation of class number `label` with the box and the area of its outlines, without an id yet."""
    points = np.concatenate(parts)
    (top, left), (bottom, right) = points.min(0), points.max(0)
    box = [float(left), float(top), float(right - left), float(bottom - top)]
    return {
        "image_id": image,
        "category_id": label + 1,
        "segmentation": [part[:, ::-1].round(_COORDINATE_DIGITS).ravel().tolist() for part in parts],
        "bbox": [round(value, _COORDINATE_DIGITS) for value in box],
        "area": round(area_px, _COORDINATE_DIGITS),
        "iscrowd": int(crowd),
    }


def document_of(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], class_names: Sequence[str], description: str
) -> dict[str, Any]:
    """Return a COCO document; the annotations are numbered from 1."""
    return {
        "info": {"description": description},
        "images": images,
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
    }


def _image(path: Path, entry: Mapping[str, Any]) -> CocoImage:
    name = _text(entry, "file_name", f"image {entry['id']}", str(path)).replace("\\", "/")  # some tools' separators
    where = (entry.get(key) for key in ("wafer", "row", "column"))
    return CocoImage(entry["id"], name, entry["height"], entry["width"], *where)


def _annotation(what: str, entry: Mapping[str, Any], image: CocoImage, label: str) -> CocoAnnotation:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, Mapping):
        raise InputError(
            f"{what} is a run-length mask; outlines are needed. Convert it first, for example by cv2.findContours on "
            "pycocotools.mask.decode(...), or export polygons."
        )
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{what} has no outline: its `segmentation` must be a list of [x1, y1, x2, y2, ...].")
    parts = tuple(_outline(what, flat) for flat in segmentation)
    for part in parts:
        require_polygon(part, what, image.height, image.width)
    return CocoAnnotation(entry["id"], image.id, label, parts, bool(entry.get("iscrowd", 0)))


def _outline(what: str, flat: Any) -> Float64[np.ndarray, "vertex 2"]:
    try:
        numbers = np.asarray(flat, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or numbers.size % 2:
        raise InputError(f"an outline must be a flat list x1, y1, x2, y2, ... of numbers; that of {what} is not.")
    return as_polygon(numbers.reshape(-1, 2)[:, ::-1])


def _text(entry: Mapping[str, Any], key: str, name: str, what: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"`{key}` must be a text; {name} in {what} has {value!r}.")
    return value


def _require_unique(kind: str, values: Iterable[object], what: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(f"{kind} must be unique; {what} has {', '.join(map(str, twice[:3]))} more than once.")
