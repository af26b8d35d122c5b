"""One pass over an image of any size, layout or byte order, and the sums of which every sharpness index is made.

The image is walked in bands of rows of about a million pixels. A band that already is contiguous and of a native type
is used where it lies; any other (strided, big-endian, memory-mapped, another number type) is copied, one band at a
time. Bands are independent, so they are shared among threads; their sums are added in the order of the bands, and for
integers exactly, so that the result does not depend on the number of threads.

With f the image of N lines of M pixels (lines run along the axis of the differences), mean mu, F and L the sums of the
first and the last pixel of every line, and integer images, the exact sums give

    Brenner, gap k   = 2 sum f f - sum of squares of the first k and the last k pixels of every line - 2 sum f(x) f(x+k)
    Variance         = sum f f - (sum f)^2 / (M N)
    Vollath, centred = sum f(x) f(x+1) - mu (2 sum f - F - L) + (M - 1) N mu^2
    Vollath          = centred + N mu^2 - mu (F + L)

Floating-point images would lose digits in these differences; their sums are taken about the mean of each tile and
merged by the parallel-axis theorem (Chan, Golub and LeVeque 1983).
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emseg.sharpness.kernels import float_band_sums, integer_band_sums

BAND_PIXELS = 1 << 20
MINIMUM_BAND_ROWS = 8
MAXIMUM_THREADS = 8  # memory bandwidth is used up before that

_EXACT_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
_FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class IndexSums:
    """Mean grey value and the raw sums of the indices over one image."""

    mean: float
    brenner_gap1: float
    brenner_gap2: float
    smd2: float
    variance: float
    vollath: float
    vollath_centred: float


def available_threads() -> int:
    """Return how many threads a measurement uses unless told: the processors this process may use, 8 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAXIMUM_THREADS)
    return min(os.cpu_count() or 1, MAXIMUM_THREADS)


def index_sums(image: NDArray[Any], *, axis: int, n_threads: int | None = None) -> IndexSums:
    """Return the sums over a real two-dimensional image, differences taken along `axis` (0 down, 1 along the rows)."""
    if image.flags.f_contiguous and not image.flags.c_contiguous:  # walk memory in its own order
        image, axis = image.T, 1 - axis
    native = image.dtype.newbyteorder("=")
    if native in _EXACT_DTYPES:
        return _exact(image, _walk(image, native, integer_band_sums, axis, n_threads), axis)
    working = native if native in _FLOAT_DTYPES else np.dtype(np.float64)
    tiles = np.concatenate(list(_walk(image, working, float_band_sums, axis, n_threads)))
    return _merged(image, tiles, axis)


def _walk(
    image: NDArray[Any],
    dtype: np.dtype[Any],
    kernel: Callable[[NDArray[Any], int, int], NDArray[Any]],
    axis: int,
    n_threads: int | None,
) -> Iterator[NDArray[Any]]:
    """Yield the kernel's sums of band after band, in order."""
    height, width = image.shape
    n_rows = max(BAND_PIXELS // width, MINIMUM_BAND_ROWS)

    def measure(start: int) -> NDArray[Any]:
        stop = min(start + n_rows, height)
        band = np.ascontiguousarray(image[start : min(stop + 2, height)], dtype=dtype)
        return kernel(band, stop - start, axis)

    starts = range(0, height, n_rows)
    workers = min(available_threads() if n_threads is None else n_threads, len(starts))
    if workers <= 1:
        yield from map(measure, starts)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(measure, starts)


def _lines(image: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """The pixel `index` of every line, as Python-safe wide numbers."""
    ends = image[index] if axis == 0 else image[:, index]  # np.take would copy a strided image whole
    return np.asarray(ends).astype(np.int64 if np.issubdtype(ends.dtype, np.unsignedinteger) else np.float64)


def _exact(image: NDArray[Any], bands: Iterator[NDArray[Any]], axis: int) -> IndexSums:
    sums = [0] * 5
    for band in bands:
        sums = [total + int(part) for total, part in zip(sums, band, strict=True)]
    total, ff, fg, fh, smd2 = sums
    length, n_lines = image.shape[axis], image.shape[1 - axis]
    n_pixels = length * n_lines
    ends = {index: _lines(image, axis, index) for index in (0, 1, -2, -1)}
    squares = {index: int((values * values).sum()) for index, values in ends.items()}
    first_and_last = int(ends[0].sum()) + int(ends[-1].sum())
    centred = n_pixels * n_pixels * fg - n_pixels * total * (2 * total - first_and_last)
    centred += (length - 1) * n_lines * total * total
    return IndexSums(
        mean=total / n_pixels,
        brenner_gap1=float(2 * ff - squares[0] - squares[-1] - 2 * fg),
        brenner_gap2=float(2 * ff - sum(squares.values()) - 2 * fh),
        smd2=float(smd2),
        variance=(n_pixels * ff - total * total) / n_pixels,
        vollath=(n_pixels * fg - total * total) / n_pixels,
        vollath_centred=centred / (n_pixels * n_pixels),
    )


def _merged(image: NDArray[Any], tiles: NDArray[np.float64], axis: int) -> IndexSums:
    pixels, means, squares, pairs, products, here, there, gap1, gap2, smd2 = tiles.T
    n_lines = image.shape[1 - axis]
    pivot = means[0]
    mean = float(pivot + np.sum(pixels * (means - pivot)) / np.sum(pixels))
    shift = means - mean
    centred = float(np.sum(products + shift * (here + there) + pairs * shift * shift))
    ends = np.sum(_lines(image, axis, 0) - mean) + np.sum(_lines(image, axis, -1) - mean)
    return IndexSums(
        mean=mean,
        brenner_gap1=float(np.sum(gap1)),
        brenner_gap2=float(np.sum(gap2)),
        smd2=float(np.sum(smd2)),
        variance=float(np.sum(squares + pixels * shift * shift)),
        vollath=float(centred - n_lines * mean * mean - mean * ends),
        vollath_centred=centred,
    )
