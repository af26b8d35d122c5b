"""COCO annotation files: reading any user's, with every fault named, and what an annotation is here.

    images        id, file_name, height, width; in files that we wrote also wafer, row and column, where it was cut from
    annotations   id, image_id, category_id, segmentation, iscrowd; a segmentation is a list of closed outlines
                  [x1, y1, x2, y2, ...], and (x, y) is (column, row) here; several outlines are parts of one section
    categories    id, name

Run-length masks are refused by name: they hold pixels, and all that follows here needs outlines.

Source: the "object detection" format of https://cocodataset.org/#format-data. Deviation: "bbox" and "area" are not
read, for they follow from the outline.
"""

import json
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
from emseg.wafer.sections import as_polygon, require_polygon
from emseg.wafer.tiles import TilePlace


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file; `wafer`, `row` and `column` are None where the file does not say them."""

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
    parts: tuple[Float64[np.ndarray, "vertex 2"], ...]
    crowd: bool = False

    @property
    def area_px(self) -> float:
        """Area of all parts, in square pixels."""
        return float(sum(shapely.Polygon(part).area for part in self.parts))


@dataclass(frozen=True, eq=False)
class CocoSet:
    """What one COCO file says, checked."""

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
        """Where the images were cut; raise `InputError` if the file does not say it of every image."""
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
        """Return how many annotations are of the class `label`, crowds left out."""
        return sum(one.label == label and not one.crowd for one in self.annotations)


def read_coco(
    path: str | Path, *, image_folder: str | Path | None = None, class_names: Sequence[str] | None = None
) -> CocoSet:
    """Return what a COCO file says.

    With `image_folder` every image that the file names must be there; with `class_names` the file's categories must be
    these. Raises `InputError`, in one sentence that names the file and the image, annotation or category at fault.
    """
    path = Path(path)
    entries = _read_lists(path)
    names = _categories(path, entries["categories"], class_names)
    images = tuple(_image(path, place, entry) for place, entry in enumerate(entries["images"]))
    _require_unique(path, "image ids", (image.id for image in images))
    _require_unique(path, "file names of images", (image.file_name for image in images))
    by_id = {image.id: image for image in images}
    annotations = tuple(
        _annotation(path, place, entry, by_id, names) for place, entry in enumerate(entries["annotations"])
    )
    _require_unique(path, "annotation ids", (annotation.id for annotation in annotations))
    if not images:
        raise InputError(f"{path} must list images; it lists none. Annotate at least one image.")
    if not annotations:
        raise InputError(f"{path} has no section in any image; there is nothing to learn or to score.")
    if image_folder is not None:
        require_images(path, images, Path(image_folder))
    return CocoSet(path, images, annotations, tuple(names.values()))


def require_images(path: Path, images: Iterable[CocoImage], folder: Path) -> None:
    """Raise `InputError` that names the first images of a COCO file that are not in `folder`."""
    if not folder.is_dir():
        raise InputError(f"the images of {path} must lie in {folder}, which is no folder. Put them there.")
    missing = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{path} names images that are not in {folder}: {', '.join(missing[:3])}{more}. "
            "Copy them there, or correct `file_name`."
        )


def _read_lists(path: Path) -> dict[str, list[Any]]:
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} must be a COCO file, an object with images, annotations and categories.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise InputError(
                f"{path} must be a COCO file; its list {key!r} is missing. Export the annotations as COCO."
            )
    return document


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; raise `InputError` that names the file and the place of a fault."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the name and the folder.") from None
    except IsADirectoryError:
        raise InputError(f"{path} must be a file; it is a folder. Name the file in it.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be text in UTF-8; byte {error.start} is not. Save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON: {error.msg} in line {error.lineno}. Export it again.") from error


def _categories(path: Path, entries: list[Any], wanted: Sequence[str] | None) -> dict[int, str]:
    """Return the class names by id, in the order of the ids."""
    pairs = [
        (_integer(path, f"category {k}", entry, "id"), _text(path, f"category {k}", entry, "name"))
        for k, entry in enumerate(entries)
    ]
    _require_unique(path, "category ids", (number for number, _ in pairs))
    _require_unique(path, "category names", (name for _, name in pairs))
    names = dict(sorted(pairs))
    if not names:
        raise InputError(f"{path} must name at least one category; it names none.")
    for name in names.values():
        if wanted is not None and name not in wanted:
            raise InputError(
                f"the classes must be {', '.join(wanted)}; {path} has {name!r}.{suggest(name, wanted)} "
                "Rename it in `categories`, or name the classes you mean."
            )
    return names


def _image(path: Path, place: int, entry: Any) -> CocoImage:
    number = _integer(path, f"image {place}", entry, "id")
    name = _text(path, f"image {number}", entry, "file_name")
    height, width = (_integer(path, name, entry, key) for key in ("height", "width"))
    if height < 1 or width < 1:
        raise InputError(f"the size of an image must be positive; {path} says {height} x {width} for {name}.")
    wafer, row, column = (entry.get(key) for key in ("wafer", "row", "column"))
    return CocoImage(number, name, height, width, wafer, row, column)


def _annotation(
    path: Path, place: int, entry: Any, images: Mapping[int, CocoImage], names: Mapping[int, str]
) -> CocoAnnotation:
    number = _integer(path, f"annotation {place}", entry, "id")
    what = f"annotation {number} of {path}"
    image = images.get(_integer(path, what, entry, "image_id"))
    if image is None:
        raise InputError(f"{what} belongs to image {entry['image_id']}, which is not in the list of images.")
    label = names.get(_integer(path, what, entry, "category_id"))
    if label is None:
        raise InputError(
            f"{what} is of category {entry['category_id']}, which is not one of "
            f"{', '.join(f'{key} ({name})' for key, name in names.items())}."
        )
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        raise InputError(
            f"{what} is a run-length mask; outlines are needed. Convert it first, for example by cv2.findContours on "
            "pycocotools.mask.decode(...), or export polygons."
        )
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{what} has no outline: its `segmentation` must be a list of [x1, y1, x2, y2, ...].")
    parts = tuple(_outline(what, flat) for flat in segmentation)
    for part in parts:
        require_polygon(part, what, image.height, image.width)
    return CocoAnnotation(number, image.id, label, parts, bool(entry.get("iscrowd", 0)))


def _outline(what: str, flat: Any) -> Float64[np.ndarray, "vertex 2"]:
    try:
        numbers = np.asarray(flat, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or numbers.size % 2:
        raise InputError(f"an outline must be a flat list x1, y1, x2, y2, ... of numbers; that of {what} is not.")
    return as_polygon(numbers.reshape(-1, 2)[:, ::-1])


def _integer(path: Path, what: str, entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"`{key}` must be a whole number; {what} in {path} has {value!r}.")
    return value


def _text(path: Path, what: str, entry: Any, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise InputError(f"`{key}` must be a text; {what} in {path} has {value!r}.")
    return value


def _require_unique(path: Path, what: str, values: Iterable[object]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(f"{what} must be unique; {path} has {', '.join(map(str, twice[:3]))} more than once.")
