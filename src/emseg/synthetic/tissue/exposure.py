"""Point spread and deviates of the detector, as tables for the compiled loops."""

import functools
import math

import numpy as np
from numpy.typing import NDArray


def point_spread_taps(sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian of this standard deviation (pixels), averaged over each pixel, that sums to 1."""
    if sigma <= 0.0:
        return np.ones(1, np.float32)
    radius = math.ceil(3.2 * sigma + 0.5)
    edges = (np.arange(-radius, radius + 2) - 0.5) / (sigma * math.sqrt(2.0))
    taps = np.diff([math.erf(edge) for edge in edges])
    return np.asarray(taps / taps.sum(), np.float32)


@functools.lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """Return 4096 normal quantiles of variance 1/2: two of them, picked by independent bits, add up to a deviate."""
    from scipy.special import ndtri

    table = ndtri((np.arange(4096) + 0.5) / 4096)
    table = np.asarray(table / table.std() * math.sqrt(0.5), np.float32)
    table.flags.writeable = False
    return table
