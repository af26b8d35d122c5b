"""Compiled inner loops of the scores: runs of pixels, connected patches, thinning, overlaps and distances.

A run is a maximal stretch of True pixels in one row, [start, end). Patches are joined run by run, not pixel by pixel,
because membranes and cells are far longer than a pixel: a U-RISC image has 99 million pixels and about one million
runs. All loops release the interpreter's lock, so that callers may run them in threads.
"""

import numba
import numpy as np

LINE = 0
"""Label of a pixel on a line between two cells."""

OPEN = -2
"""Label of a membrane pixel that the flood has not reached."""

_QUEUED = -3
NO_SURFACE = 65_535
"""Column distance where a column holds no pixel to measure from; images are lower than that."""

_HASH = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(nogil=True, cache=True)
def count_runs(mask, value, offsets):  # type: ignore[no-untyped-def]
    """Fill offsets [n_rows + 1] with the number of runs of `value` above each row."""
    height, width = mask.shape
    offsets[0] = 0
    for row in range(height):
        line = mask[row]
        n = np.int64(line[0] == value)
        for column in range(1, width):
            n += (line[column] == value) & (line[column - 1] != value)
        offsets[row + 1] = offsets[row] + n


@numba.njit(nogil=True, cache=True)
def fill_runs(mask, value, offsets, starts, ends):  # type: ignore[no-untyped-def]
    """Write where each run of `value` starts and ends."""
    height, width = mask.shape
    for row in range(height):
        line = mask[row]
        n = offsets[row]
        inside = False
        for column in range(width):
            if (line[column] == value) != inside:
                if inside:
                    ends[n] = column
                    n += 1
                else:
                    starts[n] = column
                inside = not inside
        if inside:
            ends[n] = width


@numba.njit(nogil=True, cache=True)
def _root(parents, run):  # type: ignore[no-untyped-def]
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@numba.njit(nogil=True, cache=True)
def join_runs(offsets, starts, ends, reach, labels):  # type: ignore[no-untyped-def]
    """Fill labels with the patch of each run, 1 to n in the order of first appearance; return n.

    `reach` is 0 for patches joined over edges (4 neighbours) and 1 for patches joined over corners too (8 neighbours).
    """
    n_runs = len(starts)
    for run in range(n_runs):
        labels[run] = run
    for row in range(1, len(offsets) - 1):
        above, above_end = offsets[row - 1], offsets[row]
        here, here_end = offsets[row], offsets[row + 1]
        while above < above_end and here < here_end:
            if starts[above] < ends[here] + reach and starts[here] < ends[above] + reach:
                first, second = _root(labels, above), _root(labels, here)
                if first < second:
                    labels[second] = first
                elif second < first:
                    labels[first] = second
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    n = 0
    for run in range(n_runs):  # a root is the first run of its patch, so it is numbered before the others ask
        parent = labels[run]
        if parent == run:
            n += 1
            labels[run] = n
        else:
            labels[run] = labels[parent]
    return n


@numba.njit(nogil=True, cache=True)
def paint_runs(offsets, starts, ends, labels, elsewhere, image):  # type: ignore[no-untyped-def]
    """Fill image [height, width] with the label of the run that covers a pixel, and `elsewhere` between runs."""
    for row in range(image.shape[0]):
        image[row, :] = elsewhere
        for run in range(offsets[row], offsets[row + 1]):
            image[row, starts[run] : ends[run]] = labels[run]


@numba.njit(nogil=True, cache=True)
def _touches_label(image, row, column):  # type: ignore[no-untyped-def]
    height, width = image.shape
    return (
        (column > 0 and image[row, column - 1] > 0)
        or (row > 0 and image[row - 1, column] > 0)
        or (column + 1 < width and image[row, column + 1] > 0)
        or (row + 1 < height and image[row + 1, column] > 0)
    )


@numba.njit(nogil=True, cache=True)
def first_front(offsets, starts, ends, image):  # type: ignore[no-untyped-def]
    """Return the OPEN pixels beside a cell, column by column, as row x 2^32 + column.

    The runs are those of the cells: only the gaps between them are looked at.
    """
    height, width = image.shape
    in_column = np.zeros(width + 1, np.int64)
    places = np.empty(0, np.int64)
    for counting in (True, False):
        for row in range(height):
            gap = 0
            for run in range(offsets[row], offsets[row + 1] + 1):
                gap_end = starts[run] if run < offsets[row + 1] else width
                for column in range(gap, gap_end):
                    if _touches_label(image, row, column):
                        if counting:
                            in_column[column + 1] += 1
                        else:
                            places[in_column[column]] = (np.int64(row) << 32) + column
                            in_column[column] += 1
                if run < offsets[row + 1]:
                    gap = ends[run]
        if counting:
            for column in range(width):
                in_column[column + 1] += in_column[column]
            places = np.empty(in_column[width], np.int64)
    return places


