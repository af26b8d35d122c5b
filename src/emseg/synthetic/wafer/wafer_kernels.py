"""The compiled loops of the wafer: outlines, tissue, background, dust and exposure.

Coordinates are (y, x) = (row, column) in pixels of the wafer, continuous; a pixel's centre lies at + 0.5. A section's
own frame is (u, v): u along its long side, v along its short one, from the middle of the box around it. A region is a
field that is positive inside and counts pixels from the border; coverage = clip(field + 1/2, 0, 1).
One long file on purpose: see `emseg.synthetic.shared_kernels`.
"""

import math

import numpy as np
from numba import njit

from emseg.synthetic.shared_kernels import Bytes, Canvas, Floats, Integers, hash_at, pixel_noise

Tables = tuple[Floats, Floats, Floats, Floats]
# Columns of the tables that describe a section. All lengths in pixels, directions as (along u, along v).
SIDE_U, SIDE_V, SIDE_REACH, SIDE_BOW, SIDE_ROUGH = range(5)  # a straight or bowed side
FOLD_U, FOLD_V, FOLD_OFFSET, FOLD_WIDTH, FOLD_BEND, FOLD_STEP, FOLD_RIM = range(7)
DISC_U, DISC_V, DISC_RADIUS, DISC_COS, DISC_SIN, DISC_SQUEEZE, DISC_PHASE = range(7)  # a chip or a hole
TEAR_U, TEAR_V, TEAR_COS, TEAR_SIN, TEAR_LENGTH, TEAR_MOUTH, TEAR_CROOK, TEAR_WAVE, TEAR_PHASE = range(9)
MARK_U, MARK_V, MARK_OFFSET, MARK_WIDTH, MARK_STEP = range(5)  # a knife mark: a thin line across the section
SPOT_X, SPOT_Y, SPOT_RADIUS, SPOT_STEP = range(4)  # a vessel, a pigment spot; the radius in section widths
# What a section looks like.
(
    LOOK_RESIN,
    LOOK_TISSUE,
    LOOK_GRAIN,
    LOOK_OPACITY,
    LOOK_RIM,
    LOOK_SHIFT_U,
    LOOK_SHIFT_V,
    LOOK_HALF_U,
    LOOK_HALF_V,
    LOOK_WEDGE_U,
    LOOK_WEDGE_V,
    LOOK_CHATTER,
) = range(12)
N_LOOK = 12
# The anatomy, in halves of the block: x along u, y along v, both in [-1, 1].
N_ANATOMY = 16
SCN, ZEBRAFISH, SLIVER = 0, 1, 2
S_NOISE = 1


@njit(cache=True, nogil=True, error_model="numpy")
def wrapped(texture: Canvas, y: float, x: float) -> float:
    """Return a periodic texture at any place, interpolated bilinearly."""
    n = texture.shape[0]
    fy, fx = math.floor(y), math.floor(x)
    ty, tx = np.float32(y - fy), np.float32(x - fx)
    i, j = np.int64(fy) % n, np.int64(fx) % n
    k, m = (i + 1 if i + 1 < n else 0), (j + 1 if j + 1 < n else 0)
    top = texture[i, j] + tx * (texture[i, m] - texture[i, j])
    low = texture[k, j] + tx * (texture[k, m] - texture[k, j])
    return np.float64(top + ty * (low - top))


