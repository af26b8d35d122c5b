"""COCO's average precision, in a form that can be counted again for any choice of images.

pycocotools matches within each image, class, area range and IoU threshold: detections, best score first, each take the
free region with the largest mask IoU at or above the threshold; crowds and regions outside the area range are taken
last and do not count, nor do unmatched detections outside the range. This is done once; a bootstrap repeats the
counting over images (`average_precision`).

    image      [detection]         index of its image, for each case in the order of falling scores
    is_true    [detection]         whether it found a region
    n_regions  [case, image]       regions to find
    case       (class, area range, IoU threshold), the last index running fastest

A resample gives each image a weight w: how often it was drawn. Going down the ranks, with N the weighted number of
regions to find,

    TP += w or FP += w,    recall = TP / N,    precision = TP / (TP + FP)

The interpolated precision at a recall is the largest precision at that recall or a greater one; average precision is
its mean over the recalls 0, 0.01, ... 1.

Deviation: pycocotools takes annotation id 0 for "no match"; here regions are renumbered from 1. Where two detections of
one class in one image have the same score, a copy of the image ranks in pycocotools behind both; here each detection's
copies are adjacent.

Source: pycocotools 2.0, COCOeval.evaluateImg and accumulate (Lin and Dollar; COCO detection evaluation).
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from emseg.checks import require_count
from emseg.wafer.scores.coco_masks import Detection, Region, Truth

IOU_THRESHOLDS: NDArray[np.float64] = Params("segm").iouThrs
RECALLS: NDArray[np.float64] = Params("segm").recThrs
AREAS = ("all", "small", "medium", "large")
"""COCO's area ranges: all, below 32 x 32 pixels, from there to 96 x 96, and above."""
_EPSILON = float(np.spacing(1))  # COCO's guard against 0 / 0


