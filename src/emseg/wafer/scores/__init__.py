"""COCO's mask scores with intervals, from a truth and a list of detections; needs pycocotools, not mmdet."""

from emseg.wafer.scores.average_precision import average_precision, match
from emseg.wafer.scores.coco_masks import read_detections, read_truth
from emseg.wafer.scores.detection_scores import (
    METRIC_LABELS,
    METRICS,
    DetectionScores,
    Score,
    score_detections,
)
from emseg.wafer.scores.failures import FAILURE_KINDS, Failure, failures, pair_up

__all__ = [
    "FAILURE_KINDS",
    "METRICS",
    "METRIC_LABELS",
    "DetectionScores",
    "Failure",
    "Score",
    "average_precision",
    "failures",
    "match",
    "pair_up",
    "read_detections",
    "read_truth",
    "score_detections",
]
