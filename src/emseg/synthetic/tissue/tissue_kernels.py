"""The compiled loops of the generator: packing of cells, smooth fields, drawing, exposure.

Every random quantity is `hash_at(seed, stream, i, j)`, a function of integer lattice coordinates alone, so any window
at any pixel size meets the same tissue. Lengths are nm, coordinates (y, x) = (row, column). Places named without more
are in the packing's plane, into which the warp maps the section. Noise: Perlin, Improving Noise, SIGGRAPH 2002;
packing: Matern's second rule. One long file on purpose: see `emseg.synthetic.shared_kernels`.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emseg.synthetic.shared_kernels import Bytes, Canvas, Floats, Integers, hash_at, pixel_noise

Truth = tuple[NDArray[np.bool_], NDArray[np.int32], Bytes, NDArray[np.int32]]
Weights = tuple[float, float, float, float]
"""Of the nodes around a pixel: upper left, upper right, lower left, lower right."""
Square = tuple[float, float, float, float]
"""Between four nodes, warped: its middle, its half diagonal, and how fast a gap between distances can grow."""

# Columns of the table of sites: centre, axis, half length of the axis, radius (a capsule).
SITE_Y, SITE_X, AXIS_Y, AXIS_X, HALF_LENGTH, RADIUS = range(6)
N_SITE = 6
# A cell, beside its capsule: grey, strength of its grain, where it reads the texture, its pool of vesicles, its
# reticulum.
CELL_GREY, CELL_GRAIN, CELL_SHIFT_Y, CELL_SHIFT_X, POOL_Y, POOL_X, POOL_RADIUS, CELL_RETICULUM = range(8)
N_CELL = 8
# A mitochondrion: an ellipse, its bend, the period and phase of its cristae, the number they are hashed from.
MITO_Y, MITO_X, MITO_AXIS_Y, MITO_AXIS_X, MITO_A, MITO_B, MITO_BEND, MITO_PERIOD, MITO_PHASE, MITO_KEY = range(10)
N_MITO = 10
# The periodic texture of cytoplasm.
TEXTURE_SIZE = 512
TEXTURE_NM = 4.0
# Random streams of a candidate, 64 to a level from 100 on; of a cell, from 1000 on; of the field of directions.
S_PRESENT, S_Y, S_X, S_RADIUS, S_LENGTH, S_ANGLE, S_PRIORITY = range(7)
S_LEVEL, S_CELL, STREAMS_PER_LEVEL = 100, 1000, 64
S_BUNDLE = 16
N_CELL_RANDOM = 32
# What is known of a cell near the current pixel: offset from its axis, distance from it, signed distance from the cell.
OFF_Y, OFF_X, DISTANCE, BELOW = range(4)
# Spacing of the nodes on which smooth fields are evaluated; between nodes they are interpolated bilinearly.
NODE_NM = 32.0
# Fields at a node, in this order: warped place, the warp's Jacobian by rows, smear by tilt (nm), shading (grey),
# strength of synapses, distance from a cisterna's middle (nm), strength of the reticulum.
YW, XW, DYY, DYX, DXY, DXX, SMEAR, SHADE, SYNAPSE, RETICULUM, RETICULUM_HERE = range(11)
N_FIELDS = 11
NOISE_DEVIATION = 0.175  # of `gradient_noise`; measured
S_WARP_Y, S_WARP_X, S_WAVE_Y, S_WAVE_X, S_TILT, S_SHADE, S_SYNAPSE, S_RETICULUM, S_RETICULUM_HERE = range(7, 16)
S_FINE = 500  # added to a stream for a finer layer of the same field
S_VESICLE, S_CRISTA = 17, 19
VESICLE_PITCH_NM, LARGEST_VESICLE_NM = 58.0, 30.0
MAX_VESICLES = 64  # in one square between nodes
ORGANELLE_MITOCHONDRION, ORGANELLE_VESICLE, ORGANELLE_RETICULUM = 1, 2, 3
MAX_MITOCHONDRIA = 16  # in one square
S_NOISE = 18


# Ground: hashes, noise, capsules.


@njit(cache=True, nogil=True)
def uniform_at(seed: int, stream: int, i: int | np.int64, j: int | np.int64) -> float:
    """Return a number in [0, 1)."""
    return np.float64(hash_at(seed, stream, i, j) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def hash_grid(seed: int, stream: int, n: int) -> NDArray[np.uint64]:
    """Return the hashes of a square of lattice points."""
    out = np.empty((n, n), np.uint64)
    for i in range(n):
        for j in range(n):
            out[i, j] = hash_at(seed, stream, i, j)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def gradient_noise(seed: int, stream: int, y: float, x: float) -> float:
    """Return Perlin's noise with a quintic fade: smooth, zero at the lattice, standard deviation `NOISE_DEVIATION`."""
    i, j = math.floor(y), math.floor(x)
    fy, fx = y - i, x - j
    wy = fy * fy * fy * (fy * (fy * 6.0 - 15.0) + 10.0)
    wx = fx * fx * fx * (fx * (fx * 6.0 - 15.0) + 10.0)
    total = 0.0
    for di in range(2):
        for dj in range(2):
            h = hash_at(seed, stream, np.int64(i) + di, np.int64(j) + dj)
            gy = np.float64(h & np.uint64(0xFFFF)) / 32767.5 - 1.0
            gx = np.float64((h >> np.uint64(16)) & np.uint64(0xFFFF)) / 32767.5 - 1.0
            weight = (wy if di else 1.0 - wy) * (wx if dj else 1.0 - wx)
            total += weight * (gy * (fy - di) + gx * (fx - dj))
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def off_axis(y: float, x: float, site: Floats) -> tuple[float, float, float]:
    """Return the offset (y, x) of a point from the nearest place on the axis of a capsule, and its length."""
    dy, dx = y - site[SITE_Y], x - site[SITE_X]
    along = min(max(dy * site[AXIS_Y] + dx * site[AXIS_X], -site[HALF_LENGTH]), site[HALF_LENGTH])
    dy -= along * site[AXIS_Y]
    dx -= along * site[AXIS_X]
    return dy, dx, math.sqrt(dy * dy + dx * dx)


