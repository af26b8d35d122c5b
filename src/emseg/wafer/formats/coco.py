"""COCO annotation files: one reader of any user's file, which reports every fault by name, and one writer.

    images        id, file_name, height, width; in files that we wrote also wafer, row and column, where it was cut from
    annotations   id, image_id, category_id, segmentation, iscrowd; a segmentation is a list of closed outlines
                  [x1, y1, x2, y2, ...], and (x, y) is (column, row) here; several outlines are parts of one section
    categories    id, name

We write ids from 1, the categories in the order of the class names, "bbox" and "area" computed from the outlines, which
is why neither is read. `read_coco` refuses run-length masks: cutting and drawing need outlines.

Source: the "object detection" format of https://cocodataset.org/#format-data.
"""

from collections import Counter, defaultdict
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
from emseg.wafer.tiles import Tile, TilePlace, TileSection

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
        return float(shapely.area([shapely.Polygon(part) for part in self.parts]).sum())


@dataclass(frozen=True, eq=False)
class CocoSet:
    """The checked content of one COCO file."""

    path: Path
    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    class_names: tuple[str, ...]

    def of_image(self, image: CocoImage) -> tuple[CocoAnnotation, ...]:
        """Return the annotations of one image."""
        return tuple(self._by_image[image.id])

    @cached_property
    def _by_image(self) -> dict[int, list[CocoAnnotation]]:
        grouped = defaultdict(list)
        for one in self.annotations:
            grouped[one.image_id].append(one)
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

    With `image_folder` all its images must be there; with `class_names` its categories must be among these. Raises
    `InputError` that names the file and the image, annotation or category at fault.
    """
    path = Path(path)
    entries = coco_entries(read_json(path), str(path))
    names = {one["id"]: one["name"] for one in entries["categories"]}
    for name in names.values():
        if class_names is not None and name not in class_names:
            raise InputError(
                f"the classes must be {', '.join(class_names)}; {path} has {name!r}.{suggest(name, class_names)} "
                "Rename it in `categories`, or name the classes you mean."
            )
    images = {}
    for one in entries["images"]:
        name = _text(one, "file_name", f"image {one['id']}", str(path)).replace("\\", "/")  # some tools' separators
        place = (one.get(key) for key in ("wafer", "row", "column"))
        images[one["id"]] = CocoImage(one["id"], name, one["height"], one["width"], *place)
    _require_unique("file names of images", (image.file_name for image in images.values()), str(path))
    annotations = tuple(
        _annotation(f"annotation {one['id']} of {path}", one, images[one["image_id"]], names[one["category_id"]])
        for one in entries["annotations"]
    )
    if not annotations:
        raise InputError(f"{path} has no section in any image; there is nothing to learn or to score.")
    if image_folder is not None:
        require_images(path, images.values(), Path(image_folder))
    return CocoSet(path, tuple(images.values()), annotations, tuple(names.values()))


def coco_entries(content: Any, what: str) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the lists "images", "annotations" and "categories" (by id) of a COCO document called `what`, checked.

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
        ids = [_whole_number(entry, "id", f"{kind} {place}", what) for place, entry in enumerate(entries)]
        _require_unique(f"{kind} ids", ids, what)
        lists[key] = entries
    for image in lists["images"]:
        name = image.get("file_name") or f"image {image['id']}"
        height, width = (_whole_number(image, key, name, what) for key in ("height", "width"))
        if height < 1 or width < 1:
            raise InputError(f"the size of an image must be positive; {what} says {height} x {width} for {name}.")
    lists["categories"] = sorted(lists["categories"], key=lambda one: int(one["id"]))
    names = {one["id"]: _text(one, "name", f"category {one['id']}", what) for one in lists["categories"]}
    _require_unique("category names", names.values(), what)
    if not names:
        raise InputError(f"{what} must name at least one category; it names none.")
    images = {one["id"] for one in lists["images"]}
    for one in lists["annotations"]:
        name = f"annotation {one['id']} of {what}"
        if _whole_number(one, "image_id", name, what) not in images:
            raise InputError(f"{name} belongs to image {one['image_id']}, which is not in the list of images.")
        if _whole_number(one, "category_id", name, what) not in names:
            known = ", ".join(f"{key} ({label})" for key, label in names.items())
            raise InputError(f"{name} is of category {one['category_id']}, which is not one of {known}.")
    return lists


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
    """Return tiles as a COCO document, with the place of each and the index and visible fraction of each section."""
    shown = []
    for number, tile in enumerate(tiles, start=1):
        image = {"id": number, "file_name": tile.file_name, "height": tile.height, "width": tile.width}
        shown.append((image | {"wafer": tile.wafer, "row": tile.row, "column": tile.column}, tile.sections))
    return document_of(shown, class_names, description)


def document_of(
    shown: Iterable[tuple[dict[str, Any], Sequence[CocoAnnotation | TileSection]]],
    class_names: Sequence[str],
    description: str,
) -> dict[str, Any]:
    """Return a COCO document of image entries, each with its sections; boxes and areas are those of the outlines."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, sections in shown:
        images.append(image)
        for one in sections:
            points = np.concatenate(one.parts)
            (top, left), (bottom, right) = points.min(0), points.max(0)
            box = [float(side) for side in (left, top, right - left, bottom - top)]
            entry = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": class_names.index(one.label) + 1,
                "segmentation": [part[:, ::-1].round(_COORDINATE_DIGITS).ravel().tolist() for part in one.parts],
                "bbox": [round(side, _COORDINATE_DIGITS) for side in box],
                "area": round(one.area_px, _COORDINATE_DIGITS),
                "iscrowd": int(one.crowd),
            }
            own = {"section": one.number, "visible": round(one.visible, 6)} if isinstance(one, TileSection) else {}
            annotations.append(entry | own)
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    return {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotation(what: str, entry: Mapping[str, Any], image: CocoImage, label: str) -> CocoAnnotation:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, Mapping):
        raise InputError(
            f"{what} is a run-length mask; outlines are needed. Export polygons, or convert it by cv2.findContours on "
            "pycocotools.mask.decode(...)."
        )
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{what} has no outline: its `segmentation` must be a list of [x1, y1, x2, y2, ...].")
    parts = []
    for flat in segmentation:
        try:
            numbers = np.asarray(flat, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty((0, 0))
        if numbers.ndim != 1 or numbers.size % 2:
            raise InputError(f"an outline must be a flat list x1, y1, x2, y2, ... of numbers; that of {what} is not.")
        parts.append(as_polygon(numbers.reshape(-1, 2)[:, ::-1]))
        require_polygon(parts[-1], what, image.height, image.width)
    return CocoAnnotation(entry["id"], image.id, label, tuple(parts), bool(entry.get("iscrowd", 0)))


def _whole_number(entry: Any, key: str, name: str, what: str) -> int:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"`{key}` must be a whole number; {name} in {what} has {value!r}.")
    return int(value)


def _text(entry: Mapping[str, Any], key: str, name: str, what: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"`{key}` must be a text; {name} in {what} has {value!r}.")
    return value


def _require_unique(kind: str, values: Iterable[object], what: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(f"{kind} must be unique; {what} has {', '.join(map(str, twice[:3]))} more than once.")
