"""Compiled loops over runs: stretches of equal pixels in a row, [start, end), and the patches that they make.

Patches are joined run by run, not pixel by pixel, because membranes and cells are far longer than a pixel: a U-RISC
image has 99 million pixels and about one million runs. All loops release the interpreter's lock, so that callers may
run them in threads; so do those of the other modules of kernels.
"""

import numba
import numpy as np

WALL = -4
"""Label of the frame around an image that is flooded."""

_BLOCK = 64


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
def label_runs(image, offsets, starts, ends, labels):  # type: ignore[no-untyped-def]
    """Write the runs of equal labels above 0 of a label image; with empty arrays fill `offsets` only."""
    height, width = image.shape
    counting = len(starts) == 0
    n = 0
    for row in range(height):
        offsets[row] = n
        column = 0
        while column < width:
            label = image[row, column]
            start = column
            while column < width and image[row, column] == label:
                column += 1
            if label > 0:
                if not counting:
                    starts[n], ends[n], labels[n] = start, column, label
                n += 1
    offsets[height] = n


@numba.njit(nogil=True, cache=True)
def _note_cell(first, bridging, patch, cell):  # type: ignore[no-untyped-def]
    if first[patch] == 0:
        first[patch] = cell
    elif first[patch] != cell:
        bridging[patch] = True


@numba.njit(nogil=True, cache=True)
def _label_at(offsets, starts, labels, row, column):  # type: ignore[no-untyped-def]
    """The label of the last run of a row that starts at or before a column, which must lie in a run."""
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
                    if painted:
                        cell = cells[r, place]
                    else:
                        cell = _label_at(cell_runs[0], cell_runs[1], cell_runs[2], r, place)
                    _note_cell(first, bridging, patch, cell)
    return bridging.sum()
