"""Compiled loops over regions: runs of equal pixels and the patches they form, border thinning, overlaps of labels.

A run is a stretch [start, end) of equal pixels in a row. Patches are joined run by run, not pixel by pixel, because
membranes and cells are far longer than a pixel: a U-RISC image has 99 million pixels and about one million runs. All
loops release the interpreter's lock, so that callers may run them in threads.
"""

import numba
import numpy as np

LINE = 0  # label of a pixel on a line between two cells
OPEN = -2  # of a membrane pixel that the flood has not reached
_QUEUED = -3
WALL = -4  # of the frame around an image that is flooded
_BLOCK = 64
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
        if n == offsets[row + 1]:
            continue
        inside = False
        column = 0
        while column < width:
            if column + _BLOCK <= width:  # runs are long: most blocks hold one value, and summing is fast
                n_equal = np.uint8(0)
                for k in range(column, column + _BLOCK):
                    n_equal += np.uint8(line[k] == value)
                if n_equal == (_BLOCK if inside else 0):
                    column += _BLOCK
                    continue
            for k in range(column, min(column + _BLOCK, width)):
                if (line[k] == value) != inside:
                    if inside:
                        ends[n] = k
                        n += 1
                    else:
                        starts[n] = k
                    inside = not inside
            column += _BLOCK
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
def paint_runs(offsets, starts, ends, labels, elsewhere, image, frame):  # type: ignore[no-untyped-def]
    """Fill image with the label of the run that covers a pixel, and `elsewhere` between runs.

    `frame`: how many pixels the image is larger on each side; they are filled with WALL.
    """
    height, width = len(offsets) - 1, image.shape[1] - 2 * frame
    for row in range(frame):
        image[row, :] = WALL
        image[height + frame + row, :] = WALL
    for row in range(height):
        line = image[row + frame]
        line[:frame] = WALL
        line[frame + width :] = WALL
        line[frame : frame + width] = elsewhere
        for run in range(offsets[row], offsets[row + 1]):
            line[starts[run] + frame : ends[run] + frame] = labels[run]