@dataclass(frozen=True, eq=False)
class Matches:
    """The result of matching, for all cases; see the module."""

    class_names: tuple[str, ...]
    starts: Int64[np.ndarray, "case_ends"]
    image: Int64[np.ndarray, "detection"]
    is_true: Bool[np.ndarray, "detection"]
    n_regions: Int64[np.ndarray, "case image"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of classes, area ranges and IoU thresholds."""
        return len(self.class_names), len(AREAS), len(IOU_THRESHOLDS)

    def case(self, label: int, area: int, threshold: int) -> int:
        """Return the index of a case."""
        return int(np.ravel_multi_index((label, area, threshold), self.shape))


def match(truth: Truth, detections: Sequence[Detection], *, max_detections: int | None = None) -> Matches:
    """Return the matches of all images; the `max_detections` best scores of each class and image count, or all."""
    most = max(len(detections), 1) if max_detections is None else require_count("max_detections", max_detections)
    evaluation = _evaluated(truth, detections, most)
    n_images, n_thresholds = len(truth.image_ids), len(IOU_THRESHOLDS)
    images, found, n_regions, lengths = [], [], [], []
    for start in range(0, len(evaluation), n_images):  # one class and area range after another
        of_images = [(place, one) for place, one in enumerate(evaluation[start : start + n_images]) if one is not None]
        to_find = np.zeros(n_images, dtype=np.int64)
        for place, one in of_images:
            to_find[place] = np.count_nonzero(one["gtIgnore"] == 0)
        places = np.repeat([place for place, _ in of_images], [len(one["dtScores"]) for _, one in of_images])
        scores = np.concatenate([np.zeros(0), *(one["dtScores"] for _, one in of_images)])
        none = np.zeros((n_thresholds, 0))
        matched = np.concatenate([none, *(one["dtMatches"] for _, one in of_images)], axis=1)
        ignored = np.concatenate([none, *(one["dtIgnore"] for _, one in of_images)], axis=1)
        ranked = np.argsort(-scores, kind="stable")
        for threshold in range(n_thresholds):
            counted = ranked[ignored[threshold, ranked] == 0]
            images.append(places[counted].astype(np.int64))
            found.append(matched[threshold, counted] > 0)
            lengths.append(len(counted))
            n_regions.append(to_find)
    return Matches(
        class_names=truth.class_names,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        image=np.concatenate(images),
        is_true=np.concatenate(found),
        n_regions=np.stack(n_regions),
    )


def average_precision(
    matches: Matches, weights: Int64[np.ndarray, "resample image"]
) -> Float64[np.ndarray, "resample class area threshold"]:
    """Return average precision, 0 to 1, where each image counts `weights` times; NaN where undefined.

    It is undefined where no region is to be found; where regions are and no detection is, it is 0.
    """
    out = np.empty((len(weights), len(matches.n_regions)))
    integer = np.ascontiguousarray(weights, dtype=np.int64)
    average_precisions(matches.starts, matches.image, matches.is_true, matches.n_regions, integer, RECALLS, out)
    return out.reshape(len(weights), *matches.shape)


def precision_curve(matches: Matches, label: int, threshold: int) -> Float64[np.ndarray, "recall"]:
    """Return the interpolated precision at each of `RECALLS` over all areas and images; NaN without regions."""
    case = matches.case(label, 0, threshold)
    own = slice(matches.starts[case], matches.starts[case + 1])
    out = np.full(len(RECALLS), np.nan)
    n_regions = matches.n_regions[case]
    if n_regions.sum() > 0:
        ones = np.ones(len(n_regions), dtype=np.int64)
        interpolated_precision(matches.image[own], matches.is_true[own], ones, float(n_regions.sum()), RECALLS, out)
    return out


def _evaluated(truth: Truth, detections: Sequence[Detection], max_detections: int) -> list[dict[str, Any] | None]:
    """Return COCOeval's results by class, area range and image; ids are places plus one."""
    sides = []
    both: tuple[Sequence[Region | Detection], ...] = (truth.regions, detections)
    for items in both:
        coco, entries = COCO(), []
        for place, one in enumerate(items, start=1):
            entry: dict[str, Any] = {"id": place, "image_id": one.image + 1, "category_id": one.label + 1}
            entry["segmentation"] = dict(one.rle)
            if isinstance(one, Region):
                entry |= {"area": one.area, "iscrowd": int(one.is_crowd)}
            else:  # areas one by one: pycocotools 2.0.11 fails on more than 255 at once
                entry |= {"area": float(rle_masks.area(one.rle)), "iscrowd": 0, "score": one.score}
            entries.append(entry)
        coco.dataset = {
            "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(truth.sizes, start=1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(truth.class_names, start=1)],
            "annotations": entries,
        }
        sides.append(coco)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        for coco in sides:
            coco.createIndex()
        evaluation = COCOeval(*sides, "segm")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
    results: list[dict[str, Any] | None] = evaluation.evalImgs
    return results


@numba.njit(nogil=True, cache=True)
def interpolated_precision(image, is_true, weights, n_regions, recalls, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the interpolated precision at each of `recalls` (ascending); 0 beyond the largest recall."""
    # Recall grows at true positives alone, and each false positive lowers precision, so only true positives are kept.
    # The w copies of an image are adjacent; within such a run precision grows with recall, so its end suffices.
    recall = np.empty(len(image))
    precision = np.empty(len(image))
    true, false, n = 0.0, 0.0, 0
    for j in range(len(image)):
        weight = weights[image[j]]
        if weight == 0:
            continue
        if is_true[j]:
            true += weight
            recall[n] = true / n_regions
            precision[n] = true / (false + true + _EPSILON)
            n += 1
        else:
            false += weight
    out[:] = 0.0
    if n == 0:
        return
    place = len(recalls) - 1
    while place >= 0 and recalls[place] > recall[n - 1]:
        place -= 1
    best = 0.0  # from the last rank upwards, the running maximum is the interpolated precision
    for j in range(n - 1, -1, -1):
        best = max(best, precision[j])
        below = recall[j - 1] if j > 0 else -1.0
        while place >= 0 and recalls[place] > below:
            out[place] = best
            place -= 1


@numba.njit(nogil=True, cache=True)
def average_precisions(starts, image, is_true, n_regions, weights, recalls, out):  # type: ignore[no-untyped-def]
    """Fill `out` [resample, case] with the mean over `recalls` of the interpolated precision; NaN without regions.

    `starts` [case + 1] states where each case begins in `image` and `is_true`; `n_regions` [case, image] counts the
    regions to find; `weights` [resample, image].
    """
    curve = np.empty(len(recalls))
    for case in range(len(starts) - 1):
        own_image = image[starts[case] : starts[case + 1]]
        own_truth = is_true[starts[case] : starts[case + 1]]
        for resample in range(len(weights)):
            total = 0.0
            for i in range(n_regions.shape[1]):
                total += n_regions[case, i] * weights[resample, i]
            if total == 0:
                out[resample, case] = np.nan
                continue
            interpolated_precision(own_image, own_truth, weights[resample], total, recalls, curve)
            out[resample, case] = curve.mean()
