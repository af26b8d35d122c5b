"""COCO's mask scores with intervals, from a truth and a list of detections; needs pycocotools, not mmdet."""

from chapters.fanet_training.reporting import paper_scores, report_scores
from emseg.wafer.scores.coco_input import read_detections, read_truth
from emseg.wafer.scores.differences import ScoreDifference, difference_over_seeds, paired_difference
from emseg.wafer.scores.failures import FAILURE_KINDS, Failure, failures
from emseg.wafer.scores.matching import average_precision, match
from emseg.wafer.scores.scores import METRIC_LABELS, METRICS, DetectionScores, Score, score_detections

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