@numba.njit(nogil=True, cache=True)
def _label_at(cell_runs, row, column):  # type: ignore[no-untyped-def]
    """The label of the last run of a row that starts at or before a column, which must lie in a run."""
    offsets, starts, labels = cell_runs
    low, high = offsets[row], offsets[row + 1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if starts[middle] <= column:
            low = middle
        else:
            high = middle - 1
    return labels[low]


@numba.njit(nogil=True, cache=True)
def count_bridging(offsets, starts, ends, labels, n_patches, codes, free, cells, cell_runs):  # type: ignore[no-untyped-def]
    """Return how many patches have 4-neighbours with the code `free` in at least two cells.

    Cells are a label image, or, where that is empty, `cell_runs`: offsets, starts and labels of their runs.
    """
    height, width = codes.shape
    first = np.zeros(n_patches + 1, np.int32)
    bridging = np.zeros(n_patches + 1, np.bool_)
    painted = cells.size > 0
    for row in range(height):
        for run in range(offsets[row], offsets[row + 1]):
            patch = labels[run]
            for place in range(starts[run] - 1, ends[run] + 1):
                beside = place < starts[run] or place == ends[run]
                for step in range(-1, 2):
                    r = row + step
                    if beside != (step == 0) or r < 0 or r >= height or place < 0 or place >= width:
                        continue
                    if codes[r, place] != free:
                        continue
                    cell = cells[r, place] if painted else _label_at(cell_runs, r, place)
                    if first[patch] == 0:
                        first[patch] = cell
                    elif first[patch] != cell:
                        bridging[patch] = True
    return bridging.sum()


@numba.njit(nogil=True, cache=True)
def flood(image, offsets, starts, ends, queue):  # type: ignore[no-untyped-def]
    """Let all cells grow into the OPEN pixels at one speed; where two meet, a LINE of one pixel stays.

    Soille and Vincent's flooding of one plateau, over 4 neighbours, first in first out. The image is transposed,
    [column, row], and framed by one pixel of WALL: the first pixels of the queue, those next to a cell, then lie in
    memory in the order in which they are queued, and no neighbour lies outside. The runs are those of the cells; only
    the gaps between them are open. `queue` has a place for each open pixel.
    """
    stride = image.shape[1]
    flat = image.reshape(-1)
    steps = (-stride, -1, stride, 1)  # left, above, right, below in the image as it stands upright
    n = 0
    for row in range(len(offsets) - 1):  # queue the open pixels next to a cell
        line = (row + 1) * stride + 1
        gap = np.int64(0)
        for run in range(offsets[row], offsets[row + 1] + 1):
            gap_end = np.int64(starts[run] if run < offsets[row + 1] else stride - 2)
            for place in range(line + gap, line + gap_end):
                if flat[place - stride] > 0 or flat[place - 1] > 0 or flat[place + stride] > 0 or flat[place + 1] > 0:
                    flat[place] = _QUEUED
                    queue[n] = place
                    n += 1
            if run < offsets[row + 1]:
                gap = np.int64(ends[run])
    head = 0
    while head < n:  # each pixel takes its neighbours' label, or becomes a line where these differ
        place = int(queue[head])
        head += 1
        own = np.int32(_QUEUED)
        from_line = False
        for step in steps:
            other = flat[place + step]
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
                flat[place + step] = _QUEUED
                queue[n] = place + step
                n += 1
        flat[place] = own


@numba.njit(nogil=True, cache=True)
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Where the key is, or belongs, in an open-addressed table whose length is a power of two; 0 is not a key."""
    last = len(keys) - 1
    mixed = np.uint64(key) * _HASH  # unsigned: numba lets the compiler assume that signed products do not overflow
    slot = np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(last))
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & last
    return slot


@numba.njit(nogil=True, cache=True)
def count_overlaps(offsets, starts, ends, labels, cells, n_labels, n_cells):  # type: ignore[no-untyped-def]
    """Return (keys, counts): how many pixels share truth label t > 0 and label s, with key t x 2^32 + s.

    The runs, with their `labels` from 1 to `n_labels`, are those of the truth. `cells` [height, width]: labels from 0
    to `n_cells`. Most cells meet one label only: the first that a cell meets is counted in a plain table, others in an
    open-addressed one.
    """
    first = np.zeros(n_cells + 1, np.int32)
    n_first = np.zeros(n_cells + 1, np.uint32)
    on_line = np.zeros(n_labels + 1, np.int64)
    keys = np.zeros(1024, np.int64)
    counts = np.zeros(1024, np.int64)
    used = 0
    for row in range(len(offsets) - 1):
        line = cells[row]
        for run in range(offsets[row], offsets[row + 1]):
            t = labels[run]
            column, end = starts[run], ends[run]
            while column < end:
                s = line[column]
                start = column
                column += 1
                while column < end and line[column] == s:
                    column += 1
                if s <= 0:
                    on_line[t] += column - start
                    continue
                if first[s] == 0:
                    first[s] = t
                if first[s] == t:
                    n_first[s] += np.uint32(column - start)
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
    n = np.count_nonzero(on_line) + np.count_nonzero(first) + used
    all_keys, all_counts = np.empty(n, np.int64), np.empty(n, np.int64)
    place = 0
    for t in range(n_labels + 1):
        if on_line[t]:
            all_keys[place], all_counts[place] = np.int64(t) << 32, on_line[t]
            place += 1
    for cell in range(n_cells + 1):
        if first[cell]:
            all_keys[place], all_counts[place] = (np.int64(first[cell]) << 32) + cell, n_first[cell]
            place += 1
    for slot in range(len(keys)):
        if keys[slot]:
            all_keys[place], all_counts[place] = keys[slot], counts[slot]
            place += 1
    return all_keys, all_counts


@numba.njit(nogil=True, cache=True)
def count_sums(counts):  # type: ignore[no-untyped-def]
    """Return (sum of n, of n^2, of n log n) over the counts n > 0."""
    total, squares, logarithms = 0.0, 0.0, 0.0
    for i in range(len(counts)):
        n = np.float64(counts[i])
        if n > 0:
            total += n
            squares += n * n
            if n > 1:
                logarithms += n * np.log(n)
    return total, squares, logarithms
