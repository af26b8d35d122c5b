"""Differences between two detectors on the same images, and between two methods over seeds.

`paired_difference` draws the same images for both: what makes an image easy or hard for both cancels, and the interval
of the difference is narrower than the two intervals side by side suggest. It speaks of these two trained networks.
`difference_over_seeds` speaks of two ways of training: its sample is the seeds, its interval Student's t.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from emseg.errors import UsageError
from emseg.intervals import CONFIDENCE, percentile_interval
from emseg.wafer.scores.coco_input import (
    DetectionsSource,
    TruthSource,
    read_detections,
    read_truth,
    without_classes,
)
from emseg.wafer.scores.matching import average_precision, match
from emseg.wafer.scores.resampling import Cluster, resample_weights
from emseg.wafer.scores.scores import METRICS, metric_values, with_all_images


@dataclass(frozen=True)
class ScoreDifference:
    """The first score minus the second, in points of percent, with its 95 % interval over a sample of `n`."""

    value: float | None
    interval: tuple[float, float] | None
    n: int


def paired_difference(
    truth: TruthSource,
    detections_a: DetectionsSource,
    detections_b: DetectionsSource,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    max_detections: int = 100,
    cluster: Cluster = "image",
    class_agnostic: bool = False,
) -> dict[str, ScoreDifference]:
    """Return the score of `detections_a` minus that of `detections_b` for each of `METRICS`, over all classes."""
    known = read_truth(truth)
    weights = resample_weights(known, n_resamples=n_resamples, seed=seed, cluster=cluster)
    precisions = []
    for source in (detections_a, detections_b):
        found = read_detections(source, known)
        scored = without_classes(known, found) if class_agnostic else (known, found)
        matches = match(*scored, max_detections=max_detections)
        precisions.append(average_precision(matches, with_all_images(weights)))
    differences = {}
    for metric in METRICS:
        value, *resampled = metric_values(precisions[0], metric) - metric_values(precisions[1], metric)
        defined = bool(np.isfinite(value))
        differences[metric] = ScoreDifference(
            value=float(value) if defined else None,
            interval=percentile_interval(np.array(resampled)) if defined else None,
            n=len(known.image_ids),
        )
    return differences


def difference_over_seeds(pairs: Sequence[tuple[float | None, float | None]]) -> ScoreDifference:
    """Return the mean of a - b over pairs (a, b) of one metric, a pair a seed, with its interval (Student's t)."""
    for place, pair in enumerate(pairs):
        if any(score is None or not np.isfinite(score) for score in pair):
            raise UsageError(f"each seed needs both scores; pair {place} is {pair}. Leave out undefined scores' seeds.")
    gaps = np.array([float(a or 0) - float(b or 0) for a, b in pairs])
    if len(gaps) < 2:
        raise UsageError(f"an interval needs at least 2 pairs; got {len(gaps)}. Use more seeds.")
    mean, half = float(gaps.mean()), float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(gaps) - 1) * stats.sem(gaps))
    return ScoreDifference(mean, (mean - half, mean + half), len(gaps))
