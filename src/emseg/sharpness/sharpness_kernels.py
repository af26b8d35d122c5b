"""Compiled inner loops of the sharpness indices: everything they need, in one pass over a band of rows.

A band contains the rows it owns and up to two more below them. Along the chosen axis a pixel f has the neighbour g one
step on and h two steps on. All indices follow from five sums over the owned pixels (`indices.py` puts them together):

    sum f    sum f f    sum f g    sum f h    sum |f - right| |f - below|

A term exists where its neighbours do. Integer images are summed exactly. For uint8 the arithmetic is written in 32-bit
lanes, which the compiler turns into packed multiply-adds; a run of `RUN` columns cannot overflow them. Floating-point
images are summed tile by tile about the tile's own mean, column by column: no cancellation, and an order of additions
that depends neither on the number of threads nor on the width of the processor's vectors.
"""

import numba
import numpy as np
from numpy.typing import NDArray

RUN = 32_768  # columns summed before the 32-bit sums are emptied: 32,768 x 255^2 is under 2^31
TILE_COLUMNS = 512  # of a floating-point tile; its column sums and rows then stay in the first-level cache
N_INTEGER_SUMS = 5
N_TILE_SUMS = 10


@numba.njit(nogil=True, cache=True)
def _uint8_run(f, g, h, right, below, length):  # type: ignore[no-untyped-def]
    """The five sums over `length` pixels that have all their neighbours, in 32-bit lanes."""
    total = ff = fg = fh = smd2 = np.uint32(0)
    for i in range(length):
        value = f[i]
        total = np.uint32(total + np.uint32(value))
        ff = np.uint32(ff + np.uint32(np.int32(value) * np.int32(value)))
        fg = np.uint32(fg + np.uint32(np.int32(value) * np.int32(g[i])))
        fh = np.uint32(fh + np.uint32(np.int32(value) * np.int32(h[i])))
        across = np.uint8(max(value, right[i]) - min(value, right[i]))
        down = np.uint8(max(value, below[i]) - min(value, below[i]))
        smd2 = np.uint32(smd2 + np.uint32(np.int32(across) * np.int32(down)))
    return total, ff, fg, fh, smd2


@numba.njit(nogil=True, cache=True)
def _uint16_run(f, g, h, right, below, length):  # type: ignore[no-untyped-def]
    """The five sums over `length` pixels that have all their neighbours, in 64-bit lanes."""
    total = ff = fg = fh = smd2 = np.uint64(0)
    for i in range(length):
        value = np.uint64(f[i])
        total += value
        ff += value * value
        fg += value * np.uint64(g[i])
        fh += value * np.uint64(h[i])
        across = np.uint16(max(f[i], right[i]) - min(f[i], right[i]))
        down = np.uint16(max(f[i], below[i]) - min(f[i], below[i]))
        smd2 += np.uint64(across) * np.uint64(down)
    return total, ff, fg, fh, smd2


@numba.njit(nogil=True, cache=True)
def _edge(f, g, h, right, below, start, stop, n_g, n_h, n_smd2, sums):  # type: ignore[no-untyped-def]
    """Add pixels that lack some neighbours: f g exists for the first `n_g` of the run, f h and SMD2 likewise."""
    for i in range(start, stop):
        value = np.int64(f[i])
        sums[0] += value
        sums[1] += value * value
        if i < n_g:
            sums[2] += value * np.int64(g[i])
        if i < n_h:
            sums[3] += value * np.int64(h[i])
        if i < n_smd2:
            sums[4] += abs(value - np.int64(right[i])) * abs(value - np.int64(below[i]))


@numba.njit(nogil=True, cache=True)
def _extents(band, row, start, stop, axis):  # type: ignore[no-untyped-def]
    """How many pixels of the run [start, stop) of a row have g, have h, and have both neighbours of SMD2."""
    height, width = band.shape
    if axis == 1:
        n_g = min(stop, width - 1) - start
        n_h = min(stop, width - 2) - start
    else:
        n_g = stop - start if row + 1 < height else 0
        n_h = stop - start if row + 2 < height else 0
    n_smd2 = min(stop, width - 1) - start if row + 1 < height else 0
    return max(n_g, 0), max(n_h, 0), max(n_smd2, 0)


