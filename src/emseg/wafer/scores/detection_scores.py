"""COCO's scores of instance masks, in percent, with bootstrap intervals over images or wafers.

    ap                     mean over IoU thresholds 0.50, 0.55, ... 0.95 of average precision
    ap50, ap75             at one threshold
    ap_small, _medium, _large   as ap, over regions below 32 x 32 pixels, to 96 x 96, and above

The overall score is the mean over the classes that have regions; a class (or area) without any has no score, None, and
is never counted as 0. Scores of two runs may be compared where truth, area unit (pixels of the same size) and
`max_detections` are the same. By default all detections count; COCO's own scores take the 100 best of each class and
image (`max_detections=COCO_MAX_DETECTIONS`), fewer than the sections of a dense tile.

**Intervals.** Images are drawn with replacement, as many as there are; the interval is the central 95 % of the scores.
Tiles of one wafer share its tissue and illumination, and overlapping tiles share pixels: an interval over images is
then too narrow, and `cluster="wafer"` draws whole wafers. Intervals cover the choice of images for one trained network,
not its seed.

Source: Lin et al., Microsoft COCO (2014) and its detection evaluation, of which the paper's Table 2 prints these six
scores; Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from emseg.checks import require_count, require_one_of
from emseg.errors import InputError
from emseg.intervals import percentile_interval
from emseg.wafer.scores.average_precision import (
    IOU_THRESHOLDS,
    RECALLS,
    Matches,
    average_precision,
    match,
    precision_curve,
)
from emseg.wafer.scores.coco_masks import (
    DetectionsSource,
    Truth,
    TruthSource,
    read_detections,
    read_truth,
    without_classes,
)

Cluster = Literal["image", "wafer"]
COCO_MAX_DETECTIONS = 100

_METRICS: Mapping[str, tuple[str, int, slice]] = {  # label, indices into AREAS and IOU_THRESHOLDS
    "ap": ("AP", 0, slice(None)),
    "ap50": ("AP50", 0, slice(0, 1)),
    "ap75": ("AP75", 0, slice(5, 6)),
    "ap_small": ("AP small", 1, slice(None)),
    "ap_medium": ("AP medium", 2, slice(None)),
    "ap_large": ("AP large", 3, slice(None)),
}
METRICS = tuple(_METRICS)
METRIC_LABELS: Mapping[str, str] = {metric: label for metric, (label, _, _) in _METRICS.items()}


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
    max_detections: int | None = None

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
    max_detections: int | None = None,
    cluster: Cluster = "image",
    class_agnostic: bool = False,
) -> DetectionScores:
    """Return COCO's mask scores of `detections` against `truth`, overall and for each class.

    `max_detections` counts only the best of each class and image. `class_agnostic` merges all classes first, which
    scores detection without classification. Raises `InputError` for a truth or detections that cannot be used.
    """
    known = read_truth(truth)
    found = read_detections(detections, known)
    if class_agnostic:
        known, found = without_classes(known, found)
    weights = resample_weights(known, n_resamples=n_resamples, seed=seed, cluster=cluster)
    matches = match(known, found, max_detections=max_detections)
    precisions = _with_resamples(matches, weights)
    n_classes, n_thresholds = len(known.class_names), len(IOU_THRESHOLDS)
    curves = [[precision_curve(matches, label, one) for one in range(n_thresholds)] for label in range(n_classes)]
    return DetectionScores(
        overall=_scores(matches, precisions, range(n_classes)),
        by_class={name: _scores(matches, precisions, [label]) for label, name in enumerate(known.class_names)},
        precision=np.array(curves),
        n_images=len(known.image_ids),
        n_regions=sum(not region.is_crowd for region in known.regions),
        n_detections=len(found),
        n_resamples=len(weights),
        cluster=cluster,
        max_detections=max_detections,
    )


def resample_weights(
    truth: Truth, *, n_resamples: int, seed: int, cluster: Cluster = "image"
) -> Int64[np.ndarray, "resample image"]:
    """Return how often each image is drawn; no resamples where there is only one image to draw.

    Raises `InputError` where an image does not name the wafer to be drawn, or all are of one wafer.
    """
    require_one_of("cluster", cluster, get_args(Cluster))
    require_count("n_resamples", n_resamples, least=0)
    n_images = len(truth.image_ids)
    if cluster == "image":
        member_of = np.arange(n_images)
    else:
        for id, wafer in zip(truth.image_ids, truth.wafers, strict=True):
            if wafer is None:
                raise InputError(f'each image must name its `wafer` to draw wafers; image {id} does not. Draw "image".')
        names, member_of = np.unique([str(wafer) for wafer in truth.wafers], return_inverse=True)
        if len(names) < 2:
            raise InputError(f'drawing wafers needs at least 2; all images are of {names[0]}. Draw "image".')
    n_clusters = int(member_of.max()) + 1
    if n_clusters < 2:
        return np.zeros((0, n_images), dtype=np.int64)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples)
    return np.ascontiguousarray(drawn[:, member_of], dtype=np.int64)


def metric_values(
    precisions: Float64[np.ndarray, "resample class area threshold"], metric: str
) -> Float64[np.ndarray, "resample"]:
    """Return one of `METRICS` in percent for each resample: the mean over classes that are defined, else NaN."""
    _, area, thresholds = _METRICS[metric]
    of_classes = precisions[:, :, area, thresholds].mean(axis=-1)
    count, total = np.isfinite(of_classes).sum(axis=1), np.nansum(of_classes, axis=1)
    return np.asarray(100 * np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _with_resamples(
    matches: Matches, weights: Int64[np.ndarray, "resample image"]
) -> Float64[np.ndarray, "resample_1 class area threshold"]:
    """Average precision of all images, then of each resample."""
    return average_precision(matches, np.concatenate([np.ones((1, weights.shape[1]), dtype=np.int64), weights]))


def _with_interval(values: Float64[np.ndarray, "resample"]) -> tuple[float | None, tuple[float, float] | None]:
    """The first value with the interval of the others, None where it is undefined."""
    return (float(values[0]), percentile_interval(values[1:])) if np.isfinite(values[0]) else (None, None)


def _scores(matches: Matches, precisions: NDArray[Any], labels: Sequence[int]) -> dict[str, Score]:
    scores = {}
    for metric, (_, area, _) in _METRICS.items():
        n_regions = sum(int(matches.n_regions[matches.case(label, area, 0)].sum()) for label in labels)
        scores[metric] = Score(*_with_interval(metric_values(precisions[:, list(labels)], metric)), n_regions)
    return scores
