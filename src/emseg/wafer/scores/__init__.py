"""Scores with intervals: COCO's for the masks of tiles, counts and errors for a whole wafer; mmdet is not needed."""

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
from emseg.wafer.scores.navigation_scores import NavigationScores, SectionPair, score_navigation

__all__ = [
    "FAILURE_KINDS",
    "METRICS",
    "METRIC_LABELS",
    "DetectionScores",
    "Failure",
    "NavigationScores",
    "Score",
    "SectionPair",
    "average_precision",
    "failures",
    "match",
    "pair_up",
    "read_detections",
    "read_truth",
    "score_detections",
    "score_navigation",
]
