"""The surface of a membrane and the average symmetric surface distance (ASSD) between two.

The surface of a mask are its pixels with one of their 4 neighbours outside the mask. With d(x, A) the Euclidean
distance from the centre of pixel x to that of the nearest pixel of surface A,

    ASSD = (sum over x in S of d(x, T) + sum over x in T of d(x, S)) / (|S| + |T|)

where S, T are the surfaces of prediction and truth. 0 is best; it has no upper bound and is undefined (NaN) where one
of the two has no surface. In pixels; times the pixel size in nm.

Source: Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, IEEE Trans. Med.
Imaging 28 (2009); distances after Meijster, Roerdink and Hesselink (2000).
Deviation: a mask that is cut by the frame of the image has no surface there, for there its membrane goes on.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import distance_kernels


@dataclass(frozen=True, eq=False)
class Surface:
    """`mask` bool [height, width]: the surface's pixels. `rows_away` uint16: rows to the nearest one in the column."""

    mask: NDArray[np.bool_]
    rows_away: NDArray[np.uint16]

    def mark_near(self, codes: NDArray[np.uint8], wanted: int, replacement: int, reach: NDArray[np.int32]) -> int:
        """Replace a code in pixels within the disc `reach` of this surface; return in how many."""
        return int(distance_kernels.mark_near(codes, np.uint8(wanted), np.uint8(replacement), self.rows_away, reach))


def find_surface(mask: NDArray[np.bool_], *, value: bool = True) -> Surface:
    """Return the surface of the pixels of `value`.

    Seen from outside, the nearest pixel of the mask is one of its surface: this serves distances to the mask too.
    """
    surface = np.empty(mask.shape, np.bool_)
    distance_kernels.mark_surface(mask, value, surface)
    rows_away = np.empty(mask.shape, np.uint16)
    distance_kernels.column_distances(surface, rows_away)
    return Surface(surface, rows_away)


def average_surface_distance(truth: Surface, prediction: Surface) -> float:
    """Return the ASSD in pixels, NaN where one of the two surfaces is empty."""
    if not (truth.mask.any() and prediction.mask.any()):
        return float("nan")
    with ThreadPoolExecutor(2) as pool:
        pairs = pool.map(
            lambda queries, to: distance_kernels.surface_distance_sum(queries.mask, to.rows_away),
            (truth, prediction),
            (prediction, truth),
        )
        (first, n_first), (second, n_second) = pairs
    return float((first + second) / (n_first + n_second))
