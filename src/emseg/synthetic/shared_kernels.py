"""What both generators share: random numbers that are functions of integer coordinates alone, compiled.

Numba's cache watches the file of the function that it stored, not those of the functions that it calls. So each
generator has its other kernels in one file; after a change here delete the `__pycache__` folders of both, and raise
their versions, for every picture changes.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Canvas = NDArray[np.float32]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def hash_at(seed: int, stream: int, i: int | np.int64, j: int | np.int64) -> np.uint64:
    """Return 64 well mixed bits of four integers (the finaliser of splitmix64, applied after each)."""
    h = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    for word in (np.int64(stream), np.int64(i), np.int64(j)):
        h = (h ^ np.uint64(word)) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    return h


@njit(cache=True, nogil=True)
def pixel_noise(normal: Canvas, key: np.uint32, column: np.uint32) -> np.float32:
    """Return a normal deviate: the sum of two of the 4096 quantiles `normal`, picked by the hash of a row and a column.

    The row is hashed in `key`; 32 bits, which processors mix several at a time.
    """
    h = column * np.uint32(0x9E3779B1) ^ key
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h = h ^ (h >> np.uint32(16))
    deviate: np.float32 = normal[h & np.uint32(0xFFF)] + normal[(h >> np.uint32(12)) & np.uint32(0xFFF)]
    return deviate
