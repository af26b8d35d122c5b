"""The compiled loops of the drawing: smooth fields, cells and organelles, optics, shot noise.

`yw, xw` are warped coordinates, those of the packing; organelles live in them too.
"""

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
    hash_at,
    uniform_at,
)
from emseg.membrane.synthetic.tables import (
    CELL_GRAIN,
    CELL_GREY,
    CELL_RETICULUM,
    CELL_SHIFT_X,
    CELL_SHIFT_Y,
    MITO_A,
    MITO_AXIS_X,
    MITO_AXIS_Y,
    MITO_B,
    MITO_BEND,
    MITO_KEY,
    MITO_PERIOD,
    MITO_PHASE,
    MITO_X,
    MITO_Y,
    POOL_RADIUS,
    POOL_X,
    POOL_Y,
    TEXTURE_NM,
    TEXTURE_SIZE,
)

# Spacing of the nodes on which smooth fields are evaluated; between nodes they are interpolated bilinearly.
NODE_NM = 32.0
# Fields at a node, in this order.
YW, XW, DYY, DYX, DXY, DXX, SMEAR, SHADE, SYNAPSE, RETICULUM, RETICULUM_HERE = range(11)
N_FIELDS = 11
# Random streams: fields, vesicles, shot noise, cristae.
S_WARP_Y, S_WARP_X, S_WAVE_Y, S_WAVE_X, S_TILT, S_SHADE, S_SYNAPSE, S_RETICULUM, S_RETICULUM_HERE = range(7, 16)
S_VESICLE, S_NOISE, S_CRISTA = 17, 18, 19
S_FINE = 500  # added to a stream for a finer layer of the same field
PITCH_OF_TILT_NM, PITCH_OF_SYNAPSES_NM, PITCH_OF_RETICULUM_HERE_NM = 450.0, 330.0, 700.0
ORGANELLE_MITOCHONDRION, ORGANELLE_VESICLE, ORGANELLE_RETICULUM = 1, 2, 3
VESICLE_PITCH_NM, LARGEST_VESICLE_NM = 58.0, 30.0
MAX_NEAR, MAX_MITOCHONDRIA, MAX_VESICLES = 64, 16, 64


