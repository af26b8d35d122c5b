"""Average precision as a textbook has it, and COCO's numbers straight from pycocotools."""

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def textbook_average_precision(outcomes: Sequence[tuple[float, bool]], n_regions: int) -> float:
    """Return the mean over recalls 0, 0.01, ... 1 of the best precision at that recall or beyond.

    `outcomes` holds (score, found a region) of each detection.
    """
    points = []
    true = 0
    for rank, (_, is_true) in enumerate(sorted(outcomes, key=lambda one: -one[0]), start=1):
        true += is_true
        points.append((true / n_regions, true / rank))
    best = [max((p for r, p in points if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]
    return float(np.mean(best))


def coco_evaluation(truth: dict[str, Any], detections: list[dict[str, Any]], *, use_classes: bool = True) -> COCOeval:
    """Return pycocotools' evaluation, accumulated and summarized, as its own demo calls it."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(copy.deepcopy(detections)), "segm")
        evaluation.params.useCats = int(use_classes)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_scores(truth: dict[str, Any], detections: list[dict[str, Any]], *, use_classes: bool = True) -> list[float]:
    """Return AP, AP50, AP75, AP small, medium, large, 0 to 1, with -1 where undefined."""
    return [float(value) for value in coco_evaluation(truth, detections, use_classes=use_classes).stats[:6]]


def with_images_drawn(
    truth: dict[str, Any], detections: list[dict[str, Any]], drawn: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return truth and detections of images in which image place i stands drawn[i] times, each copy with its own id."""
    images, annotations, found = [], [], []
    for image, times in zip(truth["images"], drawn, strict=True):
        for _ in range(times):
            number = len(images) + 1
            images.append({**image, "id": number})
            for one in truth["annotations"]:
                if one["image_id"] == image["id"]:
                    annotations.append({**one, "image_id": number, "id": len(annotations) + 1})
            found += [{**one, "image_id": number} for one in detections if one["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, found
