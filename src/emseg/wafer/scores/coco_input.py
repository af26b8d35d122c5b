"""What scoring reads: a COCO truth and a COCO results list, checked before anything is compared.

    truth       JSON (a file or its content) with `images`, `categories` and `annotations`; a region with iscrowd = 1 is
                neither to be found nor to be missed: detections within it do not count
    detections  a list, or a file that holds it, of {image_id, category_id, segmentation, score}; the segmentation is a
                run-length encoded mask of the image's size, the score is from 0 to 1; boxes are taken from the masks

Images and classes are handed on in the order of their ids and by their places in that order, masks as compressed
run-length codes of pycocotools. The caller's objects are left as they are.

Source: https://cocodataset.org/#format-data and #format-results.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64
from pycocotools import mask as rle_masks

from emseg.errors import InputError
from emseg.wafer.scores.run_length import Rle, as_run_length
from emseg.wafer.sections import UNSORTED_CLASS

TruthSource = str | Path | Mapping[str, Any]
DetectionsSource = str | Path | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Region:
    """One region of the truth; `image` and `label` are places in `Truth.image_ids` and `Truth.class_names`."""

    id: int
    image: int
    label: int
    rle: Rle
    area: float
    is_crowd: bool


@dataclass(frozen=True, eq=False)
class Detection:
    """One detection; `image` and `label` are places in `Truth.image_ids` and `Truth.class_names`."""

    image: int
    label: int
    rle: Rle
    score: float


_Item = TypeVar("_Item", Region, Detection)


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of all images: `sizes` (height, width) and `wafers` (None where nobody said) go with `image_ids`."""

    image_ids: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    wafers: tuple[str | None, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    regions: tuple[Region, ...]


def read_truth(source: TruthSource) -> Truth:
    """Return the checked truth; raises `InputError` that names the first entry which cannot be used."""
    what = "the truth"
    content = _content(source, what)
    if not isinstance(content, Mapping):
        raise InputError(f"{what} must be a COCO object with images, categories and annotations; got a list.")
    for part in ("images", "categories", "annotations"):
        if not isinstance(content.get(part), Sequence):
            raise InputError(f"{what} must hold the list `{part}`; it does not. Write a COCO JSON.")
    images = _by_id(_entries(content["images"], ("id", "height", "width"), "image"), "image")
    categories = _by_id(_entries(content["categories"], ("id", "name"), "category"), "category")
    _refuse_repeated((one["id"] for one in images), "image ids")
    _refuse_repeated((one["id"] for one in categories), "category ids")
    _refuse_repeated((one["name"] for one in categories), "class names")
    needed = ("id", "image_id", "category_id", "segmentation")
    annotations = _by_id(_entries(content["annotations"], needed, "annotation"), "annotation", sort=False)
    _refuse_repeated((one["id"] for one in annotations), "annotation ids")
    place_of_image = {one["id"]: place for place, one in enumerate(images)}
    place_of_category = {one["id"]: place for place, one in enumerate(categories)}
    sizes = tuple((int(one["height"]), int(one["width"])) for one in images)
    for one, size in zip(images, sizes, strict=True):
        if min(size) < 1:
            raise InputError(
                f"an image must be 1 x 1 at least; image {one['id']} is {size[0]} x {size[1]}. Correct it."
            )
    regions = []
    for one in annotations:
        name = f"annotation {one['id']}"
        image = _known(place_of_image, one["image_id"], name, "image_id")
        label = _known(place_of_category, one["category_id"], name, "category_id")
        rle = as_run_length(one["segmentation"], sizes[image], name)
        area = float(one["area"]) if "area" in one else float(rle_masks.area(rle))
        regions.append(Region(int(one["id"]), image, label, rle, area, bool(one.get("iscrowd", 0))))
    if not any(not region.is_crowd for region in regions):
        raise InputError(
            "the truth must hold at least one region to find, not counting crowds; it holds none. Without any, no "
            "score is defined: check that the annotations were written."
        )
    return Truth(
        image_ids=tuple(int(one["id"]) for one in images),
        sizes=sizes,
        wafers=tuple(None if one.get("wafer") is None else str(one["wafer"]) for one in images),
        class_names=tuple(str(one["name"]) for one in categories),
        category_ids=tuple(int(one["id"]) for one in categories),
        regions=tuple(regions),
    )


def read_detections(source: DetectionsSource, truth: Truth) -> tuple[Detection, ...]:
    """Return the checked detections, in their order; an empty list is allowed.

    Raises `InputError`, naming the detection by its place in the list, for an image or category that the truth does not
    have, a mask of another size than its image, and a score that is no number from 0 to 1.
    """
    content = _content(source, "the detections")
    if not isinstance(content, Sequence):
        raise InputError("the detections must be a list in COCO's results format; got an object. Hand over the list.")
    place_of_image = {id: place for place, id in enumerate(truth.image_ids)}
    place_of_category = {id: place for place, id in enumerate(truth.category_ids)}
    found = []
    needed = ("image_id", "category_id", "segmentation", "score")
    for place, one in enumerate(_entries(content, needed, "detection")):
        name = f"detection {place}"
        image = _known(place_of_image, one["image_id"], name, "image_id")
        label = _known(place_of_category, one["category_id"], name, "category_id")
        if not isinstance(one["segmentation"], Mapping):
            raise InputError(f"a detection's mask must be run-length encoded; {name} has another one. Encode it.")
        rle = as_run_length(one["segmentation"], truth.sizes[image], name)
        score = one["score"]
        if isinstance(score, bool) or not isinstance(score, int | float | np.number) or not 0 <= float(score) <= 1:
            raise InputError(f"a score must be a number from 0 to 1; {name} has {score}. Correct or remove it.")
        found.append(Detection(image, label, rle, float(score)))
    return tuple(found)


def without_classes(truth: Truth, detections: Iterable[Detection]) -> tuple[Truth, tuple[Detection, ...]]:
    """Return both with all classes merged into one, so that finding is scored and sorting is not."""
    regions = tuple(replace(region, label=0) for region in truth.regions)
    merged = replace(truth, class_names=(UNSORTED_CLASS,), category_ids=(1,), regions=regions)
    return merged, tuple(replace(one, label=0) for one in detections)


def overlaps(detections: Sequence[Detection], regions: Sequence[Region]) -> Float64[np.ndarray, "detection region"]:
    """Return the IoU of each detection with each region, as COCO has it: with a crowd, the share that lies within."""
    if not detections or not regions:
        return np.zeros((len(detections), len(regions)))
    crowd = [int(region.is_crowd) for region in regions]
    return np.asarray(rle_masks.iou([one.rle for one in detections], [one.rle for one in regions], crowd))


def by_image(items: Iterable[_Item], n_images: int) -> list[list[_Item]]:
    """Return the items of each image, in their order."""
    grouped: list[list[_Item]] = [[] for _ in range(n_images)]
    for item in items:
        grouped[item.image].append(item)
    return grouped


def _content(source: Any, what: str) -> Any:
    """Return what a JSON file holds, or `source` itself where it is no path."""
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what} must be a JSON file that can be read; {path} cannot ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{what} must be JSON; {path} is not ({error}). Write it anew.") from error