# Packing: which capsules survive, and which can be nearest where.


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(p: Floats, q: Floats) -> bool:
    """Return whether two capsules overlap."""
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
        if off_axis(p[SITE_Y] + step * p[AXIS_Y], p[SITE_X] + step * p[AXIS_X], q)[2] < touch:
            return True
        step = sign * q[HALF_LENGTH]
        if off_axis(q[SITE_Y] + step * q[AXIS_Y], q[SITE_X] + step * q[AXIS_X], p)[2] < touch:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def pack_capsules(
    seed: int, levels: Floats, boxes: Integers, first: Integers, bundle_nm: float
) -> tuple[Floats, Bytes]:
    """Return all candidates, [n, 6], and whether each survives; those of a level begin at `first[level]`, row by row.

    `levels` rows: pitch, smallest radius, largest radius, largest half length over radius, presence.
    `boxes` rows: first i, first j, count of i, count of j: the part of each level's lattice to look at.
    A candidate survives when it overlaps no survivor of a coarser level and no candidate of the same level that passed
    that test with a higher priority (Matern's second rule, level by level), so survival depends on neighbours only.
    """
    n_levels = levels.shape[0]
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
    return site, alive


@njit(cache=True, nogil=True)
def cell_random(seed: int, address: Integers) -> Floats:
    """Return uniform numbers for every cell, [n, N_CELL_RANDOM], from its lattice address."""
    out = np.empty((address.shape[0], N_CELL_RANDOM))
    for k in range(address.shape[0]):
        for stream in range(N_CELL_RANDOM):
            base = S_CELL + STREAMS_PER_LEVEL * address[k, 0] + stream
            out[k, stream] = uniform_at(seed, base, address[k, 1], address[k, 2])
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def bucket_sites(
    site: Floats, origin: Floats, pitch: float, n_y: int, n_x: int, slack: float, reach: float
) -> tuple[Integers, NDArray[np.int32], float]:
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
                    d = off_axis(y, x, site[k])[2] - site[k, RADIUS]
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


