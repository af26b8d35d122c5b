"""Compiled loops of the scores of cells: how many pixels two labels share, and sums over such counts."""

import numba
import numpy as np

_HASH = np.uint64(0x9E3779B97F4A7C15)


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
def count_sums(counts, chosen):  # type: ignore[no-untyped-def]
    """Return (sum of n, of n^2, of n log n) over the counts n > 0 that are chosen; no choice takes all."""
    total, squares, logarithms = 0.0, 0.0, 0.0
    for i in range(len(counts)):
        n = np.float64(counts[i])
        if n > 0 and (len(chosen) == 0 or chosen[i]):
            total += n
            squares += n * n
            if n > 1:
                logarithms += n * np.log(n)
    return total, squares, logarithms
