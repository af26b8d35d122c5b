"""COCO's scores of instance masks, in percent, with bootstrap intervals over images or wafers.

    ap                     mean over IoU thresholds 0.50, 0.55, ... 0.95 of average precision
    ap50, ap75             at one threshold
    ap_small, _medium, _large   as ap, over regions below 32 x 32 pixels, to 96 x 96, and above

Average precision is the mean of the interpolated precision at recalls 0, 0.01, ... 1. The overall score is the mean
over the classes that have regions; a class (or area) without any has no score, None, and is never counted as 0. Scores
of two runs may be compared where truth, area unit (pixels of the same size) and `max_detections` are the same.

Source: Lin et al., Microsoft COCO (2014) and its detection evaluation; the paper's Table 2 prints these six.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.intervals import percentile_interval
from emseg.wafer.scores.coco_input import (
    DetectionsSource,
    TruthSource,
    read_detections,
    read_truth,
    without_classes,
)
from emseg.wafer.scores.matching import (
    IOU_THRESHOLDS,
    RECALLS,
    Matches,
    average_precision,
    match,
    precision_curve,
)
from emseg.wafer.scores.resampling import Cluster, resample_weights

METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
METRIC_LABELS: Mapping[str, str] = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}
_SELECTED: Mapping[str, tuple[int, slice]] = {  # places in AREAS and IOU_THRESHOLDS
    "ap": (0, slice(None)),
    "ap50": (0, slice(0, 1)),
    "ap75": (0, slice(5, 6)),
    "ap_small": (1, slice(None)),
    "ap_medium": (2, slice(None)),
    "ap_large": (3, slice(None)),
}


@dataclass(frozen=True)
class Score:
    """A score in percent, None where undefined, with its 95 % interval; `n_regions` were to be found."""

    value: float | None
    interval: tuple[float, float] | None
    n_regions: int


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """All scores of one set of detections; `precision` is interpolated, 0 to 1, NaN for a class without regions."""

    overall: Mapping[str, Score]
    by_class: Mapping[str, Mapping[str, Score]]
    precision: Float64[np.ndarray, "class threshold recall"]
    n_images: int
    n_regions: int
    n_detections: int
    n_resamples: int
    cluster: Cluster

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of their ids."""
        return tuple(self.by_class)

    @property
    def recalls(self) -> NDArray[np.float64]:
        """The recalls at which `precision` is given."""
        return RECALLS

    def precision_at(self, label: str, iou: float) -> Float64[np.ndarray, "recall"]:
        """Return the interpolated precision of a class at one of COCO's IoU thresholds."""
        return np.asarray(self.precision[self.class_names.index(label), int(np.abs(IOU_THRESHOLDS - iou).argmin())])


def score_detections(
    truth: TruthSource,
    detections: DetectionsSource,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    max_detections: int = 100,
    cluster: Cluster = "image",
    class_agnostic: bool = False,
) -> DetectionScores:
    """Return COCO's mask scores of `detections` against `truth`, overall and for each class.

    `class_agnostic` merges all classes first, which scores the finding alone. Raises `InputError` for a truth or
    detections that cannot be used (see `coco_input`).
    """
    known = read_truth(truth)
    found = read_detections(detections, known)
    if class_agnostic:
        known, found = without_classes(known, found)
    weights = resample_weights(known, n_resamples=n_resamples, seed=seed, cluster=cluster)
    matches = match(known, found, max_detections=max_detections)
    precisions = average_precision(matches, with_all_images(weights))
    names, thresholds = known.class_names, range(len(IOU_THRESHOLDS))
    curves = [[precision_curve(matches, label, one) for one in thresholds] for label in range(len(names))]
    return DetectionScores(
        overall=_scores(matches, precisions, range(len(names))),
        by_class={name: _scores(matches, precisions, [label]) for label, name in enumerate(names)},
        precision=np.array(curves),
        n_images=len(known.image_ids),
        n_regions=sum(not region.is_crowd for region in known.regions),
        n_detections=len(found),
        n_resamples=len(weights),
        cluster=cluster,
    )


def with_all_images(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the weights with a first row of ones: the score itself stands before its resamples."""
    return np.concatenate([np.ones((1, weights.shape[1]), dtype=np.int64), weights])


def metric_values(
    precisions: Float64[np.ndarray, "resample class area threshold"], metric: str
) -> Float64[np.ndarray, "resample"]:
    """Return one of `METRICS` in percent for each resample: the mean over classes that are defined, else NaN."""
    area, thresholds = _SELECTED[metric]
    of_classes = precisions[:, :, area, thresholds].mean(axis=-1)
    defined = np.isfinite(of_classes)
    total = np.where(defined, of_classes, 0.0).sum(axis=1)
    count = defined.sum(axis=1)
    return np.asarray(100 * np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _scores(matches: Matches, precisions: NDArray[Any], labels: Any) -> dict[str, Score]:
    scores = {}
    chosen = list(labels)
    for metric in METRICS:
        area, _ = _SELECTED[metric]
        n_regions = sum(int(matches.n_regions[matches.cell(label, area, 0)].sum()) for label in chosen)
        value, *resampled = metric_values(precisions[:, chosen], metric)
        interval = percentile_interval(np.array(resampled))
        defined = bool(np.isfinite(value))
        scores[metric] = Score(float(value) if defined else None, interval if defined else None, n_regions)
    return scores
