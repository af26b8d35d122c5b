"""COCO annotation files: one reader of any user's file, which lists all its faults by name, and one writer.

    images        id, file_name, height, width; in files that we wrote also wafer, row and column, where it was cut from
    annotations   id, image_id, category_id, segmentation, iscrowd; a segmentation is a list of closed outlines
                  [x1, y1, x2, y2, ...], and (x, y) is (column, row) here, or a run-length mask; several outlines are
                  parts of one section
    categories    id, name

We write ids from 1, the categories in the order of the class names, "bbox" and "area" computed from the outlines, which
is why neither is read. A category that only groups others (Roboflow's first) is left out.

Source: the "object detection" format of https://cocodataset.org/#format-data.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import shapely

from emseg.errors import InputError, suggest
from emseg.files import read_json
from emseg.wafer.formats.outlines import Faults, OutlineCheck, Parts, other_kind, outline_of_runs, refuse_faults
from emseg.wafer.tiles import Tile, TilePlace, TileSection

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
    """The checked content of one COCO file; `notes` lists what was left out or mended."""

    path: Path
    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    notes: tuple[str, ...] = ()

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
        """Where the images were cut; raises `InputError` if the file does not state it for every image."""
        places = []
        for image in self.images:
            if image.wafer is None or image.row is None or image.column is None:
                raise InputError(
                    f"{self.path} does not state where {image.file_name} was cut (wafer, row, column), so what it "
                    "shares with other images is unknown. Cut the wafers with `emseg wafer tiles`."
                )
            places.append(TilePlace(image.wafer, image.row, image.column, image.height, image.width))
        return tuple(places)

    def count(self, label: str) -> int:
        """Return the number of annotations of the class `label`, without crowds."""
        return sum(one.label == label and not one.crowd for one in self.annotations)


def read_coco(
    path: str | Path,
    *,
    image_folder: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    faults: Faults = "refuse",
) -> CocoSet:
    """Return the content of a COCO file.

    With `image_folder` all its images must be there, by their names or, of names with folders, by the last part; with
    `class_names` its categories must be among these. `faults` decides what happens to outlines that cannot be used
    (`emseg.wafer.formats.outlines`). Raises `InputError` that lists the images, annotations and categories at fault.
    """
    path = Path(path)
    entries, notes = coco_entries(read_json(path), str(path))
    names = {one["id"]: one["name"] for one in entries["categories"]}
    check, images = OutlineCheck(faults), {}
    for name in names.values():
        if class_names is not None and name not in class_names:
            check.faults.append(
                f"the classes must be {', '.join(class_names)}; {path} has {name!r}.{suggest(name, class_names)} "
                "Rename it in `categories`, or name the classes you mean."
            )
    for one in entries["images"]:
        if not isinstance(given := one.get("file_name"), str) or not given:
            check.faults.append(f"`file_name` must be a text; image {one['id']} in {path} has {given!r}.")
            continue
        named = PureWindowsPath(given)  # some tools write the separators and the folders of their own machine
        place = (one.get(key) for key in ("wafer", "row", "column"))
        file_name = named.name if named.root or named.drive else named.as_posix()
        images[one["id"]] = CocoImage(one["id"], file_name, one["height"], one["width"], *place)
    check.faults += _repeated("file names of images", (image.file_name for image in images.values()), str(path))
    annotations = []
    for one in entries["annotations"]:
        what, image = f"annotation {one['id']} of {path}", images.get(one["image_id"])
        given, crowd = one.get("segmentation"), bool(one.get("iscrowd", 0))
        try:
            outlines = _traced(given, image, what) if image and isinstance(given, Mapping) else given
        except InputError as error:
            check.faults.append(str(error))
            continue
        if image and (parts := check.parts(what, outlines, image.height, image.width)):
            annotations.append(CocoAnnotation(one["id"], image.id, names[one["category_id"]], parts, crowd))
    check.finish(path)
    if not annotations:
        raise InputError(f"{path} has no section in any image; there is nothing to learn or to score.")
    if image_folder is not None:
        folder = Path(image_folder)
        images = {id: replace(image, file_name=name_in(folder, image)) for id, image in images.items()}
        require_images(path, images.values(), folder)
    known = tuple(images.values()), tuple(annotations), tuple(names.values()), tuple(names)
    return CocoSet(path, *known, (*notes, *check.notes))


def coco_entries(content: Any, what: str) -> tuple[dict[str, list[Mapping[str, Any]]], tuple[str, ...]]:
    """Return the lists "images", "annotations" and "categories" (by id) of a COCO document called `what`, and notes.

    Every entry has an id that occurs once, an image a positive size, a category a name, and an annotation an image and
    a category that are listed. Raises `InputError` that lists the entries at fault.
    """
    if not isinstance(content, Mapping):
        other = other_kind(content, "coco")
        raise InputError(f"{what} must be a COCO file, an object with images, annotations and categories{other}.")
    faults: list[str] = []

    def whole(entry: Any, key: str, name: str, least: float = -np.inf) -> Any:
        value = entry.get(key) if isinstance(entry, Mapping) else None
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            limit = "" if least == -np.inf else f" of at least {least}"
            faults.append(f"`{key}` must be a whole number{limit}; {name} in {what} has {value!r}.")
            return None
        return value

    lists: dict[str, list[Mapping[str, Any]]] = {}
    for key, kind in (("images", "image"), ("annotations", "annotation"), ("categories", "category")):
        entries = content.get(key)
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            other = other_kind(content, "coco") or f"; its list {key!r} is missing"
            raise InputError(f"{what} must be a COCO file{other}. Export the annotations as COCO.")
        ids = [whole(entry, "id", f"{kind} {place}") for place, entry in enumerate(entries)]
        faults += _repeated(f"{kind} ids", ids, what)
        lists[key] = list(entries)
    refuse_faults(what, faults)
    lists["categories"].sort(key=lambda one: int(one["id"]))
    used = [one.get("category_id") for one in lists["annotations"]]
    groups = [one.get("supercategory") for one in lists["categories"] if one.get("supercategory") != one.get("name")]
    dummies = [one for one in lists["categories"] if one.get("name") in groups and one["id"] not in used]
    lists["categories"] = [one for one in lists["categories"] if one not in dummies]
    for image in lists["images"]:
        for key in ("height", "width"):
            whole(image, key, image.get("file_name") or f"image {image['id']}", 1)
    names = {one["id"]: one.get("name") for one in lists["categories"]}
    for id, name in names.items():
        if not isinstance(name, str) or not name:
            faults.append(f"`name` must be a text; category {id} in {what} has {name!r}.")
    faults += _repeated("category names", (name for name in names.values() if isinstance(name, str)), what)
    if not names:
        raise InputError(f"{what} must name at least one category; it names none.")
    images = {one["id"] for one in lists["images"]}
    for one in lists["annotations"]:
        name = f"annotation {one['id']}"
        image_id, category_id = whole(one, "image_id", name), whole(one, "category_id", name)
        if image_id is not None and image_id not in images:
            faults.append(f"{name} of {what} belongs to image {image_id}, which is not in the list of images.")
        if category_id is not None and category_id not in names:
            known = ", ".join(f"{key} ({label})" for key, label in names.items())
            faults.append(f"{name} of {what} is of category {category_id}, which is not one of {known}.")
    refuse_faults(what, faults)
    return lists, tuple(f"left out: the class {one['name']!r}, which has no section" for one in dummies)


def name_in(folder: Path, image: CocoImage) -> str:
    """Return the name of an image's file in `folder`: the COCO file's, or its last part where only that is there."""
    last = Path(image.file_name).name
    return last if not (folder / image.file_name).is_file() and (folder / last).is_file() else image.file_name


def require_images(path: Path, images: Iterable[CocoImage], folder: Path) -> None:
    """Raise `InputError` that names the first images of a COCO file that are not in `folder`."""
    if not folder.is_dir():
        raise InputError(f"the images of {path} must be in {folder}, which is not a folder. Put them there.")
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


def document_of_set(coco: CocoSet, file_names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what was read as a document that we write, with the same image ids, under other `file_names` if given."""
    shown = []
    for image, name in zip(coco.images, file_names or [image.file_name for image in coco.images], strict=True):
        entry = {"id": image.id, "file_name": name, "height": image.height, "width": image.width}
        place = {key: getattr(image, key) for key in ("wafer", "row", "column") if getattr(image, key) is not None}
        shown.append((entry | place, coco.of_image(image)))
    return document_of(shown, coco.class_names, f"{coco.path}, rewritten from its outlines")


def _traced(segmentation: Mapping[str, Any], image: CocoImage, what: str) -> list[Any]:
    """The outlines (x, y) of a run-length mask."""
    from emseg.wafer.scores.coco_masks import as_run_length, run_lengths

    code = as_run_length(segmentation, (image.height, image.width), what)["counts"]
    runs = run_lengths(code)
    assert runs is not None, "a checked code"
    return outline_of_runs(runs, image.height)


def _repeated(kind: str, values: Iterable[Any], what: str) -> list[str]:
    twice = [str(value) for value, count in Counter(values).items() if count > 1 and value is not None]
    return [f"{kind} must be unique; {what} has {', '.join(twice[:3])} more than once."] if twice else []
