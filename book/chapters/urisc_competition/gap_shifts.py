"""Line width and tolerance: what a truth that lies a little off scores, in pixels and in nanometres.

A membrane of width w moved across itself by s keeps 1 - s / w of its area, so that F1 falls with s / w: one pixel costs
less where a line has more pixels. The width of the lines of a mask is estimated from its area A and its boundary length
L, w = 2 A / L, and L from the changes along rows and columns, L = (pi / 4) (changes), which is exact on average for
lines of all directions (Cauchy and Crofton).

A tolerance in nm asks the same of two resolutions; one in pixels, or none, does not.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring.image_scores import shifted_pair
from emseg.membrane.scoring.pixels import ClassScores, map_errors

SHIFTS_PX = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Labels:
    """Membrane masks of one set: `name` for figures, `key` for metrics, the kind of their data, their pixel size."""

    key: str
    name: str
    kind: str
    pixel_size_nm: float
    masks: tuple[NDArray[np.bool_], ...]
    fingerprint: str

    @property
    def fraction(self) -> float:
        """The mean membrane fraction."""
        return statistics.fmean(float(mask.mean()) for mask in self.masks)

    @property
    def line_width_px(self) -> float:
        """The mean width of a membrane, in pixels."""
        return statistics.fmean(line_width(mask) for mask in self.masks)


@dataclass(frozen=True)
class Shifted:
    """F1 of one label moved by `shift_px`: strict, of the background, and within a tolerance; one number an image."""

    shift_px: int
    f1: tuple[float, ...]
    background_f1: tuple[float, ...]
    tolerant_f1: tuple[float, ...]

    @property
    def mean_f1(self) -> float:
        """Strict F1 of membrane, mean over images."""
        return statistics.fmean(self.f1)


def line_width(mask: NDArray[np.bool_]) -> float:
    """Return the mean width of the lines of a mask in pixels; NaN without a boundary."""
    changes = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    return 2 * int(np.count_nonzero(mask)) / (math.pi / 4 * changes) if changes else math.nan


def shift_scores(labels: Labels, shifts_px: Sequence[int], tolerance_nm: float) -> tuple[Shifted, ...]:
    """Return the scores of the labels against themselves, moved down, and moved right, by each shift; their means."""
    found = []
    for shift in shifts_px:
        pairs = [[_scores(mask, by, labels, tolerance_nm) for by in ((shift, 0), (0, shift))] for mask in labels.masks]
        f1 = {
            name: tuple(statistics.fmean(one[name].f1 for one in pair) for pair in pairs)
            for name in ("membrane", "background", "membrane_tolerant")
        }
        found.append(Shifted(shift, f1["membrane"], f1["background"], f1["membrane_tolerant"]))
    return tuple(found)


def tolerance_curve(labels: Labels, shift_px: int, tolerances_nm: Sequence[float]) -> list[float]:
    """Return the mean tolerant F1 of the labels moved right by `shift_px` for each tolerance."""
    return [
        statistics.fmean(_scores(mask, (0, shift_px), labels, one)["membrane_tolerant"].f1 for mask in labels.masks)
        for one in tolerances_nm
    ]


def _scores(
    mask: NDArray[np.bool_], shift: tuple[int, int], labels: Labels, tolerance_nm: float
) -> dict[str, ClassScores]:
    moved, still = (np.ascontiguousarray(one) for one in shifted_pair(mask, *shift))
    return map_errors(still, moved, tolerance_nm / labels.pixel_size_nm).scores()
