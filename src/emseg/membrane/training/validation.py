"""How F1 of membrane depends on the threshold, and the threshold that is best on the validation images.

Probabilities are kept as 256 levels, round(255 p). For each image two histograms of the levels, one over membrane and
one over background, give the counts at all 255 thresholds at once:

    TP(t) = membrane pixels of level >= t,   FP(t) = background pixels of level >= t,   F1 = 2 TP / (P + TP + FP)

The threshold is that with the highest mean over images, as the images are scored in the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from numpy.typing import NDArray

from emseg.errors import UsageError

N_LEVELS = 256


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """Mean F1 of membrane over images at each threshold, level 1 to 255; `thresholds` in 0 to 1."""

    thresholds: Float64[np.ndarray, " threshold"]
    membrane_f1: Float64[np.ndarray, " threshold"]

    @property
    def best(self) -> int:
        """The place of the highest F1; in the middle where several thresholds share it."""
        return int(np.median(np.flatnonzero(self.membrane_f1 == self.membrane_f1.max())))

    @property
    def best_threshold(self) -> float:
        """The threshold with the highest F1."""
        return float(self.thresholds[self.best])

    @property
    def best_f1(self) -> float:
        """The highest F1."""
        return float(self.membrane_f1[self.best])

    def f1_at(self, threshold: float) -> float:
        """Return F1 at the nearest threshold."""
        return float(self.membrane_f1[int(np.argmin(np.abs(self.thresholds - threshold)))])


def to_levels(probability: NDArray[np.floating]) -> UInt8[np.ndarray, "row column"]:
    """Return probabilities as levels 0 to 255."""
    levels: NDArray[np.uint8] = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    return levels


def level_counts(
    levels: UInt8[np.ndarray, "row column"], membrane: Bool[np.ndarray, "row column"]
) -> Int64[np.ndarray, "2 level"]:
    """Return how many pixels of background and of membrane have each level."""
    codes = levels.astype(np.int64) + N_LEVELS * membrane
    return np.bincount(codes.ravel(), minlength=2 * N_LEVELS).reshape(2, N_LEVELS)


def threshold_curve(counts: Sequence[Int64[np.ndarray, "2 level"]]) -> ThresholdCurve:
    """Return the curve of a set of images, each given by its counts."""
    if not counts:
        raise UsageError("a threshold is chosen on validation images; got none. Keep at least one out of the training.")
    reached = np.stack(counts)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1].astype(np.float64)  # pixels of level >= t
    false_positives, true_positives = reached[:, 0, 1:], reached[:, 1, 1:]
    total = reached[:, 1, :1] + true_positives + false_positives
    f1 = np.divide(2 * true_positives, total, out=np.ones_like(total), where=total > 0)
    return ThresholdCurve(np.arange(1, N_LEVELS) / 255, f1.mean(axis=0))