def _entries(entries: Sequence[Any], needed: Iterable[str], kind: str) -> Sequence[Mapping[str, Any]]:
    for place, entry in enumerate(entries):
        missing = [key for key in needed if not isinstance(entry, Mapping) or key not in entry]
        if missing:
            raise InputError(f"each {kind} must have `{missing[0]}`; {kind} {place} of the list has none. Add it.")
    return entries


def _by_id(entries: Sequence[Mapping[str, Any]], kind: str, *, sort: bool = True) -> list[Mapping[str, Any]]:
    """Return the entries in the order of their ids, which must be whole numbers, or in their own order."""
    for entry in entries:
        if not isinstance(entry["id"], int | np.integer):
            raise InputError(f"the id of each {kind} must be a whole number; got {entry['id']!r}. Renumber them.")
    return sorted(entries, key=lambda one: int(one["id"])) if sort else list(entries)


def _refuse_repeated(items: Iterable[Hashable], what: str) -> None:
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        raise InputError(f"{what} must be unique; the truth has {twice[0]} more than once. Renumber them.")


def _known(places: Mapping[int, int], id: Any, name: str, key: str) -> int:
    if not isinstance(id, int | np.integer) or id not in places:
        listed = ", ".join(str(one) for one in list(places)[:5]) + (", ..." if len(places) > 5 else "")
        raise InputError(
            f"`{key}` must be one that the truth has ({listed}); {name} has {id}. Check that both are of one data set."
        )
    return places[int(id)]