# Smooth fields.


@njit(cache=True, nogil=True, error_model="numpy")
def noise_on_grid(seed: int, stream: int, y: Floats, x: Floats) -> Floats:
    """Return `gradient_noise` at all places of a grid, [len(y), len(x)]."""
    out = np.empty((len(y), len(x)))
    for i in range(len(y)):
        for j in range(len(x)):
            out[i, j] = gradient_noise(seed, stream, y[i], x[j])
    return out


# Organelles.


@njit(cache=True, nogil=True, error_model="numpy")
def bump(distance: float, width: float) -> float:
    """Return a smooth bump of height 1 at zero that ends at 2 `width` (a parabola squared, close to a Gaussian)."""
    t = distance / (2.0 * width)
    t = 1.0 - t * t
    return t * t if t > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def mitochondrion(seed: int, m: Floats, y: float, x: float, soft: float) -> tuple[float, float, float]:
    """Return depth below its surface (nm), how much of the pixel it covers and its darkness there (0 to 1)."""
    dy, dx = y - m[MITO_Y], x - m[MITO_X]
    u = dy * m[MITO_AXIS_Y] + dx * m[MITO_AXIS_X]
    v = dx * m[MITO_AXIS_Y] - dy * m[MITO_AXIS_X]
    a, b = m[MITO_A], m[MITO_B]
    v += m[MITO_BEND] * (u * u / a - 0.3 * a)
    rho = math.sqrt(u * u / (a * a) + v * v / (b * b))
    slope = math.sqrt(u * u / (a * a * a * a) + v * v / (b * b * b * b)) / max(rho, 1e-6)
    depth = (1.0 - rho) / max(slope, 1e-6)
    if depth <= -soft:
        return depth, 0.0, 0.0
    cover = min(1.0, 0.5 + 0.5 * depth / soft)
    if depth < 23.0:  # outer membrane, pale gap, inner membrane
        shell = max(bump(depth - 4.0, 3.5), bump(depth - 17.0, 3.5))
    else:
        shell = 0.0
    dark = 0.5 + 0.5 * shell
    if depth > 14.0:
        wander = u + 0.22 * b * math.sin(2.3 * v / b + m[MITO_PHASE]) + 6.0 * math.sin(v / 17.0 + 2.0 * m[MITO_PHASE])
        turn = wander / m[MITO_PERIOD] + m[MITO_PHASE]
        crista = math.floor(turn + 0.5)
        length = uniform_at(seed, S_CRISTA, np.int64(m[MITO_KEY]), np.int64(crista))
        side = 1.0 if np.int64(crista) & 1 else -1.0
        tip = side * v / b - (2.2 * length - 0.3)  # a crista grows from one side and ends somewhere
        off = abs(turn - crista) * m[MITO_PERIOD]
        if tip > 0.0:
            off = math.hypot(off, tip * b)
        dark = max(dark, 0.5 + 0.45 * bump(off, max(4.5, 0.7 * soft)))
    return depth, cover, dark


