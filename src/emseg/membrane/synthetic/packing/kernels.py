"""The compiled loops of the packing: which capsules survive, and which of them can be nearest where."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emseg.membrane.synthetic.kernels import (
    AXIS_X,
    AXIS_Y,
    HALF_LENGTH,
    N_SITE,
    RADIUS,
    SITE_X,
    SITE_Y,
    distance_to_axis,
    gradient_noise,
    uniform_at,
)

# Random streams of a candidate, 64 to a level from 100 on; of a cell, from 1000 on; of the field of directions.
S_PRESENT, S_Y, S_X, S_RADIUS, S_LENGTH, S_ANGLE, S_PRIORITY = range(7)
S_LEVEL, S_CELL, STREAMS_PER_LEVEL = 100, 1000, 64
S_BUNDLE = 16
N_CELL_RANDOM = 32


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(p: NDArray[np.float64], q: NDArray[np.float64]) -> bool:
    """Say whether two capsules overlap."""
    touch = p[RADIUS] + q[RADIUS]
    dy, dx = q[SITE_Y] - p[SITE_Y], q[SITE_X] - p[SITE_X]
    far = touch + p[HALF_LENGTH] + q[HALF_LENGTH]
    if dy * dy + dx * dx >= far * far:
        return False
    # Axes that cross: both ends of each lie on opposite sides of the other.
    cross = p[AXIS_Y] * q[AXIS_X] - p[AXIS_X] * q[AXIS_Y]
    if abs(cross) > 1e-9:
        on_p = (dy * q[AXIS_X] - dx * q[AXIS_Y]) / cross
        on_q = (dy * p[AXIS_X] - dx * p[AXIS_Y]) / cross
        if abs(on_p) <= p[HALF_LENGTH] and abs(on_q) <= q[HALF_LENGTH]:
            return True
    for sign in (-1.0, 1.0):
        step = sign * p[HALF_LENGTH]
        if distance_to_axis(p[SITE_Y] + step * p[AXIS_Y], p[SITE_X] + step * p[AXIS_X], q) < touch:
            return True
        step = sign * q[HALF_LENGTH]
        if distance_to_axis(q[SITE_Y] + step * q[AXIS_Y], q[SITE_X] + step * q[AXIS_X], p) < touch:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def pack_capsules(
    seed: int, levels: NDArray[np.float64], boxes: NDArray[np.int64], bundle_nm: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the capsules that survive, [n, 6], and their lattice addresses (level, i, j), [n, 3].

    `levels` rows: pitch, smallest radius, largest radius, largest half length over radius, presence.
    `boxes` rows: first i, first j, count of i, count of j: the part of each level's lattice to look at.
    A candidate survives when it overlaps no survivor of a coarser level and no candidate of its own level that passed
    that test with a higher priority (Matern's second rule, level by level), so survival depends on neighbours only.
    """
    n_levels = levels.shape[0]
    first = np.zeros(n_levels + 1, np.int64)
    for level in range(n_levels):
        first[level + 1] = first[level] + boxes[level, 2] * boxes[level, 3]
    site = np.zeros((first[n_levels], N_SITE))
    priority = np.zeros(first[n_levels])
    alive = np.zeros(first[n_levels], np.uint8)
    for level in range(n_levels):
        pitch, r_min, r_max, stretch, presence = levels[level]
        i0, j0, n_i, n_j = boxes[level]
        base = STREAMS_PER_LEVEL * level + S_LEVEL
        for a in range(n_i * n_j):
            i, j = i0 + a // n_j, j0 + a % n_j
            k = first[level] + a
            if uniform_at(seed, base + S_PRESENT, i, j) >= presence:
                continue
            y = (i + uniform_at(seed, base + S_Y, i, j)) * pitch
            x = (j + uniform_at(seed, base + S_X, i, j)) * pitch
            radius = r_min * (r_max / r_min) ** uniform_at(seed, base + S_RADIUS, i, j)
            angle = 14.0 * gradient_noise(seed, S_BUNDLE, y / bundle_nm, x / bundle_nm)
            angle += 1.2 * (uniform_at(seed, base + S_ANGLE, i, j) - 0.5)
            site[k, SITE_Y], site[k, SITE_X], site[k, RADIUS] = y, x, radius
            site[k, AXIS_Y], site[k, AXIS_X] = math.sin(angle), math.cos(angle)
            site[k, HALF_LENGTH] = radius * stretch * uniform_at(seed, base + S_LENGTH, i, j) ** 2
            priority[k] = uniform_at(seed, base + S_PRIORITY, i, j)
            alive[k] = 1
        reach = r_max * (1.0 + stretch)
        for other in range(level + 1):
            same = other == level
            o_pitch = levels[other, 0]
            o_reach = levels[other, 2] * (1.0 + levels[other, 3])
            span = reach + o_reach
            oi0, oj0, on_i, on_j = boxes[other]
            for k in range(first[level], first[level + 1]):
                if alive[k] == 0:
                    continue
                i_lo = max(math.floor((site[k, SITE_Y] - span) / o_pitch) - oi0, 0)
                i_hi = min(math.floor((site[k, SITE_Y] + span) / o_pitch) - oi0, on_i - 1)
                j_lo = max(math.floor((site[k, SITE_X] - span) / o_pitch) - oj0, 0)
                j_hi = min(math.floor((site[k, SITE_X] + span) / o_pitch) - oj0, on_j - 1)
                beaten = False
                for i in range(i_lo, i_hi + 1):
                    for j in range(j_lo, j_hi + 1):
                        q = first[other] + i * on_j + j
                        # 2 marks the beaten of this level: they still count as rivals, so that order plays no part.
                        if alive[q] == 0 or q == k or (same and priority[q] < priority[k]):
                            continue
                        if _overlap(site[k], site[q]):
                            beaten = True
                            break
                    if beaten:
                        break
                if beaten:
                    alive[k] = 2 if same else 0
        for k in range(first[level], first[level + 1]):
            if alive[k] == 2:
                alive[k] = 0
    n = 0
    for k in range(first[n_levels]):
        n += alive[k]
    kept = np.empty((n, N_SITE))
    address = np.empty((n, 3), np.int64)
    n = 0
    for level in range(n_levels):
        for k in range(first[level], first[level + 1]):
            if alive[k]:
                kept[n] = site[k]
                a = k - first[level]
                address[n, 0] = level
                address[n, 1] = boxes[level, 0] + a // boxes[level, 3]
                address[n, 2] = boxes[level, 1] + a % boxes[level, 3]
                n += 1
    return kept, address


