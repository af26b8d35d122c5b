"""Detections paired with regions, whatever their classes, and the worst errors of a detector, ranked.

In each image the detections at or above a score, best first, each take the free region with the largest mask IoU, if
that is at or above the threshold. What remains is a detection of nothing or a missed region; a remaining detection of
which that fraction or more lies within a crowd is dropped, as COCO does. Pairs are for people to read, not for average
precision. The kinds of errors:

    missed         a region without a detection; severity 1 - the best score, below the threshold, of a detection of it
    wrong class    a region found as something else; severity its score
    poor outline   found as what it is, but with an IoU below `good_iou`, or only touched (IoU from `touching_iou` up to
                   `iou`, any class); severity 1 - IoU
    false alarm    a detection of nothing, or a second one of a region already found; severity its score

All severities lie from 0 to 1. The kinds are those of TIDE, its doubled detections counted with the false alarms and
its two outline errors in one.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors (2020), whose lower threshold 0.1
is the default of `touching_iou`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pycocotools import mask as rle_masks

from emseg.checks import require_number
from emseg.errors import UsageError
from emseg.wafer.scores.coco_masks import (
    Detection,
    DetectionsSource,
    Region,
    Truth,
    TruthSource,
    overlaps,
    read_detections,
    read_truth,
)

FailureKind = Literal["missed", "wrong class", "poor outline", "false alarm"]

FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


@dataclass(frozen=True)
class Failure:
    """One error; `box` is (row, column, height, width) in pixels of the image, of both masks together.

    `truth_label` is None for a false alarm; `label` and `score`, those of the detection, are None for a missed region.
    """

    kind: FailureKind
    severity: float
    image_id: int
    box: tuple[float, float, float, float]
    truth_label: str | None
    label: str | None
    score: float | None
    iou: float


@dataclass(frozen=True, eq=False)
class Pair:
    """A detection and its region; one of them is None where the other found no partner, and `iou` is 0 then."""

    detection: Detection | None
    region: Region | None
    iou: float = 0.0


def pair_up(
    regions: Sequence[Region], detections: Sequence[Detection], n_images: int, *, iou: float, score: float
) -> tuple[Pair, ...]:
    """Return all pairs of all images, the left-over regions last in each."""
    require_number("iou", iou, above=0, most=1)
    require_number("score", score, least=0, most=1)
    pairs: list[Pair] = []
    own_regions: list[list[Region]] = [[] for _ in range(n_images)]
    own_detections: list[list[Detection]] = [[] for _ in range(n_images)]
    for region in regions:
        own_regions[region.image].append(region)
    for detection in sorted(detections, key=lambda one: -one.score):
        if detection.score >= score:
            own_detections[detection.image].append(detection)
    for own, found in zip(own_regions, own_detections, strict=True):
        free, crowds = ([region for region in own if region.is_crowd == crowd] for crowd in (False, True))
        shared, within = overlaps(found, free), overlaps(found, crowds)
        taken: set[int] = set()
        for place, detection in enumerate(found):
            candidates = [k for k in range(len(free)) if k not in taken and shared[place, k] >= iou]
            if candidates:
                best = max(candidates, key=lambda k: shared[place, k])
                taken.add(best)
                pairs.append(Pair(detection, free[best], float(shared[place, best])))
            elif not (within[place] >= iou).any():
                pairs.append(Pair(detection, None))
        pairs += [Pair(None, region) for k, region in enumerate(free) if k not in taken]
    return tuple(pairs)


def failures(
    truth: TruthSource,
    detections: DetectionsSource,
    *,
    iou: float = 0.5,
    score: float = 0.5,
    good_iou: float = 0.75,
    touching_iou: float = 0.1,
) -> tuple[Failure, ...]:
    """Return the errors of detections at or above `score`, the most severe first, larger regions before smaller."""
    if not 0 < touching_iou <= iou <= good_iou <= 1:
        got = f"{touching_iou}, {iou}, {good_iou}"
        raise UsageError(f"`touching_iou`, `iou`, `good_iou` must ascend between 0 and 1; got {got}.")
    known = read_truth(truth)
    found = read_detections(detections, known)
    pairs = pair_up(known.regions, found, len(known.image_ids), iou=iou, score=score)
    matched = [pair for pair in pairs if pair.detection and pair.region]
    alone = [pair.detection for pair in pairs if pair.detection and not pair.region]
    unmatched = [pair.region for pair in pairs if pair.region and not pair.detection]
    touching = pair_up(unmatched, alone, len(known.image_ids), iou=touching_iou, score=score)
    doubtful = [one for one in found if one.score < score]
    errors = [
        _failure(known, pair, doubtful, iou)
        for pair in (*matched, *touching)
        if _kind(pair, iou) != "poor outline" or pair.iou < good_iou
    ]
    return tuple(sorted(errors, key=lambda one: (-one.severity, -one.box[2] * one.box[3])))


def _kind(pair: Pair, iou: float) -> FailureKind:
    if pair.detection is None:
        return "missed"
    if pair.region is None:
        return "false alarm"
    return "wrong class" if pair.iou >= iou and pair.detection.label != pair.region.label else "poor outline"


def _failure(truth: Truth, pair: Pair, doubtful: Sequence[Detection], iou: float) -> Failure:
    kind, detection, region = _kind(pair, iou), pair.detection, pair.region
    if detection is None and region is not None:  # 1 - the best score, of any class, of a detection of it
        own = [one for one in doubtful if one.image == region.image]
        shared = overlaps(own, [region])[:, 0]
        severity = 1 - max((one.score for one, share in zip(own, shared, strict=True) if share >= iou), default=0.0)
    else:
        severity = 1 - pair.iou if kind == "poor outline" or detection is None else detection.score
    some = detection or region
    assert some is not None, "a pair has a detection or a region"
    masks = [one.rle for one in (detection, region) if one is not None]
    x, y, width, height = rle_masks.toBbox(rle_masks.merge(masks)).tolist()
    return Failure(
        kind=kind,
        severity=severity,
        image_id=truth.image_ids[some.image],
        box=(y, x, height, width),
        truth_label=None if region is None else truth.class_names[region.label],
        label=None if detection is None else truth.class_names[detection.label],
        score=None if detection is None else detection.score,
        iou=pair.iou,
    )