@numba.njit(nogil=True, cache=True)
def flood(image, front):  # type: ignore[no-untyped-def]
    """Let all cells grow into the OPEN pixels at one speed; where two meet, a LINE of one pixel stays.

    Soille and Vincent's flooding of one plateau, over 4 neighbours, first in first out.
    """
    height, width = image.shape
    queue = np.empty(max(2 * len(front), 1024), np.int64)  # a ring: the front is far shorter than the membrane
    size = len(queue)
    head, length = 0, len(front)
    for i in range(length):
        queue[i] = front[i]
        image[front[i] >> 32, front[i] & 0xFFFFFFFF] = _QUEUED
    while length:
        place = queue[head]
        head = head + 1 if head + 1 < size else 0
        length -= 1
        row, column = place >> 32, place & 0xFFFFFFFF
        own = np.int32(_QUEUED)
        from_line = False
        for direction in range(4):
            if direction == 0:
                r, c = row, column - 1
            elif direction == 1:
                r, c = row - 1, column
            elif direction == 2:
                r, c = row, column + 1
            else:
                r, c = row + 1, column
            if r < 0 or c < 0 or r >= height or c >= width:
                continue
            other = image[r, c]
            if other > 0:
                if own == _QUEUED or (own == LINE and from_line):
                    own = other
                elif own > 0 and own != other:
                    own = np.int32(LINE)
                    from_line = False
            elif other == LINE:
                if own == _QUEUED:
                    own = np.int32(LINE)
                    from_line = True
            elif other == OPEN:
                image[r, c] = _QUEUED
                if length == size:
                    longer = np.empty(2 * size, np.int64)
                    longer[: size - head] = queue[head:]
                    longer[size - head : size] = queue[:head]
                    queue, head, size = longer, 0, 2 * size
                tail = head + length
                queue[tail if tail < size else tail - size] = (np.int64(r) << 32) + c
                length += 1
        image[row, column] = own


@numba.njit(nogil=True, cache=True)
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Where the key is, or belongs, in an open-addressed table whose length is a power of two; 0 is no key."""
    last = len(keys) - 1
    mixed = np.uint64(key) * _HASH  # unsigned: numba lets the compiler assume that signed products do not overflow
    slot = np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(last))
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & last
    return slot


@numba.njit(nogil=True, cache=True)
def count_overlaps(truth, labels):  # type: ignore[no-untyped-def]
    """Return (keys, counts): how many pixels share truth label t > 0 and label s, with key t x 2^32 + s."""
    keys = np.zeros(1024, np.int64)
    counts = np.zeros(1024, np.int64)
    used = 0
    height, width = truth.shape
    for row in range(height):
        column = 0
        while column < width:
            t, s = truth[row, column], labels[row, column]
            start = column
            column += 1
            while column < width and truth[row, column] == t and labels[row, column] == s:
                column += 1
            if t <= 0:
                continue
            key = (np.int64(t) << 32) + np.int64(s)
            slot = _slot(keys, key)
            if keys[slot] == 0:
                keys[slot] = key
                used += 1
            counts[slot] += column - start
            if 2 * used > len(keys):
                old_keys, old_counts = keys, counts
                keys = np.zeros(2 * len(old_keys), np.int64)
                counts = np.zeros(len(keys), np.int64)
                for i in range(len(old_keys)):
                    if old_keys[i] != 0:
                        slot = _slot(keys, old_keys[i])
                        keys[slot] = old_keys[i]
                        counts[slot] = old_counts[i]
    return keys[keys != 0], counts[keys != 0]


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

    Exact Euclidean distances in pixels, after Meijster, Roerdink and Hesselink: columns first, then each row's lower
    envelope of parabolas.
    """
    height, width = queries.shape
    columns = np.empty(width, np.int64)
    changes = np.empty(width, np.int64)
    total = 0.0
    n_queries = 0
    for row in range(height):
        any_query = False
        for column in range(width):
            any_query |= queries[row, column]
        if not any_query:
            continue
        n = _lower_envelope(distances[row], columns, changes)
        part = 0
        for column in range(width):
            while part + 1 < n and changes[part + 1] <= column:
                part += 1
            if queries[row, column]:
                away = np.float64(column - columns[part])
                down = np.float64(distances[row, columns[part]])
                total += np.sqrt(away * away + down * down)
                n_queries += 1
    return total, n_queries


@numba.njit(nogil=True, cache=True)
def _note_cell(first, bridging, patch, cell):  # type: ignore[no-untyped-def]
    if first[patch] == 0:
        first[patch] = cell
    elif first[patch] != cell:
        bridging[patch] = True


@numba.njit(nogil=True, cache=True)
def count_bridging(offsets, starts, ends, labels, n_patches, codes, free, cells):  # type: ignore[no-untyped-def]
    """Return how many patches have 4-neighbours with the code `free` in at least two cells."""
    height, width = codes.shape
    first = np.zeros(n_patches + 1, np.int32)
    bridging = np.zeros(n_patches + 1, np.bool_)
    for row in range(height):
        for run in range(offsets[row], offsets[row + 1]):
            patch = labels[run]
            if starts[run] > 0 and codes[row, starts[run] - 1] == free:
                _note_cell(first, bridging, patch, cells[row, starts[run] - 1])
            if ends[run] < width and codes[row, ends[run]] == free:
                _note_cell(first, bridging, patch, cells[row, ends[run]])
            for column in range(starts[run], ends[run]):
                if row > 0 and codes[row - 1, column] == free:
                    _note_cell(first, bridging, patch, cells[row - 1, column])
                if row + 1 < height and codes[row + 1, column] == free:
                    _note_cell(first, bridging, patch, cells[row + 1, column])
    return bridging.sum()
