"""Where a prediction is wrong, as one code a pixel, and the counts that the pixel scores are made of.

    bit 0: membrane in the truth      bit 1: membrane in the prediction      bit 2: wrong, but near the other's membrane

A false-positive pixel is near if a true membrane pixel lies within the tolerance (Euclidean, in pixels), a
false-negative one if a predicted membrane pixel does.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import distance_kernels
from emseg.membrane.scoring.class_scores import ClassScores, class_scores
from emseg.membrane.scoring.surface import Surface, find_surface

TRUE_NEGATIVE, FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE = 0, 1, 2, 3
NEAR = 4
MAX_TOLERANCE_PX = 1_000.0
_BAND_ROWS = 256


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The codes of all pixels, their counts, and the surfaces of both membranes.

    `codes` uint8 [height, width]: see above. `counts` [8]: pixels of each code. `near_background`: (false negatives
    within the tolerance of true background, false positives within the tolerance of predicted background).
    `surfaces`: (of the truth, of the prediction).
    """

    codes: NDArray[np.uint8]
    counts: tuple[int, ...]
    near_background: tuple[int, int]
    surfaces: tuple[Surface, Surface]

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


def map_errors(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], tolerance_px: float) -> ErrorMap:
    """Return the error map of a predicted membrane mask [height, width]; two threads share the work."""
    codes = prediction.view(np.uint8) << np.uint8(1)
    codes |= truth.view(np.uint8)
    reach = disc_reach(tolerance_px)
    wrong = (FALSE_POSITIVE, FALSE_NEGATIVE)  # what lies beside the truth's membrane, and beside the prediction's
    with ThreadPoolExecutor(2) as pool:
        # Background first: it counts all false pixels, which the second step then divides into near and far ones.
        near_background = tuple(
            pool.map(
                lambda mask, code: _count_near_background(mask, codes, code, reach), (truth, prediction), wrong[::-1]
            )
        )
        surfaces = tuple(pool.map(find_surface, (truth, prediction)))
        list(pool.map(lambda s, code: s.mark_near(codes, code, code + NEAR, reach), surfaces, wrong))
    counts = np.zeros(256, np.int64)
    distance_kernels.count_values(codes, counts)
    fn_background, fp_background = near_background
    return ErrorMap(
        codes, tuple(int(n) for n in counts[:8]), (fn_background, fp_background), (surfaces[0], surfaces[1])
    )


def _count_near_background(
    mask: NDArray[np.bool_], codes: NDArray[np.uint8], code: int, reach: NDArray[np.int32]
) -> int:
    """Count the pixels of a code within the reach of the mask's background, band by band: that saves its distances."""
    height, margin = mask.shape[0], len(reach)  # the radius, and one row more to tell what is a surface
    n_rows = max(_BAND_ROWS, 2 * margin)
    n = 0
    for top in range(0, height, n_rows):
        first, bottom = max(top - margin, 0), min(top + n_rows, height)
        background = find_surface(mask[first : min(bottom + margin, height)], value=False)
        rows_away = background.rows_away[top - first : bottom - first]
        n += Surface(background.mask, rows_away).mark_near(codes[top:bottom], code, code, reach)
    return n


def disc_reach(radius: float) -> NDArray[np.int32]:
    """Return how many rows a disc reaches at each distance in columns, 0 to the radius."""
    return np.array([math.isqrt(int(radius * radius - k * k)) for k in range(int(radius) + 1)], np.int32)
