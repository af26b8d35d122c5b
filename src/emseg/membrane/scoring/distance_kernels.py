"""Compiled loops of the scores of surfaces: where a mask's surface is, and how far from it pixels lie."""

import numba
import numpy as np

NO_SURFACE = 65_535  # column distance where a column holds no pixel to measure from; images are lower than that
_PATIENCE = 4


@numba.njit(nogil=True, cache=True)
def mark_surface(mask, value, surface):  # type: ignore[no-untyped-def]
    """Mark the pixels of `value` one of whose 4 neighbours has the other value; beyond the frame there are none."""
    height, width = mask.shape
    last = width - 1
    for row in range(height):
        above = mask[max(row - 1, 0)]
        below = mask[min(row + 1, height - 1)]
        line = mask[row]
        out = surface[row]
        for column in range(1, last):
            same = (above[column] == value) & (below[column] == value)
            same &= (line[column - 1] == value) & (line[column + 1] == value)
            out[column] = (line[column] == value) & ~same
        for column, beside in ((0, min(1, last)), (last, max(last - 1, 0))):
            same = (above[column] == value) & (below[column] == value) & (line[beside] == value)
            out[column] = (line[column] == value) & ~same


@numba.njit(nogil=True, cache=True)
def column_distances(surface, distances):  # type: ignore[no-untyped-def]
    """Fill distances (uint16) with the rows to the nearest surface pixel of the same column, or NO_SURFACE."""
    height, width = surface.shape
    none = np.int32(NO_SURFACE)
    for column in range(width):
        distances[0, column] = 0 if surface[0, column] else none
    for row in range(1, height):
        for column in range(width):
            farther = min(np.int32(distances[row - 1, column]) + np.int32(1), none)
            distances[row, column] = np.int32(0) if surface[row, column] else farther
    for row in range(height - 2, -1, -1):
        for column in range(width):
            farther = np.int32(distances[row + 1, column]) + np.int32(1)
            distances[row, column] = min(np.int32(distances[row, column]), farther)


@numba.njit(nogil=True, cache=True)
def count_values(image, counts):  # type: ignore[no-untyped-def]
    """Add to counts [256] how often each value of a uint8 image occurs."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            counts[image[row, column]] += 1


@numba.njit(nogil=True, cache=True)
def mark_near(codes, wanted, replacement, distances, reach):  # type: ignore[no-untyped-def]
    """Replace the code of `wanted` pixels within a disc of a surface pixel; return how many.

    `reach` [radius + 1]: how many rows the disc reaches at each distance in columns.
    """
    height, width = codes.shape
    n = 0
    for row in range(height):
        for column in range(width):
            if codes[row, column] != wanted:
                continue
            for k in range(len(reach)):
                if (column >= k and distances[row, column - k] <= reach[k]) or (
                    column + k < width and distances[row, column + k] <= reach[k]
                ):
                    codes[row, column] = replacement
                    n += 1
                    break
    return n


@numba.njit(nogil=True, cache=True)
def _lower_envelope(line, columns, changes):  # type: ignore[no-untyped-def]
    """Fill (columns, changes) with the parabolas that are lowest somewhere, and from where on; return how many."""
    width = len(line)
    n = 0
    for column in range(width):
        if line[column] == NO_SURFACE:
            continue
        height = np.int64(line[column]) ** 2
        start = np.int64(0)
        while n:
            other = columns[n - 1]
            own = np.int64(line[other])
            gap = height - own * own + column * column - other * other
            start = gap // (2 * (column - other)) + 1  # the first column where the new parabola is lower
            if start > changes[n - 1]:
                break
            n -= 1
            start = np.int64(0)
        if start < width:
            columns[n] = column
            changes[n] = start
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def surface_distance_sum(queries, distances):  # type: ignore[no-untyped-def]
    """Return (sum of the distances from query pixels to the nearest surface pixel, number of query pixels).

    Exact Euclidean distances in pixels. Most queries lie near: they are answered by looking left and right until no
    column can be nearer. A row where that takes too long is finished after Meijster, Roerdink and Hesselink, by the
    lower envelope of its columns' parabolas.
    """
    height, width = queries.shape
    columns = np.empty(width, np.int64)
    changes = np.empty(width, np.int64)
    total = 0.0
    n_queries = 0
    for row in range(height):
        line = distances[row]
        patience = _PATIENCE * width
        n = part = 0
        for column in range(width):
            if not queries[row, column]:
                continue
            n_queries += 1
            if patience > 0:
                nearest = np.int64(line[column]) ** 2
                away = np.int64(1)
                while away * away < nearest and away < width:
                    if column >= away:
                        nearest = min(nearest, np.int64(line[column - away]) ** 2 + away * away)
                    if column + away < width:
                        nearest = min(nearest, np.int64(line[column + away]) ** 2 + away * away)
                    away += 1
                patience -= away
                total += np.sqrt(np.float64(nearest))
                continue
            if n == 0:
                n = _lower_envelope(line, columns, changes)
            while part + 1 < n and changes[part + 1] <= column:
                part += 1
            across = np.float64(column - columns[part])
            down = np.float64(line[columns[part]])
            total += np.sqrt(across * across + down * down)
    return total, n_queries
