"""What Track 2's downsampling does to the labels: the F1 that a perfect predictor at full size can reach on them.

A Track 2 label is the full-size label resized bilinearly, four source pixels for each new one, and made binary again
(`emseg.membrane.dataset.downsampled`). A predictor that knows every full-size pixel rightly must say for each new pixel
whether it is membrane, and can do so in several ways:

    covered   membrane where at least a share t of the new pixel's area is; t = 1/2, and the t that scores best
    nearest   what the nearest source pixel says
    moved     the authors' own resizing of a truth that lies some source pixels off, beside the same shift at full size

Only whoever repeats the authors' sampling to the pixel reaches 1. Membranes are broken where the label has lost them:
counted against the label that keeps every new pixel in which any source pixel is membrane, which breaks nowhere.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chapters.urisc_competition.gap_shifts import Labels, line_width
from emseg.membrane.dataset.downsampled import TRACK_2_FACTOR, downsampled_pair
from emseg.membrane.scoring.image_scores import ImageScores, ScoreSettings, score_image
from emseg.membrane.scoring.regions import find_patches
from emseg.synthetic.tissue import URISC_PIXEL_SIZE_NM

HALF = 0.5
COVERAGES = tuple(round(0.05 * k, 2) for k in range(1, 20))


@dataclass(frozen=True, eq=False)
class Downsampled:
    """One label before and after: masks, and what perfect predictors score; `moved_f1` by source pixels moved.

    `moved_f1_full`: the same shifts scored at full size.

    `factor`: source pixels for each new one along an axis.

    `kept`: the label that keeps every pixel that holds membrane. `broken`: membranes of it that the label breaks.
    """

    factor: float
    truth: NDArray[np.bool_]
    label: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    coverage: NDArray[np.float32]
    covered_f1: tuple[float, ...]
    nearest_f1: float
    moved_f1: tuple[float, ...]
    moved_f1_full: tuple[float, ...]
    broken: int
    cells_before: int
    cells_after: int

    @property
    def half_covered_f1(self) -> float:
        """F1 of the predictor that calls a pixel membrane where half of it is."""
        return self.covered_f1[COVERAGES.index(HALF)]

    @property
    def widths_px(self) -> tuple[float, float]:
        """Line width before and after, in pixels of each."""
        return line_width(self.truth), line_width(self.label)


def downsample_labels(labels: Labels, shifts_px: Sequence[int]) -> list[Downsampled]:
    """Return the labels at Track 2's pixel size, made as it was."""
    factor = track2_factor(labels.pixel_size_nm)
    return [downsample_label(mask, shifts_px, factor) for mask in labels.masks]


def downsample_label(truth: NDArray[np.bool_], shifts_px: Sequence[int], factor: float = TRACK_2_FACTOR) -> Downsampled:
    """Return a label as on Track 2, and what can be reached on it.

    `shifts_px`: how many source pixels the truth lies off, along both axes. The image is first cropped so that the
    largest shift stays inside.
    """
    side = int((min(truth.shape) - max(shifts_px, default=0)) / factor)
    source = round(side * factor)
    whole = truth[:source, :source]
    label = reduced(whole, side)
    coverage = np.asarray(
        cv2.resize(whole.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32
    )
    kept = coverage > 0
    nearest = cv2.resize(whole.view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    settings = ScoreSettings(tolerance_px=0.0)
    moved = [truth[by : by + source, by : by + source] for by in shifts_px]
    against_kept: ImageScores = score_image(label, kept, settings)
    return Downsampled(
        factor=factor,
        truth=whole,
        label=label,
        kept=kept,
        coverage=coverage,
        covered_f1=tuple(f1_of_masks(coverage >= share, label) for share in COVERAGES),
        nearest_f1=f1_of_masks(nearest, label),
        moved_f1=tuple(f1_of_masks(reduced(one, side), label) for one in moved),
        moved_f1_full=tuple(f1_of_masks(one, whole) for one in moved),
        broken=against_kept.objects.broken_membranes,
        cells_before=find_patches(np.ascontiguousarray(whole), 4, value=False).n,
        cells_after=find_patches(label, 4, value=False).n,
    )


def reduced(truth: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return a label resized as the authors did, to `side` pixels a side."""
    return downsampled_pair(np.zeros(truth.shape, np.uint8), np.ascontiguousarray(truth), (side, side))[1]


def f1_of_masks(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the strict F1 of True; 1 where both are empty."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(prediction & truth)) / total if total else 1.0


def track2_factor(pixel_size_nm: float) -> float:
    """Return how many pixels of this size make one of Track 2, which is 21.2 nm wide."""
    return TRACK_2_FACTOR * URISC_PIXEL_SIZE_NM / pixel_size_nm


def best_coverage(found: Sequence[Downsampled]) -> tuple[float, float]:
    """Return the share of area with the highest mean F1, chosen on these labels, and that F1."""
    means = [statistics.fmean(one.covered_f1[k] for one in found) for k in range(len(COVERAGES))]
    best = max(range(len(means)), key=means.__getitem__)
    return COVERAGES[best], means[best]
