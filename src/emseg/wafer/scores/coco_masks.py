"""What scoring reads: a COCO truth and a COCO results list, checked before anything is compared.

    truth       JSON (a file or its content) with `images`, `categories` and `annotations`; a region with iscrowd = 1
                counts neither as found nor as missed: detections within it are ignored
    detections  a list, or a file that contains it, of {image_id, category_id, segmentation, score}; the segmentation
    is a
                run-length encoded mask of the image's size, the score is from 0 to 1; boxes are taken from the masks

Images and classes are passed on by their index in the order of ids, masks as compressed run-length codes.

**Run lengths.** A mask is read column by column as alternating runs of 0 and 1, the first of 0. The compressed code
writes each run, from the fourth on less the run two before it, in groups of five bits, least significant first: one
character a group, 48 plus the five bits plus 32 where another group follows; the last group's highest bit is the sign.
pycocotools does not check the sum of the runs, and its `iou` never returns for a truncated code.

Source: https://cocodataset.org/#format-data and #format-results; pycocotools 2.0, maskApi.c (rleFrString).
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pycocotools import mask as rle_masks

from emseg.errors import InputError
from emseg.files import read_json
from emseg.sections import UNSORTED_CLASS
from emseg.wafer.formats.coco import coco_entries
from emseg.wafer.formats.outlines import FARTHEST_PX

TruthSource = str | Path | Mapping[str, Any]
DetectionsSource = str | Path | Sequence[Mapping[str, Any]]
Rle = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Region:
    """One region of the truth; `image` and `label` are indices into `Truth.image_ids` and `Truth.class_names`."""

    id: int
    image: int
    label: int
    rle: Rle
    area: float
    is_crowd: bool


@dataclass(frozen=True, eq=False)
class Detection:
    """One detection; `image` and `label` are indices into `Truth.image_ids` and `Truth.class_names`."""

    image: int
    label: int
    rle: Rle
    score: float


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of all images: `sizes` (height, width) and `wafers` (None where unknown) correspond to `image_ids`."""

    image_ids: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    wafers: tuple[str | None, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    regions: tuple[Region, ...]


def read_truth(source: TruthSource) -> Truth:
    """Return the checked truth; raises `InputError` that names the first entry which cannot be used."""
    content = read_json(source) if isinstance(source, str | Path) else source
    lists, _ = coco_entries(content, str(source) if isinstance(source, str | Path) else "the truth")
    images, categories = sorted(lists["images"], key=lambda one: int(one["id"])), lists["categories"]
    image_at, label_at = ({one["id"]: place for place, one in enumerate(entries)} for entries in (images, categories))
    sizes = [(int(one["height"]), int(one["width"])) for one in images]
    regions = []
    for one in lists["annotations"]:
        image, label = image_at[one["image_id"]], label_at[one["category_id"]]
        rle = as_run_length(one.get("segmentation"), sizes[image], f"annotation {one['id']}")
        area = float(one["area"]) if "area" in one else float(rle_masks.area(rle))
        regions.append(Region(int(one["id"]), image, label, rle, area, bool(one.get("iscrowd", 0))))
    if all(region.is_crowd for region in regions):
        raise InputError(
            "the truth must contain at least one region to find, not counting crowds; it contains none. "
            "Without any, no score is defined."
        )
    return Truth(
        image_ids=tuple(int(id) for id in image_at),
        sizes=tuple(sizes),
        wafers=tuple(None if one.get("wafer") is None else str(one["wafer"]) for one in images),
        class_names=tuple(str(one["name"]) for one in categories),
        category_ids=tuple(int(id) for id in label_at),
        regions=tuple(regions),
    )


def read_detections(source: DetectionsSource, truth: Truth) -> tuple[Detection, ...]:
    """Return the checked detections, in their order; an empty list is allowed.

    Raises `InputError`, naming the detection by its index in the list, for any that cannot be scored.
    """
    content = read_json(source) if isinstance(source, str | Path) else source
    if not isinstance(content, Sequence):
        raise InputError("the detections must be a list in COCO's results format; got an object. Hand over the list.")
    known = {"image_id": truth.image_ids, "category_id": truth.category_ids}
    places = {key: {id: place for place, id in enumerate(ids)} for key, ids in known.items()}
    found = []
    for number, one in enumerate(content):
        name = f"detection {number}"
        for key in (*known, "segmentation", "score"):
            if not isinstance(one, Mapping) or key not in one:
                raise InputError(f"each detection must have `{key}`; {name} of the list has none. Add it.")
        for key, ids in known.items():
            if not isinstance(one[key], int | np.integer) or one[key] not in places[key]:
                listed = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
                raise InputError(
                    f"`{key}` must be one that the truth has ({listed}); {name} has {one[key]}. "
                    "Check that both are of one data set."
                )
        image, label = (places[key][int(one[key])] for key in known)
        if not isinstance(one["segmentation"], Mapping):
            raise InputError(f"a detection's mask must be run-length encoded; {name} has another one. Encode it.")
        rle, score = as_run_length(one["segmentation"], truth.sizes[image], name), one["score"]
        if isinstance(score, bool) or not isinstance(score, int | float | np.number) or not 0 <= float(score) <= 1:
            raise InputError(f"a score must be a number from 0 to 1; {name} has {score}. Correct or remove it.")
        found.append(Detection(image, label, rle, float(score)))
    return tuple(found)


def without_classes(truth: Truth, detections: Iterable[Detection]) -> tuple[Truth, tuple[Detection, ...]]:
    """Return both with all classes merged into one, so that detection is scored and classification is not."""
    regions = tuple(replace(region, label=0) for region in truth.regions)
    merged = replace(truth, class_names=(UNSORTED_CLASS,), category_ids=(1,), regions=regions)
    return merged, tuple(replace(one, label=0) for one in detections)


def overlaps(detections: Sequence[Detection], regions: Sequence[Region]) -> Float64[np.ndarray, "detection region"]:
    """Return the IoU of each detection with each region, as COCO has it: with a crowd, the fraction within it."""
    if not detections or not regions:
        return np.zeros((len(detections), len(regions)))
    crowd = [int(region.is_crowd) for region in regions]
    return np.asarray(rle_masks.iou([one.rle for one in detections], [one.rle for one in regions], crowd))


def as_run_length(segmentation: Any, size: tuple[int, int], name: str) -> Rle:
    """Return polygons or a run-length code as a compressed code of the image's `size`; `name` is for the error."""
    height, width = size
    if isinstance(segmentation, Mapping):
        given = segmentation.get("size")
        if not isinstance(given, list | tuple) or list(given) != [height, width]:
            shown = " x ".join(map(str, given)) if isinstance(given, list | tuple) and given else "none"
            raise InputError(
                f"a mask must have its image's size, {height} x {width} (height x width); {name} has {shown}. "
                "Resize masks to the image."
            )
        counts: Any = segmentation.get("counts")
        if not isinstance(counts, list | str | bytes):
            raise InputError(f"a run-length code needs `counts`; {name} has none. Encode it with pycocotools.")
        code: Any = counts.encode() if isinstance(counts, str) else counts
        whole = isinstance(code, bytes) or all(
            isinstance(run, int | np.integer) and 0 <= int(run) <= height * width for run in code
        )
        runs = None if not whole else run_lengths(code) if isinstance(code, bytes) else np.array(code)
        if runs is None or not len(runs) or runs.min() < 0 or runs.sum() != height * width:
            raise InputError(f"the runs of a mask must add up to its size; those of {name} do not. Encode it anew.")
        if isinstance(code, list):
            return dict(rle_masks.frPyObjects({"size": list(size), "counts": code}, height, width))
        return {"size": list(size), "counts": code}
    usable = isinstance(segmentation, list | tuple) and all(map(_is_polygon, segmentation))
    if not usable or not segmentation:
        raise InputError(
            f"a segmentation must be polygons [x, y, x, y, x, y, ...] of three points at least, or a run-length code; "
            f"{name} has neither. Remove it or redraw it."
        )
    return dict(rle_masks.merge(rle_masks.frPyObjects(segmentation, height, width)))


def _is_polygon(part: Any) -> bool:
    try:
        numbers = np.asarray(part, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return (
        numbers.ndim == 1
        and numbers.size >= 6
        and numbers.size % 2 == 0
        and bool((np.abs(numbers) <= FARTHEST_PX).all())
    )


def decoded(rle: Rle) -> Bool[np.ndarray, "row column"]:
    """Return the mask that a compressed run-length code contains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 does not know NumPy 2's `copy` yet
        return np.asarray(rle_masks.decode(rle)).astype(bool)


def run_lengths(code: bytes) -> Int64[np.ndarray, "run"] | None:
    """Return the runs of a compressed code; None for an empty or truncated code, or one with other characters."""
    groups = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return None
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:  # a run fits into 32 bits
        return None
    runs = np.add.reduceat((groups & 31) << (5 * place), starts)
    runs -= np.where(groups[ends] & 16, np.int64(1) << (5 * (place[ends] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return np.asarray(runs)
