"""COCO's mask scores with intervals, from a truth and a list of detections; needs pycocotools, not mmdet."""

from emseg.wafer.detection_scores.coco_input import read_detections, read_truth
from emseg.wafer.detection_scores.differences import ScoreDifference, difference_over_seeds, paired_difference
from emseg.wafer.detection_scores.matching import average_precision, match
from emseg.wafer.detection_scores.scores import METRIC_LABELS, METRICS, DetectionScores, Score, score_detections

__all__ = [
    "METRICS",
    "METRIC_LABELS",
    "DetectionScores",
    "Score",
    "ScoreDifference",
    "average_precision",
    "difference_over_seeds",
    "match",
    "paired_difference",
    "read_detections",
    "read_truth",
    "score_detections",
]