@njit(cache=True, nogil=True, error_model="numpy")
def node_fields(
    seed: int, first_i: int, first_j: int, n_i: int, n_j: int, p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the smooth fields on nodes, [n_i, n_j, N_FIELDS].

    `p`: pitch and height of the warp, pitch and height of the ripple, section thickness, tilt (radians), largest smear,
    pitch and height of the shading, threshold of synapses, pitch and threshold of the reticulum.
    """
    out = np.zeros((n_i, n_j, N_FIELDS))
    raw = np.empty((n_i + 2, n_j + 2, 3))  # warped y, warped x, reticulum; one node more on each side for slopes
    for a in range(n_i + 2):
        y = (first_i + a - 1) * NODE_NM
        for b in range(n_j + 2):
            x = (first_j + b - 1) * NODE_NM
            u, v = y / p[0], x / p[0]
            s, t = y / p[2], x / p[2]
            raw[a, b, 0] = y + p[1] * gradient_noise(seed, S_WARP_Y, u, v) + p[3] * gradient_noise(seed, S_WAVE_Y, s, t)
            raw[a, b, 1] = x + p[1] * gradient_noise(seed, S_WARP_X, u, v) + p[3] * gradient_noise(seed, S_WAVE_X, s, t)
            raw[a, b, 2] = gradient_noise(seed, S_RETICULUM, y / p[10], x / p[10])
    for a in range(n_i):
        y = (first_i + a) * NODE_NM
        for b in range(n_j):
            x = (first_j + b) * NODE_NM
            node = out[a, b]
            node[YW], node[XW] = raw[a + 1, b + 1, 0], raw[a + 1, b + 1, 1]
            node[DYY] = (raw[a + 2, b + 1, 0] - raw[a, b + 1, 0]) / (2.0 * NODE_NM)
            node[DYX] = (raw[a + 1, b + 2, 0] - raw[a + 1, b, 0]) / (2.0 * NODE_NM)
            node[DXY] = (raw[a + 2, b + 1, 1] - raw[a, b + 1, 1]) / (2.0 * NODE_NM)
            node[DXX] = (raw[a + 1, b + 2, 1] - raw[a + 1, b, 1]) / (2.0 * NODE_NM)
            angle = 4.0 * abs(gradient_noise(seed, S_TILT, y / PITCH_OF_TILT_NM, x / PITCH_OF_TILT_NM)) * p[5]
            node[SMEAR] = min(p[4] * math.tan(min(angle, 1.3)), p[6])
            node[SHADE] = p[8] * (
                gradient_noise(seed, S_SHADE, y / p[7], x / p[7])
                + 0.5 * gradient_noise(seed, S_SHADE + S_FINE, y / (0.2 * p[7]), x / (0.2 * p[7]))
            )
            synapse = gradient_noise(seed, S_SYNAPSE, y / PITCH_OF_SYNAPSES_NM, x / PITCH_OF_SYNAPSES_NM)
            node[SYNAPSE] = min(max((synapse - p[9]) * 6.0, 0.0), 1.0)
            slope_y = (raw[a + 2, b + 1, 2] - raw[a, b + 1, 2]) / (2.0 * NODE_NM)
            slope_x = (raw[a + 1, b + 2, 2] - raw[a + 1, b, 2]) / (2.0 * NODE_NM)
            slope = max(math.hypot(slope_y, slope_x), 0.3 / p[10])
            node[RETICULUM] = min(max(raw[a + 1, b + 1, 2] / slope, -300.0), 300.0)
            far = PITCH_OF_RETICULUM_HERE_NM
            here = gradient_noise(seed, S_RETICULUM_HERE, y / far, x / far)
            node[RETICULUM_HERE] = min(max((here - p[11]) * 8.0, 0.0), 1.0)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _bilinear_wrapped(texture: NDArray[np.float32], y: float, x: float) -> float:
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
def _bump(distance: float, width: float) -> float:
    """Return a smooth bump of height 1 at zero that ends at 2 `width` (a parabola squared, close to a Gaussian)."""
    t = distance / (2.0 * width)
    t = 1.0 - t * t
    return t * t if t > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _mitochondrion(seed: int, m: NDArray[np.float64], y: float, x: float, soft: float) -> tuple[float, float, float]:
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
        shell = max(_bump(depth - 4.0, 3.5), _bump(depth - 17.0, 3.5))
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
        dark = max(dark, 0.5 + 0.45 * _bump(off, max(4.5, 0.7 * soft)))
    return depth, cover, dark


@njit(cache=True, nogil=True, error_model="numpy")
def _square(
    f00: NDArray[np.float64], f01: NDArray[np.float64], f10: NDArray[np.float64], f11: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return the warped middle of a square of nodes, its half diagonal, and how fast a gap between distances can grow.

    That is twice the largest singular value of the warp's Jacobian at the corners.
    """
    mid_y = 0.25 * (f00[YW] + f01[YW] + f10[YW] + f11[YW])
    mid_x = 0.25 * (f00[XW] + f01[XW] + f10[XW] + f11[XW])
    spread = 0.0
    square = 0.0
    for f in (f00, f01, f10, f11):
        spread = max(spread, math.hypot(f[YW] - mid_y, f[XW] - mid_x))
        trace = f[DYY] ** 2 + f[DYX] ** 2 + f[DXY] ** 2 + f[DXX] ** 2
        det = f[DYY] * f[DXX] - f[DYX] * f[DXY]
        square = max(square, 0.5 * (trace + math.sqrt(max(trace * trace - 4.0 * det * det, 0.0))))
    return mid_y, mid_x, spread, 2.0 * math.sqrt(square)


@njit(cache=True, nogil=True, error_model="numpy")
def _near_cells(
    y: float,
    x: float,
    slack: float,
    candidates: NDArray[np.int32],
    site: NDArray[np.float64],
    near: NDArray[np.int64],
    near_d: NDArray[np.float64],
    local: NDArray[np.float64],
) -> int:
    """Gather in `near` and `local` the cells at most `slack` further than the nearest; return their number."""
    n_near = 0
    best = 1e30
    for k in candidates:
        d = distance_to_axis(y, x, site[k]) - site[k, RADIUS]
        if d < best + slack and n_near < MAX_NEAR:
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
def _nearest_two(
    y: float,
    x: float,
    n_near: int,
    local: NDArray[np.float64],
    off_y: NDArray[np.float64],
    off_x: NDArray[np.float64],
    dist: NDArray[np.float64],
    below: NDArray[np.float64],
) -> tuple[int, int, float, float]:
    """Return the two nearest cells and their signed distances; fill all offsets from the axes and distances."""
    first = second = 0
    inside = next_inside = 1e30
    for n in range(n_near):
        dy, dx = y - local[n, SITE_Y], x - local[n, SITE_X]
        along = dy * local[n, AXIS_Y] + dx * local[n, AXIS_X]
        along = min(max(along, -local[n, HALF_LENGTH]), local[n, HALF_LENGTH])
        dy -= along * local[n, AXIS_Y]
        dx -= along * local[n, AXIS_X]
        off_y[n], off_x[n] = dy, dx
        dist[n] = math.sqrt(dy * dy + dx * dx)
        below[n] = dist[n] - local[n, RADIUS]
        if below[n] < inside:
            next_inside, second = inside, first
            inside, first = below[n], n
        elif below[n] < next_inside:
            next_inside, second = below[n], n
    return first, second, inside, next_inside


@njit(cache=True, nogil=True, error_model="numpy")
def _boundary(
    first: int,
    second: int,
    n_near: int,
    influence: float,
    stretch: float,
    slopes: NDArray[np.float64],
    off_y: NDArray[np.float64],
    off_x: NDArray[np.float64],
    dist: NDArray[np.float64],
    below: NDArray[np.float64],
) -> tuple[float, int]:
    """Return the distance to the nearest boundary of cell `first` in nm of the section, and the cell beyond it.

    It is the least of |d_n - d_first| / |J^T (u_n - u_first)|, where u are unit vectors away from the axes and J, in
    `slopes` by rows, is the warp's Jacobian. `influence` stands for all that is further.
    """
    s = influence
    beyond = first
    own = 1.0 / max(dist[first], 1e-9)
    for turn in range(-1, n_near):  # the second nearest first: it mostly settles the matter
        n = second if turn < 0 else turn
        gap = below[n] - below[first]
        if n == first or turn == second or gap >= s * stretch:
            continue
        other = 1.0 / max(dist[n], 1e-9)
        gy = off_y[n] * other - off_y[first] * own
        gx = off_x[n] * other - off_x[first] * own
        uy, ux = gy * slopes[0] + gx * slopes[2], gy * slopes[1] + gx * slopes[3]
        slope = uy * uy + ux * ux
        if gap * gap < s * s * slope:
            s = gap / math.sqrt(slope)
            beyond = n
    return s, beyond


@njit(cache=True, nogil=True, error_model="numpy")
def _gather_vesicles(
    seed: int,
    mid_y: float,
    mid_x: float,
    spread: float,
    look: NDArray[np.float64],
    capsule: NDArray[np.float64],
    mitochondria: NDArray[np.float64],
    half_thickness: float,
    vesicle: NDArray[np.float64],
    n_vesicle: int,
) -> int:
    """Append to `vesicle` (y, x, radius) those of a cell's pool that reach into a square; return the new number."""
    reach = spread + LARGEST_VESICLE_NM
    for i in range(math.floor((mid_y - reach) / VESICLE_PITCH_NM), math.floor((mid_y + reach) / VESICLE_PITCH_NM) + 1):
        for j in range(
            math.floor((mid_x - reach) / VESICLE_PITCH_NM), math.floor((mid_x + reach) / VESICLE_PITCH_NM) + 1
        ):
            y = (i + 0.15 + 0.7 * uniform_at(seed, S_VESICLE, i, j)) * VESICLE_PITCH_NM
            x = (j + 0.15 + 0.7 * uniform_at(seed, S_VESICLE + 100, i, j)) * VESICLE_PITCH_NM
            radius = 15.0 + 9.0 * uniform_at(seed, S_VESICLE + 200, i, j)
            out = math.hypot(y - look[POOL_Y], x - look[POOL_X]) / look[POOL_RADIUS]
            depth = capsule[RADIUS] - distance_to_axis(y, x, capsule)
            free = uniform_at(seed, S_VESICLE + 300, i, j) <= 1.0 - out * out and n_vesicle < MAX_VESICLES
            free = free and depth >= radius + half_thickness + 6.0
            for m in mitochondria:
                free = free and _mitochondrion(seed, m, y, x, 3.0)[0] <= -radius - 6.0
            if free:
                vesicle[n_vesicle, 0], vesicle[n_vesicle, 1], vesicle[n_vesicle, 2] = y, x, radius
                n_vesicle += 1
    return n_vesicle


@njit(cache=True, nogil=True, error_model="numpy")
def draw_band(
    seed: int,
    fields: NDArray[np.float64],
    first_node: NDArray[np.int64],
    pixel_nm: float,
    corner: NDArray[np.float64],
    row_start: int,
    halo: int,
    site: NDArray[np.float64],
    cell: NDArray[np.float64],
    mito_start: NDArray[np.int64],
    mito: NDArray[np.float64],
    bucket_start: NDArray[np.int64],
    bucket_index: NDArray[np.int32],
    bucket_origin: NDArray[np.float64],
    bucket_pitch: float,
    bucket_shape: NDArray[np.int64],
    profile: NDArray[np.float32],
    smear_step: float,
    half_thickness: float,
    texture: NDArray[np.float32],
    depths: NDArray[np.float64],
    grey: NDArray[np.float32],
    membrane: NDArray[np.bool_],
    cells: NDArray[np.int32],
    organelles: NDArray[np.uint8],
    ids: NDArray[np.int32],
    next_id: int,
) -> int:
    """Draw the rows of one band of node squares; return the next free cell id.

    `grey` [rows, width + 2 halo] receives the picture before optics, `membrane`, `cells`, `organelles` (whole window)
    the truth. `corner` is the position of the corner of pixel (0, 0) of `grey`'s frame, whose rows start at
    `row_start`. `profile` [smear, s] is the stain across a membrane at s nm from its middle; `depths` the grey drops of
    membrane, synapse, mitochondrion, vesicle, reticulum.
    """
    n_rows, n_cols = grey.shape
    height, width = membrane.shape
    furthest = np.float64(profile.shape[1] - 2)
    upright = furthest - 0.5 * smear_step * (profile.shape[0] - 1)
    soft = max(3.0, 0.6 * pixel_nm)
    near = np.empty(MAX_NEAR, np.int64)
    near_d = np.empty(MAX_NEAR)
    local = np.empty((MAX_NEAR, N_SITE))
    off_y, off_x, dist, below = np.empty(MAX_NEAR), np.empty(MAX_NEAR), np.empty(MAX_NEAR), np.empty(MAX_NEAR)
    near_mito = np.empty(MAX_MITOCHONDRIA, np.int64)
    vesicle = np.empty((MAX_VESICLES, 3))
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
            f00, f01, f10, f11 = fields[a, b], fields[a, b + 1], fields[a + 1, b], fields[a + 1, b + 1]
            influence = upright + 0.5 * max(max(f00[SMEAR], f01[SMEAR]), max(f10[SMEAR], f11[SMEAR]))
            if max(max(f00[SYNAPSE], f01[SYNAPSE]), max(f10[SYNAPSE], f11[SYNAPSE])) > 0.0:
                influence = furthest
            mid_y, mid_x, spread, stretch = _square(f00, f01, f10, f11)
            cutoff = influence * stretch
            bucket_y = min(max(math.floor((mid_y - bucket_origin[0]) / bucket_pitch), 0), bucket_shape[0] - 1)
            bucket_x = min(max(math.floor((mid_x - bucket_origin[1]) / bucket_pitch), 0), bucket_shape[1] - 1)
            bucket = bucket_y * bucket_shape[1] + bucket_x
            candidates = bucket_index[bucket_start[bucket] : bucket_start[bucket + 1]]
            n_near = _near_cells(mid_y, mid_x, 2.0 * spread + cutoff, candidates, site, near, near_d, local)
            n_mito = 0
            n_vesicle = 0
            reticulum = False
            for n in range(n_near):
                k = near[n]
                reticulum = reticulum or cell[k, CELL_RETICULUM] > 0.0
                for q in range(mito_start[k], mito_start[k + 1]):
                    away = math.hypot(mito[q, MITO_Y] - mid_y, mito[q, MITO_X] - mid_x)
                    if away < 1.15 * mito[q, MITO_A] + spread + 10.0 and n_mito < MAX_MITOCHONDRIA:
                        near_mito[n_mito] = q
                        n_mito += 1
                away = math.hypot(cell[k, POOL_Y] - mid_y, cell[k, POOL_X] - mid_x)
                if cell[k, POOL_RADIUS] > 0.0 and away < cell[k, POOL_RADIUS] + spread + LARGEST_VESICLE_NM:
                    own = mito[mito_start[k] : mito_start[k + 1]]
                    n_vesicle = _gather_vesicles(
                        seed, mid_y, mid_x, spread, cell[k], local[n], own, half_thickness, vesicle, n_vesicle
                    )
            for r in range(r_lo, r_hi):
                fy = (corner[0] + (r + 0.5) * pixel_nm - node_y) / NODE_NM
                fx0 = (corner[1] + (c_lo + 0.5) * pixel_nm - node_x) / NODE_NM
                texture_y = (corner[0] + (r + 0.5) * pixel_nm) / TEXTURE_NM
                for c in range(c_lo, c_hi):
                    fx = fx0 + (c - c_lo) * (pixel_nm / NODE_NM)
                    w00, w01 = (1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx
                    w10, w11 = fy * (1.0 - fx), fy * fx
                    y = w00 * f00[YW] + w01 * f01[YW] + w10 * f10[YW] + w11 * f11[YW]
                    x = w00 * f00[XW] + w01 * f01[XW] + w10 * f10[XW] + w11 * f11[XW]
                    first, second, inside, next_inside = _nearest_two(y, x, n_near, local, off_y, off_x, dist, below)
                    s = influence
                    beyond = first
                    if next_inside - inside < cutoff:
                        for q in range(4):
                            slopes[q] = w00 * f00[DYY + q] + w01 * f01[DYY + q]
                            slopes[q] += w10 * f10[DYY + q] + w11 * f11[DYY + q]
                        s, beyond = _boundary(
                            first, second, n_near, influence, stretch, slopes, off_y, off_x, dist, below
                        )
                    k = near[first]
                    look = cell[k]
                    grain = _bilinear_wrapped(
                        texture,
                        texture_y + look[CELL_SHIFT_Y],
                        (corner[1] + (c + 0.5) * pixel_nm) / TEXTURE_NM + look[CELL_SHIFT_X],
                    )
                    value = look[CELL_GREY] + look[CELL_GRAIN] * grain
                    value += w00 * f00[SHADE] + w01 * f01[SHADE] + w10 * f10[SHADE] + w11 * f11[SHADE]
                    label = 0
                    depth = -inside
                    if reticulum and look[CELL_RETICULUM] > 0.0 and depth > half_thickness + 30.0:
                        here = w00 * f00[RETICULUM_HERE] + w01 * f01[RETICULUM_HERE]
                        here += w10 * f10[RETICULUM_HERE] + w11 * f11[RETICULUM_HERE]
                        if here > 0.0:
                            t = (
                                w00 * f00[RETICULUM]
                                + w01 * f01[RETICULUM]
                                + w10 * f10[RETICULUM]
                                + w11 * f11[RETICULUM]
                            )
                            t = abs(t)
                            here *= min(1.0, (depth - half_thickness - 30.0) / 20.0)
                            if t < 40.0:
                                value -= depths[4] * here * _bump(t - 15.0, soft * 1.1)
                                if t < 8.0:
                                    value += 0.08 * depths[4] * here
                            if t < 19.0 and here > 0.5:
                                label = ORGANELLE_RETICULUM
                    for n in range(n_vesicle):
                        dy, dx = y - vesicle[n, 0], x - vesicle[n, 1]
                        square = dy * dy + dx * dx
                        if square < (vesicle[n, 2] + 9.0) ** 2:
                            t = math.sqrt(square)
                            value -= depths[3] * (
                                _bump(t - vesicle[n, 2] + 4.0, soft) - (0.25 if t < vesicle[n, 2] - 7.0 else 0.0)
                            )
                            if t < vesicle[n, 2]:
                                label = ORGANELLE_VESICLE
                    for n in range(n_mito):
                        t, cover, dark = _mitochondrion(seed, mito[near_mito[n]], y, x, soft)
                        if cover > 0.0:
                            value += cover * (
                                look[CELL_GREY] - depths[2] * dark - value + 0.6 * look[CELL_GRAIN] * grain
                            )
                            if t > 0.0:
                                label = ORGANELLE_MITOCHONDRION
                    is_membrane = s < half_thickness
                    if s < influence:
                        smear = w00 * f00[SMEAR] + w01 * f01[SMEAR] + w10 * f10[SMEAR] + w11 * f11[SMEAR]
                        row = np.int64(smear / smear_step)
                        column = np.int64(s)
                        stain = profile[row, column]
                        stain += (s - column) * (profile[row, column + 1] - stain)
                        value -= depths[0] * stain
                        synapse = w00 * f00[SYNAPSE] + w01 * f01[SYNAPSE] + w10 * f10[SYNAPSE] + w11 * f11[SYNAPSE]
                        if synapse > 0.0:
                            t = s if look[CELL_SHIFT_Y] > cell[near[beyond], CELL_SHIFT_Y] else 2.0 * s
                            t = 1.0 - t / furthest
                            if t > 0.0:
                                value -= depths[1] * synapse * t * t
                    grey[r - row_start, c] = value
                    i, j = r - halo, c - halo
                    if 0 <= i < height and 0 <= j < width:
                        if is_membrane:
                            membrane[i, j] = True
                            cells[i, j] = 0
                            organelles[i, j] = 0
                        else:
                            if ids[k] == 0:
                                ids[k] = next_id
                                next_id += 1
                            membrane[i, j] = False
                            cells[i, j] = ids[k]
                            organelles[i, j] = label
    return next_id


@njit(cache=True, nogil=True, error_model="numpy")
def blur_columns(source: NDArray[np.float32], taps: NDArray[np.float32], target: NDArray[np.float32]) -> None:
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
    seed: int,
    source: NDArray[np.float32],
    taps: NDArray[np.float32],
    noise: float,
    contrast: float,
    middle: float,
    first_pixel: NDArray[np.int64],
    normal: NDArray[np.float32],
    image: NDArray[np.uint8],
) -> None:
    """Filter along columns, add shot noise, quantise: `source` [rows + 2 halo, width] into `image` [rows, width]."""
    height, width = image.shape
    total = np.empty(width, np.float32)
    scale = np.float32(noise)
    gain, pivot = np.float32(contrast), np.float32(middle)
    low, high = np.float32(0.0), np.float32(255.0)
    bits = np.uint32(0xFFF)
    for r in range(height):
        total[:] = 0.0
        for t in range(taps.shape[0]):
            weight = taps[t]
            row = source[r + t]
            for c in range(width):
                total[c] += weight * row[c]
        key = np.uint32(hash_at(seed, S_NOISE, first_pixel[0] + r, 0) >> np.uint64(32))
        line = image[r]
        column = np.uint32(first_pixel[1] & 0xFFFFFFFF)
        for c in range(width):
            h = (column + np.uint32(c)) * np.uint32(0x9E3779B1) ^ key
            h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
            h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
            h = h ^ (h >> np.uint32(16))
            value = max(pivot + gain * (total[c] - pivot), low)
            deviate = normal[h & bits] + normal[(h >> np.uint32(12)) & bits]
            value += scale * np.sqrt(value) * deviate
            line[c] = np.uint8(min(max(value * high + np.float32(0.5), low), high))
