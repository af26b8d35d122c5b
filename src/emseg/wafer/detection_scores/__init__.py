"""COCO's mask scores with intervals, from a truth and a list of detections; needs pycocotools, not mmdet."""

from emseg.wafer.detection_scores.coco_input import read_detections, read_truth
from emseg.wafer.detection_scores.differences import ScoreDifference, difference_over_seeds, paired_difference
from emseg.wafer.detection_scores.failures import FAILURE_KINDS, Failure, failures
from emseg.wafer.detection_scores.matching import average_precision, match
from emseg.wafer.detection_scores.reporting import paper_scores, report_scores
from emseg.wafer.detection_scores.scores import METRIC_LABELS, METRICS, DetectionScores, Score, score_detections

__all__ = [
    "FAILURE_KINDS",
    "METRICS",
    "METRIC_LABELS",
    "DetectionScores",
    "Failure",
    "Score",
    "ScoreDifference",
    "average_precision",
    "difference_over_seeds",
    "failures",
    "match",
    "paired_difference",
    "paper_scores",
    "read_detections",
    "read_truth",
    "report_scores",
    "score_detections",
]