@njit(cache=True, nogil=True, error_model="numpy")
def step_up(t: float) -> float:
    """Return 0 below 0, 1 above 1 and a smooth way between."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, nogil=True, error_model="numpy")
def gap_between(first: Floats, second: Floats) -> float:
    """Return by how much two rectangles are apart; negative: how deep they overlap (separating axes).

    A rectangle is (y, x, cos, sin, half u, half v) with u = (cos, sin) and v = (-sin, cos).
    """
    dy, dx = second[0] - first[0], second[1] - first[1]
    furthest = -1e30
    for turn in range(4):
        one = first if turn < 2 else second
        ay, ax = (one[2], one[3]) if turn % 2 == 0 else (-one[3], one[2])
        reach = 0.0
        for which in range(2):
            box = first if which == 0 else second
            reach += box[4] * abs(ay * box[2] + ax * box[3]) + box[5] * abs(-ay * box[3] + ax * box[2])
        furthest = max(furthest, abs(ay * dy + ax * dx) - reach)
    return furthest


@njit(cache=True, nogil=True, error_model="numpy")
def nearest_gap(boxes: Floats, placed: Floats, n_placed: int) -> float:
    """Return the smallest gap between any of `boxes` and the first `n_placed` of `placed`."""
    smallest = 1e30
    for a in range(boxes.shape[0]):
        one = boxes[a]
        reach = math.sqrt(one[4] * one[4] + one[5] * one[5])
        for b in range(n_placed):
            other = placed[b]
            dy, dx = other[0] - one[0], other[1] - one[1]
            far = reach + math.sqrt(other[4] * other[4] + other[5] * other[5])
            distance = math.sqrt(dy * dy + dx * dx) - far
            if distance < smallest:
                smallest = min(smallest, gap_between(one, other))
    return smallest


# One section.


@njit(cache=True, nogil=True, error_model="numpy")
def outline_field(
    u: float, v: float, side: Floats, disc: Floats, tear: Floats, flat_u: float, flat_v: float, rough: float
) -> float:
    """Return how far inside the section a place lies; `rough` in about [-2, 2] displaces its ragged sides."""
    field = 1e9
    for k in range(side.shape[0]):
        a, b = side[k, SIDE_U], side[k, SIDE_V]
        beside = b * flat_u - a * flat_v
        reach = side[k, SIDE_REACH] - a * flat_u - b * flat_v - side[k, SIDE_BOW] * beside * beside
        field = min(field, reach + side[k, SIDE_ROUGH] * rough)
    for k in range(disc.shape[0]):
        du, dv = u - disc[k, DISC_U], v - disc[k, DISC_V]
        x = disc[k, DISC_COS] * du + disc[k, DISC_SIN] * dv
        y = (disc[k, DISC_COS] * dv - disc[k, DISC_SIN] * du) / disc[k, DISC_SQUEEZE]
        away = math.sqrt(x * x + y * y)
        if away < 1.6 * disc[k, DISC_RADIUS] + 2.0:
            ragged = 1.0 + 0.16 * math.sin(3.0 * math.atan2(y, x) + disc[k, DISC_PHASE]) + 0.08 * rough
            field = min(field, away - disc[k, DISC_RADIUS] * ragged)
    for k in range(tear.shape[0]):
        du, dv = u - tear[k, TEAR_U], v - tear[k, TEAR_V]
        depth = tear[k, TEAR_COS] * du + tear[k, TEAR_SIN] * dv
        if depth < tear[k, TEAR_LENGTH] + 2.0:
            beside = tear[k, TEAR_COS] * dv - tear[k, TEAR_SIN] * du
            crook = tear[k, TEAR_CROOK] * math.sin(tear[k, TEAR_WAVE] * depth + tear[k, TEAR_PHASE])
            half = tear[k, TEAR_MOUTH] * (1.0 - max(depth, 0.0) / tear[k, TEAR_LENGTH])
            field = min(field, max(abs(beside - crook) - half, depth - tear[k, TEAR_LENGTH]))
    return field


@njit(cache=True, nogil=True, error_model="numpy")
def unfolded(u: float, v: float, fold: Floats) -> tuple[float, float, float]:
    """Return where a place was before what lies beyond a strip moved in, and how much lighter the strips make it."""
    flat_u, flat_v, light = u, v, 0.0
    for k in range(fold.shape[0]):
        a, b = fold[k, FOLD_U], fold[k, FOLD_V]
        beside = b * u - a * v
        away = a * u + b * v - fold[k, FOLD_OFFSET] - fold[k, FOLD_BEND] * beside * beside
        hidden = fold[k, FOLD_WIDTH] if away > 0.0 else -fold[k, FOLD_WIDTH]
        flat_u += a * hidden
        flat_v += b * hidden
        depth = 0.5 * fold[k, FOLD_WIDTH] - abs(away)
        light += fold[k, FOLD_STEP] * min(max(depth + 0.5, 0.0), 1.0)
        # One flank of the strip lies in shadow, the other catches light.
        rim = depth / max(0.7, 0.13 * fold[k, FOLD_WIDTH])
        light += fold[k, FOLD_RIM] * math.exp(-rim * rim) * (1.0 if away > 0.0 else -0.6)
    return flat_u, flat_v, light


@njit(cache=True, nogil=True, error_model="numpy")
def cover_section(
    frame: Floats, box: Integers, side: Floats, fold: Floats, disc: Floats, tear: Floats, texture: Canvas, shift: Floats
) -> Bytes:
    """Return how much of each pixel of `box` (first row, first column, rows, columns) the section covers, 0 to 255.

    `frame`: y, x, cos, sin, and the place (u, v) of the box's middle in the whole block.
    """
    cover = np.zeros((box[2], box[3]), np.uint8)
    for i in range(box[2]):
        dy = box[0] + i + 0.5 - frame[0]
        for j in range(box[3]):
            dx = box[1] + j + 0.5 - frame[1]
            u = frame[2] * dy + frame[3] * dx + frame[4]
            v = frame[2] * dx - frame[3] * dy + frame[5]
            flat_u, flat_v, _ = unfolded(u, v, fold)
            rough = wrapped(texture, u + shift[0], v + shift[1])
            field = outline_field(u, v, side, disc, tear, flat_u, flat_v, rough)
            cover[i, j] = np.uint8(255.0 * min(max(field + 0.5, 0.0), 1.0) + 0.5)
    return cover


@njit(cache=True, nogil=True, error_model="numpy")
def largest_contour(value: Canvas, level: float) -> Floats:
    """Return the contour (row, column) at `level` that encloses the most, [0, 2] where there is none.

    Marching squares: the walk keeps what exceeds `level` on its left, and inside corners that meet only across a square
    stay apart. The outermost rows and columns of `value` must not exceed `level`.
    """
    height, width = value.shape
    seen = np.zeros((height, width), np.bool_)
    best = np.empty((0, 2))
    most = 0.0
    point = np.empty((256, 2))
    for i in range(1, height - 1):
        for j in range(width - 1):
            if seen[i, j] or value[i, j] > level or value[i, j + 1] <= level:
                continue
            # A step down to the right is where a contour crosses upwards that no walk has met yet: follow it around.
            left_y, left_x, right_y, right_x, ahead_y, ahead_x = i, j + 1, i, j, 1, 0
            n, area = 0, 0.0
            while True:
                if ahead_y == 1:
                    if seen[right_y, right_x]:
                        break
                    seen[right_y, right_x] = True
                if n == point.shape[0]:
                    longer = np.empty((2 * n, 2))
                    longer[:n] = point
                    point = longer
                # The contour crosses the pair (left, right) at t, linearly; the shoelace formula adds up its area.
                t = (level - value[right_y, right_x]) / (value[left_y, left_x] - value[right_y, right_x])
                point[n, 0] = right_y + t * (left_y - right_y)
                point[n, 1] = right_x + t * (left_x - right_x)
                if n:
                    area += point[n - 1, 0] * point[n, 1] - point[n - 1, 1] * point[n, 0]
                n += 1
                if value[left_y + ahead_y, left_x + ahead_x] <= level:  # turn left
                    right_y, right_x = left_y + ahead_y, left_x + ahead_x
                    ahead_y, ahead_x = -ahead_x, ahead_y
                elif value[right_y + ahead_y, right_x + ahead_x] <= level:  # straight on
                    left_y, left_x = left_y + ahead_y, left_x + ahead_x
                    right_y, right_x = right_y + ahead_y, right_x + ahead_x
                else:  # turn right
                    left_y, left_x = right_y + ahead_y, right_x + ahead_x
                    ahead_y, ahead_x = ahead_x, -ahead_y
            area += point[n - 1, 0] * point[0, 1] - point[n - 1, 1] * point[0, 0]
            if 0.5 * area > most:
                most = 0.5 * area
                best = point[:n].copy()
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def ellipse(x: float, y: float, at_x: float, at_y: float, r_x: float, r_y: float) -> float:
    """Return 1 in the middle of an ellipse, 0 on its border, negative outside."""
    dx, dy = (x - at_x) / r_x, (y - at_y) / r_y
    return 1.0 - math.sqrt(dx * dx + dy * dy)


@njit(cache=True, nogil=True, error_model="numpy")
def scn_stain(x: float, y: float, p: Floats, lumps: float, grain: float, streaks: float) -> float:
    """Return the stain, 0 resin to about 1, of a frontal section through the suprachiasmatic nuclei.

    x runs from left to right, y from the back to the belly. `p`: half width of the tissue, its lower border, place and
    radii of the nuclei, half width and lower end of the ventricle, place and radii of the chiasm, stain of tissue,
    nuclei and chiasm.
    """
    warped_x, warped_y = x + 0.008 * lumps, y + 0.020 * lumps
    belly = p[1] - 0.30 * warped_x * warped_x + 0.10 * ellipse(warped_x, 0.0, 0.0, 0.0, p[9], 1.0)
    body = min(p[0] - abs(warped_x), min(belly - warped_y, warped_y + p[15]))
    inside = step_up(body / 0.05 + 0.5)
    if inside <= 0.0:
        return 0.0
    stain = p[11] + 0.05 * lumps + 0.12 * grain
    # Towards the side the tissue grows paler; towards the ventricle it holds more cells.
    stain += 0.10 * math.exp(-6.0 * abs(warped_x)) - 0.06 * abs(warped_x)
    chiasm = step_up(3.0 * ellipse(warped_x, warped_y, 0.0, p[8], p[9], p[10]) + 0.3)
    stain += chiasm * (p[13] + 0.14 * streaks)
    nucleus = step_up(2.6 * ellipse(abs(warped_x), warped_y, p[2], p[3], p[4], p[5]) + 0.45)
    stain += nucleus * (p[12] + 0.12 * grain)
    slit = p[6] * (0.55 + 0.6 * step_up((p[7] - warped_y) / 0.9))
    ventricle = min(slit - abs(warped_x), p[7] - warped_y)
    stain += 0.22 * math.exp(-abs(ventricle) / 0.018)
    stain *= 1.0 - step_up(ventricle / 0.02 + 0.5)
    return float(max(stain, 0.03) * inside)


@njit(cache=True, nogil=True, error_model="numpy")
def zebrafish_stain(x: float, y: float, p: Floats, lumps: float, grain: float, streaks: float) -> float:
    """Return the stain of a lengthwise section through the brain of a larval fish, from its nose (x < 0) to its tail.

    `p`: place and radii of forebrain, tectum, cerebellum and hindbrain; eyes: place, radius, stain.
    """
    round_x, round_y = x, abs(y)  # eyes are rounder than lobes
    x, y = x + 0.012 * lumps, y + 0.022 * lumps
    away = abs(y)
    fore = ellipse(x, away, p[0], 0.13, p[1], 0.24)
    tectum = ellipse(x, away, p[2], 0.24, p[3], p[4])
    cerebellum = ellipse(x, away, p[5], 0.0, 0.16, 0.40)
    hind = ellipse(x, away, p[6], 0.0, p[7], p[8] * (1.0 - 0.45 * step_up((x - p[6]) / p[7])))
    body = max(max(fore, tectum), max(cerebellum, hind))
    stain = 0.0
    inside = step_up(body / 0.10 + 0.5)
    if inside > 0.0:
        # Cell bodies lie dense along the midline and around the lobes, neuropil pale in their middle.
        stain = p[12] + 0.26 * math.exp(-max(body, 0.0) / 0.10) - 0.20 * step_up(2.2 * tectum - 0.45)
        stain += 0.30 * math.exp(-away / 0.055) + 0.06 * lumps + 0.16 * grain
        stain += 0.12 * streaks * step_up(4.0 * hind)
        between = min(tectum, 1.0) - max(fore, max(cerebellum, hind))
        stain += 0.16 * math.exp(-abs(between) / 0.05)
        stain = max(stain, 0.1) * inside
    if p[11] > 0.0:
        eye = ellipse(round_x, round_y, p[9], p[10], p[11] * 0.58, p[11])
        if eye > -0.15:
            ring = step_up(8.0 * eye + 0.5)
            retina = (
                0.42
                + 0.15 * grain
                + 0.62 * math.exp(-abs(eye - 0.10) / 0.07)
                + 0.25 * math.exp(-abs(eye - 0.42) / 0.05)
            )
            lens = step_up(7.0 * (eye - 0.66))
            retina += lens * (0.25 - retina)
            stain = stain * (1.0 - ring) + p[13] * retina * ring
    return stain


@njit(cache=True, nogil=True, error_model="numpy")
def paint_section(
    canvas: Canvas, frame: Floats, box: Integers, cover: Bytes, edge: Tables, inside: Tables, kind: int, texture: Canvas
) -> None:
    """Lay one section on the canvas.

    `edge`: its sides, folds, discs and tears; `inside`: knife marks, spots, look and anatomy.
    """
    (side, fold, disc, tear), (mark, spot, look, anatomy) = edge, inside
    half_u, half_v = look[LOOK_HALF_U], look[LOOK_HALF_V]
    step_period = 0.11 * half_u
    for i in range(box[2]):
        y = box[0] + i
        if y < 0 or y >= canvas.shape[0]:
            continue
        dy = y + 0.5 - frame[0]
        for j in range(box[3]):
            x = box[1] + j
            if cover[i, j] == 0 or x < 0 or x >= canvas.shape[1]:
                continue
            dx = x + 0.5 - frame[1]
            u = frame[2] * dy + frame[3] * dx + frame[4]
            v = frame[2] * dx - frame[3] * dy + frame[5]
            flat_u, flat_v, extra = unfolded(u, v, fold)
            # Anatomy is read on the flat section, so that it continues beyond a fold; each section has its own texture.
            lumps = wrapped(texture, 0.5 * flat_u + look[LOOK_SHIFT_U], 0.5 * flat_v + look[LOOK_SHIFT_V])
            grain = wrapped(texture, 1.7 * flat_u - look[LOOK_SHIFT_V], 1.7 * flat_v + look[LOOK_SHIFT_U])
            stain = 0.0
            streaks = wrapped(texture, 0.35 * flat_u, 2.4 * flat_v + look[LOOK_SHIFT_U])
            if kind == SCN:
                stain = scn_stain(flat_u / half_u, flat_v / half_v, anatomy, lumps, grain, streaks)
            elif kind == ZEBRAFISH:
                stain = zebrafish_stain(flat_u / half_u, flat_v / half_v, anatomy, lumps, grain, streaks)
            # Vessels (a pale target) and pigment (a darker one) replace the stain inside their disc.
            for k in range(spot.shape[0]):
                du, dv = flat_u - spot[k, SPOT_X] * half_u, flat_v - spot[k, SPOT_Y] * half_v
                away = math.sqrt(du * du + dv * dv)
                radius = spot[k, SPOT_RADIUS] * half_v
                if away < radius + 2.0:
                    inner = min(max(radius - away + 0.5, 0.0), 1.0)
                    target = stain + spot[k, SPOT_STEP] if spot[k, SPOT_STEP] > 0.0 else 0.06
                    stain += inner * (target - stain)
            # Grey: stain between resin and tissue, then what the knife left: grain, chatter, wedge, marks.
            grey = look[LOOK_RESIN] + stain * (look[LOOK_TISSUE] - look[LOOK_RESIN])
            grey += look[LOOK_GRAIN] * (0.6 * lumps + grain) + extra
            grey += look[LOOK_CHATTER] * math.sin(flat_v * (6.2832 / step_period))
            grey += look[LOOK_WEDGE_U] * u / half_u + look[LOOK_WEDGE_V] * v / half_v
            for k in range(mark.shape[0]):
                away = abs(mark[k, MARK_U] * u + mark[k, MARK_V] * v - mark[k, MARK_OFFSET])
                grey += mark[k, MARK_STEP] * min(max(mark[k, MARK_WIDTH] - away + 0.5, 0.0), 1.0)
            # The border is lighter or darker than the section, then the section is laid over what is there.
            rough = wrapped(texture, u + look[LOOK_SHIFT_U], v + look[LOOK_SHIFT_V])
            field = outline_field(u, v, side, disc, tear, flat_u, flat_v, rough)
            border = field / max(0.8, 0.012 * half_u)
            grey += look[LOOK_RIM] * math.exp(-border * border)
            share = look[LOOK_OPACITY] * cover[i, j] / 255.0
            canvas[y, x] += share * (grey - canvas[y, x])


# The ground and what falls on it.


@njit(cache=True, nogil=True, error_model="numpy")
def fill_ground(canvas: Canvas, coarse: Canvas, pitch: float, strip: Floats, texture: Canvas, grain: float) -> None:
    """Fill the canvas: smooth noise on nodes `pitch` apart, fine texture, and tape strips.

    `strip` rows: cos and sin of the direction across, middle, half width, grey, strength of its streaks.
    """
    height, width = canvas.shape
    n = texture.shape[0]
    row = np.empty(coarse.shape[1], np.float32)
    for y in range(height):
        fy = y / pitch
        i = int(fy)
        t = np.float32(fy - i)
        for b in range(coarse.shape[1]):
            row[b] = coarse[i, b] + t * (coarse[i + 1, b] - coarse[i, b])
        line = texture[y % n]
        for b in range(coarse.shape[1] - 1):
            first = math.ceil(b * pitch)
            last = min(math.ceil((b + 1) * pitch), width)
            slope = (row[b + 1] - row[b]) / np.float32(pitch)
            for x in range(first, last):
                canvas[y, x] = row[b] + slope * np.float32(x - b * pitch)
        for start in range(0, width, n):
            for x in range(min(n, width - start)):
                canvas[y, start + x] += np.float32(grain) * line[x]
        for k in range(strip.shape[0]):
            _lay_strip(canvas[y], y, strip[k], texture)


@njit(cache=True, nogil=True, error_model="numpy")
def _lay_strip(line: Canvas, y: int, strip: Floats, texture: Canvas) -> None:
    """Lay one tape strip on one row of the canvas."""
    c, s, middle, half, grey, streak = strip
    width, n = line.shape[0], texture.shape[0]
    first, last = 0, width
    base = c * (y + 0.5) - middle
    if abs(s) > 0.3:
        one, two = (-half - 2.0 - base) / s, (half + 2.0 - base) / s
        first, last = max(0, int(min(one, two))), min(width, int(max(one, two)) + 2)
    elif abs(base + s * 0.5 * width) > half + 2.0 + 0.5 * abs(s) * width:
        return
    along = y if abs(s) > 0.3 else 0
    for x in range(first, last):
        across = base + s * (x + 0.5)
        share = min(max(half - abs(across) + 0.5, 0.0), 1.0)
        if share > 0.0:
            # Scratches of the tape run along it, a fold of light lies at its edge.
            place = along if abs(s) > 0.3 else x
            scratch = texture[int(across + 1e6) % n, (place >> 4) % n]
            edge = (half - abs(across)) / (0.02 * half + 1.0)
            value = grey + streak * scratch + 0.05 * math.exp(-edge * edge) + 0.35 * (line[x] - 0.5)
            line[x] += np.float32(share) * (np.float32(value) - line[x])


@njit(cache=True, nogil=True, error_model="numpy")
def drop_specks(canvas: Canvas, speck: Floats) -> None:
    """Draw specks of dust; rows: y, x, radius, grey, opacity, raggedness, phase, squeeze."""
    for k in range(speck.shape[0]):
        y, x, radius, grey, opacity, ragged, phase, squeeze = speck[k]
        reach = int(radius * (1.0 + ragged) * 1.5 + 2.0)
        for i in range(max(0, int(y) - reach), min(canvas.shape[0], int(y) + reach + 1)):
            for j in range(max(0, int(x) - reach), min(canvas.shape[1], int(x) + reach + 1)):
                dy, dx = i + 0.5 - y, (j + 0.5 - x) * squeeze
                angle = math.atan2(dy, dx)
                border = radius * (1.0 + ragged * (math.sin(2.0 * angle + phase) + 0.7 * math.sin(5.0 * angle - phase)))
                share = min(max(border - math.sqrt(dy * dy + dx * dx) + 0.5, 0.0), 1.0) * opacity
                canvas[i, j] += np.float32(share) * (np.float32(grey) - canvas[i, j])


@njit(cache=True, nogil=True, error_model="numpy")
def draw_fibres(canvas: Canvas, piece: Floats) -> None:
    """Draw fibres as chains of straight pieces; rows: y0, x0, y1, x1, half width, grey, opacity."""
    for k in range(piece.shape[0]):
        y0, x0, y1, x1, half, grey, opacity = piece[k]
        length = max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-9)
        for i in range(max(0, int(min(y0, y1) - half - 2)), min(canvas.shape[0], int(max(y0, y1) + half + 3))):
            for j in range(max(0, int(min(x0, x1) - half - 2)), min(canvas.shape[1], int(max(x0, x1) + half + 3))):
                t = ((i + 0.5 - y0) * (y1 - y0) + (j + 0.5 - x0) * (x1 - x0)) / length
                t = min(max(t, 0.0), 1.0)
                dy, dx = i + 0.5 - y0 - t * (y1 - y0), j + 0.5 - x0 - t * (x1 - x0)
                share = min(max(half - math.sqrt(dy * dy + dx * dx) + 0.5, 0.0), 1.0) * opacity
                canvas[i, j] += np.float32(share) * (np.float32(grey) - canvas[i, j])


# The camera.


@njit(cache=True, nogil=True, error_model="numpy")
def expose_field(
    canvas: Canvas,
    image: Bytes,
    field: Integers,
    gain: float,
    shading: Canvas,
    taps: Canvas,
    noise: float,
    seed: int,
    normal: Canvas,
) -> None:
    """Take one picture of the mosaic: blur, shade, add noise, quantise into 8 bits.

    `field`: first row, past the last, first column, past the last, shift of the stage (rows, columns). `shading` is
    sampled on a square of nodes over the field; `taps` [3] blur along rows and columns.
    """
    r0, r1, c0, c1, down, right = field
    height, width = canvas.shape
    n = shading.shape[0] - 1
    middle, beside = taps[1], taps[0]
    blurred = np.empty(c1 - c0 + 2, np.float32)
    light = np.empty(c1 - c0, np.float32)
    scale = np.float32(noise * 255.0)
    for r in range(r0, r1):
        # Blur along columns into `blurred`, one pixel wider than the field, for the blur along rows below.
        at = min(max(r + down, 0), height - 1)
        above, below = canvas[max(at - 1, 0)], canvas[min(at + 1, height - 1)]
        here = canvas[at]
        for c in range(c1 - c0 + 2):
            x = min(max(c0 + c - 1 + right, 0), width - 1)
            blurred[c] = beside * (above[x] + below[x]) + middle * here[x]
        # Light of this row: the shading between its nodes.
        fy = (r - r0 + 0.5) / (r1 - r0) * n
        i = min(int(fy), n - 1)
        ty = np.float32(fy - i)
        for b in range(n):
            first, last = (c1 - c0) * b // n, (c1 - c0) * (b + 1) // n
            start = shading[i, b] + ty * (shading[i + 1, b] - shading[i, b])
            end = shading[i, b + 1] + ty * (shading[i + 1, b + 1] - shading[i, b + 1])
            slope = (end - start) / np.float32(max(last - first, 1))
            for c in range(first, last):
                light[c] = np.float32(255.0 * gain) * (start + slope * np.float32(c - first))
        key = np.uint32(hash_at(seed, S_NOISE, r, 0) >> np.uint64(32))
        line = image[r]
        for c in range(c1 - c0):
            value = light[c] * (beside * (blurred[c] + blurred[c + 2]) + middle * blurred[c + 1])
            value += scale * pixel_noise(normal, key, np.uint32(c0) + np.uint32(c))
            line[c0 + c] = np.uint8(min(max(value + np.float32(0.5), np.float32(1.0)), np.float32(255.0)))