@numba.njit(nogil=True, cache=True)
def _neighbours(band, row, start, axis):  # type: ignore[no-untyped-def]
    """The run's row and its neighbours as views; a view that would leave the band repeats its last row."""
    height = band.shape[0]
    next_row = min(row + 1, height - 1)
    right = band[row, start + 1 :]
    below = band[next_row, start:]
    if axis == 1:
        return band[row, start:], right, band[row, start + 2 :], right, below
    return band[row, start:], below, band[min(row + 2, height - 1), start:], right, below


@numba.njit(nogil=True, cache=True)
def integer_band_sums(band: NDArray[np.integer], n_rows: int, axis: int) -> NDArray[np.int64]:
    """Return the five exact sums over the first `n_rows` rows of a contiguous uint8 or uint16 band."""
    sums = np.zeros(N_INTEGER_SUMS, np.int64)
    width = band.shape[1]
    for row in range(n_rows):
        for start in range(0, width, RUN):
            stop = min(start + RUN, width)
            n_g, n_h, n_smd2 = _extents(band, row, start, stop, axis)
            f, g, h, right, below = _neighbours(band, row, start, axis)
            complete = min(n_g, n_h, n_smd2)
            if band.itemsize == 1:
                narrow = _uint8_run(f, g, h, right, below, complete)
                for k in range(N_INTEGER_SUMS):
                    sums[k] += np.int64(narrow[k])
            else:
                wide = _uint16_run(f, g, h, right, below, complete)
                for k in range(N_INTEGER_SUMS):
                    sums[k] += np.int64(wide[k])
            _edge(f, g, h, right, below, complete, stop - start, n_g, n_h, n_smd2, sums)
    return sums


@numba.njit(nogil=True, cache=True)
def _tile_mean(band, n_rows, start, stop):  # type: ignore[no-untyped-def]
    columns = np.zeros(TILE_COLUMNS)
    for row in range(n_rows):
        f = band[row, start:]
        for i in range(stop - start):
            columns[i] += np.float64(f[i])
    return columns.sum() / (n_rows * (stop - start))


@numba.njit(nogil=True, cache=True)
def float_band_sums(band: NDArray[np.floating], n_rows: int, axis: int) -> NDArray[np.float64]:
    """Return one row of sums for each tile of a contiguous floating-point band (its first `n_rows` rows).

    With m the tile's mean and sums over the tile's pixels that have the neighbour, the columns are: number of pixels;
    m; sum (f-m)^2; number of pairs (f, g); sum (f-m)(g-m); sum (f-m) and sum (g-m) over those pairs; sum (g-f)^2;
    sum (h-f)^2; sum |f-right| |f-below|.
    """
    width = band.shape[1]
    n_tiles = (width + TILE_COLUMNS - 1) // TILE_COLUMNS
    tiles = np.zeros((n_tiles, N_TILE_SUMS))
    columns = np.zeros((7, TILE_COLUMNS))
    for tile in range(n_tiles):
        start = tile * TILE_COLUMNS
        stop = min(start + TILE_COLUMNS, width)
        mean = _tile_mean(band, n_rows, start, stop)
        columns[:] = 0.0
        n_pairs = 0
        for row in range(n_rows):
            n_g, n_h, n_smd2 = _extents(band, row, start, stop, axis)
            f, g, h, right, below = _neighbours(band, row, start, axis)
            for i in range(stop - start):
                deviation = np.float64(f[i]) - mean
                columns[0, i] += deviation * deviation
            for i in range(n_g):
                deviation = np.float64(f[i]) - mean
                following = np.float64(g[i]) - mean
                columns[1, i] += deviation * following
                columns[2, i] += deviation
                columns[3, i] += following
                step = np.float64(g[i]) - np.float64(f[i])
                columns[4, i] += step * step
            for i in range(n_h):
                step = np.float64(h[i]) - np.float64(f[i])
                columns[5, i] += step * step
            for i in range(n_smd2):
                value = np.float64(f[i])
                columns[6, i] += abs(value - np.float64(right[i])) * abs(value - np.float64(below[i]))
            n_pairs += n_g
        tiles[tile, 0] = n_rows * (stop - start)
        tiles[tile, 1] = mean
        tiles[tile, 2] = columns[0].sum()
        tiles[tile, 3] = n_pairs
        for column in range(6):
            tiles[tile, 4 + column] = columns[1 + column].sum()
    return tiles