@njit(cache=True, nogil=True, error_model="numpy")
def gather_vesicles(
    seed: int, square: Square, look: Floats, capsule: Floats, mito: Floats, half_nm: float, vesicle: Floats, n: int
) -> int:
    """Append to the `n` rows of `vesicle` (y, x, radius) those of a cell's pool that reach into a square; return `n`.

    `mito`: the cell's own mitochondria; `half_nm`: half the membrane's thickness.
    """
    mid_y, mid_x, spread, _ = square
    reach = spread + LARGEST_VESICLE_NM
    for i in range(math.floor((mid_y - reach) / VESICLE_PITCH_NM), math.floor((mid_y + reach) / VESICLE_PITCH_NM) + 1):
        for j in range(
            math.floor((mid_x - reach) / VESICLE_PITCH_NM), math.floor((mid_x + reach) / VESICLE_PITCH_NM) + 1
        ):
            y = (i + 0.15 + 0.7 * uniform_at(seed, S_VESICLE, i, j)) * VESICLE_PITCH_NM
            x = (j + 0.15 + 0.7 * uniform_at(seed, S_VESICLE + 100, i, j)) * VESICLE_PITCH_NM
            radius = 15.0 + 9.0 * uniform_at(seed, S_VESICLE + 200, i, j)
            out = math.hypot(y - look[POOL_Y], x - look[POOL_X]) / look[POOL_RADIUS]
            depth = capsule[RADIUS] - off_axis(y, x, capsule)[2]
            free = uniform_at(seed, S_VESICLE + 300, i, j) <= 1.0 - out * out and n < MAX_VESICLES
            free = free and depth >= radius + half_nm + 6.0
            for m in mito:
                free = free and mitochondrion(seed, m, y, x, 3.0)[0] <= -radius - 6.0
            if free:
                vesicle[n, 0], vesicle[n, 1], vesicle[n, 2] = y, x, radius
                n += 1
    return n


# Drawing: the plane is divided into squares between nodes; the few cells and organelles that reach into a square are
# gathered first, and its pixels look only at those.


class Cells(NamedTuple):
    """The cells around a window: capsules, looks, mitochondria, and a positive key, the same in every window."""

    site: Floats
    look: Floats
    mito_start: Integers
    mito: Floats
    key: Integers


class Buckets(NamedTuple):
    """For each bucket of a grid the cells that can be the nearest in it; `most` is the largest number in a bucket."""

    start: Integers
    cells: NDArray[np.int32]
    origin: Floats
    pitch: float
    shape: Integers
    most: int


class Band(NamedTuple):
    """A band of node squares: its fields, and how the picture's pixels lie on them.

    `corner` is the position of the corner of pixel (0, 0) in the picture's frame, which is `halo` pixels wider than the
    window on each side; the band's rows start at `row_start`.
    """

    fields: Floats
    first_node: Integers
    pixel_nm: float
    corner: Floats
    row_start: int
    halo: int


class Stain(NamedTuple):
    """`profile` [smear, s]: stain at s nm from a membrane's middle; `depths`: grey drops of membrane, synapse,
    mitochondrion, vesicle, reticulum.
    """

    profile: Canvas
    smear_step: float
    half_thickness: float
    texture: Canvas
    depths: Floats


