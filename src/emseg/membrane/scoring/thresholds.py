"""From a map of membrane probability to a mask, at one threshold or at those of ISBI 2012.

A probability map is uint8 (0 to 255 stands for 0 to 1) or float in [0, 1], large on membrane. A pixel is membrane where
its probability p reaches the threshold, p >= t; at t = 0 where p > 0.

ISBI 2012 takes the best of eleven thresholds. Its script thresholds the probability b of *not* being membrane, b > 0,
0.1, ..., 1, where the last is lost to rounding and means b = 1; with p = 1 - b these are the thresholds below.

Source: the challenge's script "Segmentation evaluation after border thinning" for Fiji.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ISBI_THRESHOLDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def membrane_at(probability: NDArray[Any], threshold: float, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return where the probability of membrane reaches the threshold; a boolean mask is its own answer."""
    if probability.dtype == np.bool_:
        return probability
    reached: NDArray[np.bool_]
    if probability.dtype == np.uint8:
        level = max(math.ceil(255 * threshold - 1e-9), 1)
        reached = np.greater_equal(probability, np.uint8(level), out=out)
    elif threshold == 0:
        reached = np.greater(probability, 0, out=out)
    else:
        reached = np.greater_equal(probability, probability.dtype.type(threshold), out=out)
    return reached