@njit(cache=True, nogil=True)
def cell_random(seed: int, address: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return uniform numbers for every cell, [n, N_CELL_RANDOM], from its lattice address."""
    out = np.empty((address.shape[0], N_CELL_RANDOM))
    for k in range(address.shape[0]):
        for stream in range(N_CELL_RANDOM):
            base = S_CELL + STREAMS_PER_LEVEL * address[k, 0] + stream
            out[k, stream] = uniform_at(seed, base, address[k, 1], address[k, 2])
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def bucket_sites(
    site: NDArray[np.float64], origin: NDArray[np.float64], pitch: float, n_y: int, n_x: int, slack: float, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], float]:
    """Return, for every square bucket, the sites that may be nearest (or within `slack` of it) somewhere in it.

    As starts [n_y * n_x + 1] and indices; and the largest distance from a bucket's centre to its nearest site, which
    the caller compares with `reach`, the distance up to which sites were looked for.
    """
    nearest = np.full(n_y * n_x, 1e30)
    starts = np.zeros(n_y * n_x + 1, np.int64)
    indices = np.empty(0, np.int32)
    for step in range(3):  # nearest distance; count; fill
        if step == 2:
            for b in range(n_y * n_x):
                starts[b + 1] += starts[b]
            indices = np.empty(starts[n_y * n_x], np.int32)
            cursor = starts.copy()
        for k in range(site.shape[0]):
            span = reach + site[k, RADIUS] + site[k, HALF_LENGTH]
            i_lo = max(math.floor((site[k, SITE_Y] - span - origin[0]) / pitch), 0)
            i_hi = min(math.floor((site[k, SITE_Y] + span - origin[0]) / pitch), n_y - 1)
            j_lo = max(math.floor((site[k, SITE_X] - span - origin[1]) / pitch), 0)
            j_hi = min(math.floor((site[k, SITE_X] + span - origin[1]) / pitch), n_x - 1)
            for i in range(i_lo, i_hi + 1):
                for j in range(j_lo, j_hi + 1):
                    y, x = origin[0] + (i + 0.5) * pitch, origin[1] + (j + 0.5) * pitch
                    d = distance_to_axis(y, x, site[k]) - site[k, RADIUS]
                    b = i * n_x + j
                    if step == 0:
                        nearest[b] = min(nearest[b], d)
                    elif d <= nearest[b] + slack:
                        if step == 1:
                            starts[b + 1] += 1
                        else:
                            indices[cursor[b]] = k
                            cursor[b] += 1
    return starts, indices, nearest.max()
