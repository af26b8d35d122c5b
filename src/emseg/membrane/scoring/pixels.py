"""Scores of pixels: thresholds, where a prediction is wrong, precision, recall and F1, and the distance of surfaces.

    precision = correct predicted pixels / predicted pixels      recall = found true pixels / true pixels
    F1 = 2 precision recall / (precision + recall)

Strictly a predicted pixel is correct if it is true. Within a tolerance r it is correct if a true pixel lies in the disc
of radius r around it, and a true pixel is found if a predicted one lies in its disc: the boundary score of the U-RISC
competition's script, which ran it with r = 0. As there, precision is 1 where nothing is predicted, and recall is 1
where nothing is true.

A surface consists of a mask's pixels with one of their 4 neighbours outside. With d(x, A) the Euclidean distance from
pixel x to surface A, the average symmetric surface distance of prediction S and truth T, in pixels (0 is best), is

    ASSD = (sum over x in S of d(x, T) + sum over x in T of d(x, S)) / (|S| + |T|)

Sources: Shi et al., Front. Comput. Neurosci. 16:842760 (2022) and its script (U-RISC-Data-Code, eval.py); Heimann et
al., IEEE Trans. Med. Imaging 28 (2009).
Deviations: the script sums the truth's grey levels as they are stored, which on its own lossy sample labels gives an F1
0.019 to 0.029 higher than that of a mask; we make a mask first (`score_files` has the script's number as well). A mask
that the image's frame cuts has no surface there, because its membrane continues.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Shaped, UInt8, UInt16
from PIL import Image

from emseg.membrane.scoring import distance_kernels

Mask = Bool[np.ndarray, "row column"]
Codes = UInt8[np.ndarray, "row column"]
ISBI_THRESHOLDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""Those of ISBI 2012's script, which thresholds the probability of *not* being membrane."""
MAX_TOLERANCE_PX = 1_000.0
COMPETITION_RATIO = 5.0
TRUE_NEGATIVE, FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE = 0, 1, 2, 3
NEAR = 4
"""Codes of an error map. Bit 0: true membrane; bit 1: predicted; bit 2: wrong, but within the other's tolerance."""
COLOURS = {  # after Okabe and Ito, whose colours differ for all kinds of colour vision
    TRUE_NEGATIVE: (255, 255, 255),
    TRUE_POSITIVE: (110, 110, 110),
    FALSE_NEGATIVE: (0, 114, 178),
    FALSE_POSITIVE: (213, 94, 0),
    FALSE_NEGATIVE + NEAR: (154, 202, 232),
    FALSE_POSITIVE + NEAR: (248, 196, 156),
}
PALETTE = np.array([COLOURS.get(code, (0, 0, 0)) for code in range(8)], np.uint8)  # so that PALETTE[codes] is a picture
_BAND_ROWS = 256


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1, each in 0 to 1."""

    precision: float
    recall: float
    f1: float


class Surface(NamedTuple):
    """`mask`: the surface's pixels. `rows_away`: rows to the nearest one in the column."""

    mask: Mask
    rows_away: UInt16[np.ndarray, "row column"]


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The code of each pixel, the number of pixels of each code, and the surfaces of truth and prediction.

    `near_background`: (false negatives within the tolerance of true background, false positives within the tolerance
    of predicted background).
    """

    codes: Codes
    counts: tuple[int, ...]
    near_background: tuple[int, ...]
    surfaces: tuple[Surface, ...]

    def scores(self) -> dict[str, ClassScores]:
        """Return the scores of "membrane", "background", "membrane_tolerant" and "background_tolerant"."""
        tn, tp = self.counts[TRUE_NEGATIVE], self.counts[TRUE_POSITIVE]
        fn_near, fp_near = self.counts[FALSE_NEGATIVE + NEAR], self.counts[FALSE_POSITIVE + NEAR]
        fn, fp = self.counts[FALSE_NEGATIVE] + fn_near, self.counts[FALSE_POSITIVE] + fp_near
        fn_background, fp_background = self.near_background
        return {
            "membrane": class_scores(tp, tp + fp, tp, tp + fn),
            "background": class_scores(tn, tn + fn, tn, tn + fp),
            "membrane_tolerant": class_scores(tp + fp_near, tp + fp, tp + fn_near, tp + fn),
            "background_tolerant": class_scores(tn + fn_background, tn + fn, tn + fp_background, tn + fp),
        }


def membrane_at(probability: Shaped[np.ndarray, "row column"], threshold: float, out: Mask | None = None) -> Mask:
    """Return where the probability of membrane (uint8 for 0 to 1, or float) reaches `threshold`; at 0, where it is > 0.

    A boolean mask is returned as it is.
    """
    if probability.dtype == np.bool_:
        return probability
    if probability.dtype == np.uint8:
        level = max(math.ceil(255 * threshold - 1e-9), 1)
        return np.asarray(np.greater_equal(probability, np.uint8(level), out=out))
    compare = np.greater if threshold == 0 else np.greater_equal
    return np.asarray(compare(probability, probability.dtype.type(threshold), out=out))


def class_scores(n_correct: int, n_predicted: int, n_found: int, n_true: int) -> ClassScores:
    """Return the scores of a class from pixel counts; strictly, `n_correct` and `n_found` are the same number."""
    precision = n_correct / n_predicted if n_predicted else 1.0
    recall = n_found / n_true if n_true else 1.0
    total = precision + recall
    return ClassScores(precision, recall, 2 * precision * recall / total if total else 0.0)


def competition_accepts(membrane: Mask) -> bool:
    """Return whether the competition's script takes this prediction: at least five pixels of background per membrane.

    The rule is meant to catch inverted images of thin membranes. It also refuses every label of ISBI 2012, where
    membranes are a fifth of the image; no score here depends on it.
    """
    n_membrane = int(np.count_nonzero(membrane))
    return membrane.size - n_membrane >= COMPETITION_RATIO * n_membrane


def map_errors(truth: Mask, prediction: Mask, tolerance_px: float) -> ErrorMap:
    """Return where a predicted membrane mask is wrong; two threads share the work."""
    codes = prediction.view(np.uint8) << np.uint8(1)
    codes |= truth.view(np.uint8)
    # how many rows the disc of the tolerance reaches at each distance in columns
    reach = np.array([math.isqrt(int(tolerance_px**2 - k * k)) for k in range(int(tolerance_px) + 1)], np.int32)
    wrong = np.array((FALSE_POSITIVE, FALSE_NEGATIVE), np.uint8)  # next to the truth's membrane, to the prediction's
    with ThreadPoolExecutor(2) as pool:
        # Background first: it counts all false pixels, which the second step then divides into near and far ones.
        counting = pool.map(_count_near_background, (truth, prediction), (codes, codes), wrong[::-1], (reach, reach))
        near_background = tuple(counting)
        surfaces = tuple(pool.map(find_surface, (truth, prediction)))
        away = [surface.rows_away for surface in surfaces]
        list(pool.map(distance_kernels.mark_near, (codes, codes), wrong, wrong + NEAR, away, (reach, reach)))
    counts = np.zeros(256, np.int64)
    distance_kernels.count_values(codes, counts)
    return ErrorMap(codes, tuple(counts[:8].tolist()), near_background, surfaces)


def _count_near_background(mask: Mask, codes: Codes, code: np.uint8, reach: Int32[np.ndarray, " radius"]) -> int:
    """Count the pixels of a code within the reach of the mask's background, band by band: that saves its distances."""
    margin = len(reach)  # the radius, and one row more to recognise a surface
    n_rows = max(_BAND_ROWS, 2 * margin)
    n = 0
    for top in range(0, len(mask), n_rows):
        first, bottom = max(top - margin, 0), min(top + n_rows, len(mask))
        rows_away = find_surface(mask[first : bottom + margin], value=False).rows_away[top - first : bottom - first]
        n += int(distance_kernels.mark_near(codes[top:bottom], code, code, rows_away, reach))
    return n


def find_surface(mask: Mask, *, value: bool = True) -> Surface:
    """Return the surface of the pixels of `value`; for pixels outside, the nearest pixel of the mask lies on it."""
    surface, rows_away = np.empty(mask.shape, np.bool_), np.empty(mask.shape, np.uint16)
    distance_kernels.mark_surface(mask, value, surface)
    distance_kernels.column_distances(surface, rows_away)
    return Surface(surface, rows_away)


def average_surface_distance(truth: Surface, prediction: Surface) -> float:
    """Return the ASSD in pixels, NaN where one of the two surfaces is empty."""
    if not (truth.mask.any() and prediction.mask.any()):
        return math.nan
    with ThreadPoolExecutor(2) as pool:
        ways = ((truth.mask, prediction.mask), (prediction.rows_away, truth.rows_away))
        (first, n_first), (second, n_second) = pool.map(distance_kernels.surface_distance_sum, *ways)
    return float((first + second) / (n_first + n_second))


def write_error_picture(codes: Codes, path: Path) -> None:
    """Write an error map as a PNG: false positives red, false negatives blue, pale within the tolerance."""
    picture = Image.fromarray(codes)
    picture.putpalette(PALETTE.ravel().tolist())
    picture.save(path)