@njit(cache=True, nogil=True, error_model="numpy")
def _bilinear_wrapped(texture: Canvas, y: float, x: float) -> float:
    i, j = math.floor(y), math.floor(x)
    fy, fx = y - i, x - j
    mask = TEXTURE_SIZE - 1
    i0, j0 = np.int64(i) & mask, np.int64(j) & mask
    i1, j1 = (i0 + 1) & mask, (j0 + 1) & mask
    top = texture[i0, j0] + fx * (texture[i0, j1] - texture[i0, j0])
    bottom = texture[i1, j0] + fx * (texture[i1, j1] - texture[i1, j0])
    value: float = top + fy * (bottom - top)
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def _square(fields: Floats, a: int, b: int) -> Square:
    """Return square (a, b); a gap grows at most by twice the largest singular value of the Jacobian at the corners."""
    mid_y = 0.25 * (fields[a, b, YW] + fields[a, b + 1, YW] + fields[a + 1, b, YW] + fields[a + 1, b + 1, YW])
    mid_x = 0.25 * (fields[a, b, XW] + fields[a, b + 1, XW] + fields[a + 1, b, XW] + fields[a + 1, b + 1, XW])
    spread = square = 0.0
    for corner in range(4):
        f = fields[a + corner // 2, b + corner % 2]
        spread = max(spread, math.hypot(f[YW] - mid_y, f[XW] - mid_x))
        trace = f[DYY] ** 2 + f[DYX] ** 2 + f[DXY] ** 2 + f[DXX] ** 2
        det = f[DYY] * f[DXX] - f[DYX] * f[DXY]
        square = max(square, 0.5 * (trace + math.sqrt(max(trace * trace - 4.0 * det * det, 0.0))))
    return mid_y, mid_x, spread, 2.0 * math.sqrt(square)


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(fields: Floats, a: int, b: int, k: int) -> float:
    """Return the largest value of field `k` at the nodes of square (a, b)."""
    upper = max(fields[a, b, k], fields[a, b + 1, k])
    return max(upper, max(fields[a + 1, b, k], fields[a + 1, b + 1, k]))


@njit(cache=True, nogil=True, error_model="numpy")
def _mix(w: Weights, fields: Floats, a: int, b: int, k: int) -> float:
    """Return field `k` between the four nodes of square (a, b)."""
    upper = w[0] * fields[a, b, k] + w[1] * fields[a, b + 1, k]
    return upper + w[2] * fields[a + 1, b, k] + w[3] * fields[a + 1, b + 1, k]


@njit(cache=True, nogil=True, error_model="numpy")
def _mix_pairs(w: Weights, fields: Floats, a: int, b: int, k: int) -> float:
    """Return the same, summed in another order, which matters in the last bit."""
    upper = w[0] * fields[a, b, k] + w[1] * fields[a, b + 1, k]
    return upper + (w[2] * fields[a + 1, b, k] + w[3] * fields[a + 1, b + 1, k])


@njit(cache=True, nogil=True, error_model="numpy")
def _near_cells(
    square: Square, influence: float, candidates: NDArray[np.int32], site: Floats, near: Integers, local: Floats
) -> int:
    """Gather in `near` and `local` the cells whose stain may reach into a square; return their number."""
    y, x, spread, stretch = square
    slack = 2.0 * spread + influence * stretch  # how much further than the nearest
    near_d = np.empty(len(candidates))
    n_near = 0
    best = 1e30
    for k in candidates:
        d = off_axis(y, x, site[k])[2] - site[k, RADIUS]
        if d < best + slack:
            near[n_near], near_d[n_near] = k, d
            n_near += 1
            best = min(best, d)
    kept = 0
    for n in range(n_near):
        if near_d[n] <= best + slack:
            near[kept] = near[n]
            local[kept] = site[near[n]]
            kept += 1
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _near_organelles(
    seed: int, square: Square, near: Integers, local: Floats, cells: Cells, half: float, mito: Integers, vesicle: Floats
) -> tuple[int, int, bool]:
    """Gather in `mito` and `vesicle` what reaches into a square; return their numbers and if there is reticulum."""
    mid_y, mid_x, spread, _ = square
    n_mito = n_vesicle = 0
    reticulum = False
    for n in range(near.shape[0]):
        k = near[n]
        look = cells.look[k]
        reticulum = reticulum or look[CELL_RETICULUM] > 0.0
        for q in range(cells.mito_start[k], cells.mito_start[k + 1]):
            away = math.hypot(cells.mito[q, MITO_Y] - mid_y, cells.mito[q, MITO_X] - mid_x)
            if away < 1.15 * cells.mito[q, MITO_A] + spread + 10.0 and n_mito < MAX_MITOCHONDRIA:
                mito[n_mito] = q
                n_mito += 1
        away = math.hypot(look[POOL_Y] - mid_y, look[POOL_X] - mid_x)
        if look[POOL_RADIUS] > 0.0 and away < look[POOL_RADIUS] + spread + LARGEST_VESICLE_NM:
            own = cells.mito[cells.mito_start[k] : cells.mito_start[k + 1]]
            n_vesicle = gather_vesicles(seed, square, look, local[n], own, half, vesicle, n_vesicle)
    return n_mito, n_vesicle, reticulum


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest_two(y: float, x: float, n_near: int, local: Floats, away: Floats) -> tuple[int, int, float, float]:
    """Return the two nearest cells and their signed distances; fill `away` [cell, 4] with offsets and distances."""
    first = second = 0
    inside = next_inside = 1e30
    for n in range(n_near):
        dy, dx, distance = off_axis(y, x, local[n])
        below = distance - local[n, RADIUS]
        away[n, OFF_Y], away[n, OFF_X], away[n, DISTANCE], away[n, BELOW] = dy, dx, distance, below
        if below < inside:
            next_inside, second = inside, first
            inside, first = below, n
        elif below < next_inside:
            next_inside, second = below, n
    return first, second, inside, next_inside


@njit(cache=True, nogil=True, error_model="numpy")
def _boundary(
    first: int, second: int, n_near: int, influence: float, stretch: float, slopes: Floats, away: Floats
) -> tuple[float, int]:
    """Return the distance to the nearest boundary of cell `first` in nm of the section, and the cell beyond it.

    It is the least of |d_n - d_first| / |J^T (u_n - u_first)|, where u are unit vectors away from the axes and J, in
    `slopes` by rows, is the warp's Jacobian. `influence` stands for all that is further.
    """
    s = influence
    beyond = first
    own = 1.0 / max(away[first, DISTANCE], 1e-9)
    for turn in range(-1, n_near):  # the second nearest first: it mostly settles the matter
        n = second if turn < 0 else turn
        gap = away[n, BELOW] - away[first, BELOW]
        if n == first or turn == second or gap >= s * stretch:
            continue
        other = 1.0 / max(away[n, DISTANCE], 1e-9)
        gy = away[n, OFF_Y] * other - away[first, OFF_Y] * own
        gx = away[n, OFF_X] * other - away[first, OFF_X] * own
        uy, ux = gy * slopes[0] + gx * slopes[2], gy * slopes[1] + gx * slopes[3]
        slope = uy * uy + ux * ux
        if gap * gap < s * s * slope:
            s = gap / math.sqrt(slope)
            beyond = n
    return s, beyond


@njit(cache=True, nogil=True, error_model="numpy")
def _reticulum(value: float, t: float, here: float, depth: float, soft: float, drop: float) -> tuple[float, int]:
    """Return the grey at `t` nm from a cisterna's middle, `depth` nm clear of the membrane, and the label."""
    t = abs(t)
    here *= min(1.0, depth / 20.0)  # fades out towards the membrane
    if t < 40.0:
        value -= drop * here * bump(t - 15.0, soft * 1.1)
        if t < 8.0:
            value += 0.08 * drop * here  # the lumen is pale
    return value, ORGANELLE_RETICULUM if t < 19.0 and here > 0.5 else 0


@njit(cache=True, nogil=True, error_model="numpy")
def draw_band(
    seed: int, band: Band, cells: Cells, buckets: Buckets, stain: Stain, grey: Canvas, truth: Truth, next_id: int
) -> int:
    """Draw the rows of one band of node squares; return the next free cell id.

    `grey` [rows, width + 2 halo] receives the picture before optics; `truth`: the window's membrane, cells, organelles,
    [height, width] each, and each cell's number there [cell], 0 before it is seen.
    """
    n_rows, n_cols = grey.shape
    # A field of a named tuple costs two counted references at each use: take those apart that every pixel needs.
    fields, first_node, pixel_nm, corner, row_start, halo = band
    site, looks, _, mito, _ = cells
    profile, smear_step, half_thickness, texture, depths = stain
    membrane, numbers, organelles, ids = truth
    height, width = membrane.shape
    furthest = np.float64(profile.shape[1] - 2)
    upright = furthest - 0.5 * smear_step * (profile.shape[0] - 1)
    soft = max(3.0, 0.6 * pixel_nm)  # no edge is sharper than a pixel can show
    near, local = np.empty(buckets.most, np.int64), np.empty((buckets.most, N_SITE))
    away = np.empty((buckets.most, 4))
    near_mito, vesicle = np.empty(MAX_MITOCHONDRIA, np.int64), np.empty((MAX_VESICLES, 3))
    slopes = np.empty(4)
    for a in range(fields.shape[0] - 1):
        node_y = (first_node[0] + a) * NODE_NM
        r_lo = max(math.ceil((node_y - corner[0]) / pixel_nm - 0.5), row_start)
        r_hi = min(math.ceil((node_y + NODE_NM - corner[0]) / pixel_nm - 0.5), row_start + n_rows)
        if r_lo >= r_hi:
            continue
        for b in range(fields.shape[1] - 1):
            node_x = (first_node[1] + b) * NODE_NM
            c_lo = max(math.ceil((node_x - corner[1]) / pixel_nm - 0.5), 0)
            c_hi = min(math.ceil((node_x + NODE_NM - corner[1]) / pixel_nm - 0.5), n_cols)
            if c_lo >= c_hi:
                continue
            # How far a membrane's stain can reach in this square: synapses reach furthest, else the tilt decides.
            influence = upright + 0.5 * _largest(fields, a, b, SMEAR)
            if _largest(fields, a, b, SYNAPSE) > 0.0:
                influence = furthest
            # Gather once for the square what any of its pixels can meet.
            square = _square(fields, a, b)
            mid_y, mid_x, _, stretch = square
            bucket_y = min(max(math.floor((mid_y - buckets.origin[0]) / buckets.pitch), 0), buckets.shape[0] - 1)
            bucket_x = min(max(math.floor((mid_x - buckets.origin[1]) / buckets.pitch), 0), buckets.shape[1] - 1)
            bucket = bucket_y * buckets.shape[1] + bucket_x
            candidates = buckets.cells[buckets.start[bucket] : buckets.start[bucket + 1]]
            n_near = _near_cells(square, influence, candidates, site, near, local)
            n_mito, n_vesicle, reticulum = _near_organelles(
                seed, square, near[:n_near], local, cells, half_thickness, near_mito, vesicle
            )
            for r in range(r_lo, r_hi):
                fy = (corner[0] + (r + 0.5) * pixel_nm - node_y) / NODE_NM
                fx0 = (corner[1] + (c_lo + 0.5) * pixel_nm - node_x) / NODE_NM
                texture_y = (corner[0] + (r + 0.5) * pixel_nm) / TEXTURE_NM
                for c in range(c_lo, c_hi):
                    fx = fx0 + (c - c_lo) * (pixel_nm / NODE_NM)
                    w = ((1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx)
                    # Which cell is this, and how far is its boundary? Only where a second cell is about as near.
                    y, x = _mix(w, fields, a, b, YW), _mix(w, fields, a, b, XW)
                    first, second, inside, next_inside = _nearest_two(y, x, n_near, local, away)
                    s = influence
                    beyond = first
                    if next_inside - inside < influence * stretch:
                        for q in range(4):
                            slopes[q] = _mix_pairs(w, fields, a, b, DYY + q)
                        s, beyond = _boundary(first, second, n_near, influence, stretch, slopes, away)
                    # Cytoplasm: each cell reads the texture from its own place.
                    k = near[first]
                    look = looks[k]
                    grain = _bilinear_wrapped(
                        texture,
                        texture_y + look[CELL_SHIFT_Y],
                        (corner[1] + (c + 0.5) * pixel_nm) / TEXTURE_NM + look[CELL_SHIFT_X],
                    )
                    value = look[CELL_GREY] + look[CELL_GRAIN] * grain
                    value += _mix(w, fields, a, b, SHADE)
                    # Organelles, the later over the earlier: reticulum, vesicles, mitochondria.
                    label = 0
                    if reticulum and look[CELL_RETICULUM] > 0.0 and -inside > half_thickness + 30.0:
                        depth = -inside - half_thickness - 30.0
                        here = _mix_pairs(w, fields, a, b, RETICULUM_HERE)
                        if here > 0.0:
                            t = _mix(w, fields, a, b, RETICULUM)
                            value, label = _reticulum(value, t, here, depth, soft, depths[4])
                    for n in range(n_vesicle):
                        dy, dx = y - vesicle[n, 0], x - vesicle[n, 1]
                        square, radius = dy * dy + dx * dx, vesicle[n, 2]
                        if square < (radius + 9.0) ** 2:
                            t = math.sqrt(square)
                            value -= depths[3] * (bump(t - radius + 4.0, soft) - (0.25 if t < radius - 7.0 else 0.0))
                            if t < radius:
                                label = ORGANELLE_VESICLE
                    for n in range(n_mito):
                        t, cover, dark = mitochondrion(seed, mito[near_mito[n]], y, x, soft)
                        if cover > 0.0:
                            inner = look[CELL_GREY] - depths[2] * dark
                            value += cover * (inner - value + 0.6 * look[CELL_GRAIN] * grain)
                            if t > 0.0:
                                label = ORGANELLE_MITOCHONDRION
                    # Membrane over everything: its profile, smeared by tilt, and the density of a synapse.
                    if s < influence:
                        row, column = np.int64(_mix(w, fields, a, b, SMEAR) / smear_step), np.int64(s)
                        drop = profile[row, column]
                        drop += (s - column) * (profile[row, column + 1] - drop)
                        value -= depths[0] * drop
                        synapse = _mix(w, fields, a, b, SYNAPSE)
                        if synapse > 0.0:  # on one of the two sides it is twice as wide
                            t = s if look[CELL_SHIFT_Y] > looks[near[beyond], CELL_SHIFT_Y] else 2.0 * s
                            t = 1.0 - t / furthest
                            if t > 0.0:
                                value -= depths[1] * synapse * t * t
                    grey[r - row_start, c] = value
                    i, j = r - halo, c - halo
                    if not (0 <= i < height and 0 <= j < width):  # the halo is drawn for the optics alone
                        continue
                    is_membrane = s < half_thickness
                    membrane[i, j] = is_membrane
                    if is_membrane:
                        numbers[i, j] = organelles[i, j] = 0
                        continue
                    if ids[k] == 0:
                        ids[k] = next_id
                        next_id += 1
                    numbers[i, j] = ids[k]
                    organelles[i, j] = label
    return next_id


# Optics and detector.


@njit(cache=True, nogil=True, error_model="numpy")
def blur_columns(source: Canvas, taps: Canvas, target: Canvas) -> None:
    """Filter each row of `source` [rows, width + 2 halo] into `target` [rows, width]."""
    width = target.shape[1]
    for r in range(target.shape[0]):
        row = target[r]
        row[:] = 0.0
        for t in range(taps.shape[0]):
            weight = taps[t]
            shifted = source[r, t : t + width]
            for c in range(width):
                row[c] += weight * shifted[c]


@njit(cache=True, nogil=True, error_model="numpy")
def expose_rows(
    seed: int, source: Canvas, taps: Canvas, levels: Canvas, normal: Canvas, pixel: Integers, image: Bytes
) -> None:
    """Filter along columns, add shot noise, quantise: `source` [rows + 2 halo, width] into `image` [rows, width].

    `levels`: noise at full white, contrast, and the grey about which it acts; `pixel`: number of the first in the
    tissue, from which noise is hashed, so that any window shows the same.
    """
    height, width = image.shape
    total = np.empty(width, np.float32)
    scale, gain, pivot = levels
    low, high = np.float32(0.0), np.float32(255.0)
    for r in range(height):
        total[:] = 0.0
        for t in range(taps.shape[0]):
            weight = taps[t]
            row = source[r + t]
            for c in range(width):
                total[c] += weight * row[c]
        key = np.uint32(hash_at(seed, S_NOISE, pixel[0] + r, 0) >> np.uint64(32))
        line = image[r]
        column = np.uint32(pixel[1] & 0xFFFFFFFF)
        for c in range(width):
            value = max(pivot + gain * (total[c] - pivot), low)
            value += scale * np.sqrt(value) * pixel_noise(normal, key, column + np.uint32(c))
            line[c] = np.uint8(min(max(value * high + np.float32(0.5), low), high))
