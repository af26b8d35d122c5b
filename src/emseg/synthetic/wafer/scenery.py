"""What a section looks like, and everything on a wafer image other than sections.

The look of a section, its greys and its anatomy, changes slowly from one section to the next and does not reveal its
class: stain, thickness, grain, vessels and knife marks are drawn for every section alike.

    SCN         a broad block: two cell-dense nuclei next to the ventricle, the optic chiasm below
    zebrafish   a slender brain of lobes between two eyes, in much empty resin

Sections are darker than bright silicon and lighter than tape, as in the pictures of wafers that we know. Around them
are the ground, its tape, slivers, dust and fibres; the picture is a mosaic of fields, each with its own light.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from emseg.synthetic.shared_kernels import Bytes, Canvas, Floats, Integers
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.layout import Placed, Strip
from emseg.synthetic.wafer.section_shape import Shape, draw_shape, random_sign
from emseg.synthetic.wafer.wafer_design import Scene

FIELD_LENGTHS = 7.0  # a picture of the mosaic, in section lengths
TISSUE_KINDS = {"scn": kernels.SCN, "zebrafish": kernels.ZEBRAFISH}


@dataclass(frozen=True)
class Stain:
    """The greys of a whole wafer, 0 black to 1 white."""

    ground: float
    resin: float
    tissue: float


@dataclass(frozen=True)
class Look:
    """The tables of one section that the kernels read."""

    look: Floats
    anatomy: Floats
    mark: Floats
    spot: Floats
    fold: Floats


def draw_stain(design: Scene, rng: Generator) -> Stain:
    """Draw the greys of a wafer."""
    if design.background == "silicon":
        resin = rng.uniform(0.34, 0.46)
        return Stain(rng.uniform(0.74, 0.82), resin, resin - rng.uniform(0.25, 0.32))
    resin = rng.uniform(0.56, 0.66)
    return Stain(rng.uniform(0.24, 0.33), resin, resin - rng.uniform(0.20, 0.30))


def draw_look(design: Scene, stain: Stain, shape: Shape, depth: float, rng: Generator) -> Look:
    """Draw the look of a section that lies at `depth` (0 to 1) in the block."""
    half_u, half_v = shape.block
    thin = rng.normal(0.0, 0.035) + (rng.uniform(0.06, 0.16) if rng.random() < 0.08 else 0.0)
    if design.background == "tape":
        thin = -thin
    contrast = rng.uniform(0.75, 1.2)
    look = np.zeros(kernels.N_LOOK)
    look[kernels.LOOK_RESIN] = stain.resin + thin
    look[kernels.LOOK_TISSUE] = stain.resin + thin + contrast * (stain.tissue - stain.resin)
    look[kernels.LOOK_GRAIN] = rng.uniform(0.004, 0.010)
    look[kernels.LOOK_OPACITY] = 0.94
    look[kernels.LOOK_RIM] = rng.normal(0.0, 0.05)
    look[[kernels.LOOK_SHIFT_U, kernels.LOOK_SHIFT_V]] = rng.uniform(0, 4096, 2)
    look[kernels.LOOK_HALF_U], look[kernels.LOOK_HALF_V] = half_u, half_v
    look[[kernels.LOOK_WEDGE_U, kernels.LOOK_WEDGE_V]] = rng.normal(0.0, 0.018, 2)
    look[kernels.LOOK_CHATTER] = rng.uniform(0.008, 0.02) if rng.random() < 0.15 else 0.0
    fold = shape.fold.copy()
    for strip in fold:
        lighter = rng.random() < 0.5 if design.fold_tone == "either" else design.fold_tone == "lighter"
        if design.background == "silicon":
            strip[kernels.FOLD_STEP] = rng.uniform(0.14, 0.26) if lighter else -rng.uniform(0.11, 0.17)
        else:
            strip[kernels.FOLD_STEP] = rng.uniform(0.13, 0.24) if lighter else -rng.uniform(0.15, 0.25)
        strip[kernels.FOLD_RIM] = random_sign(rng) * rng.uniform(0.06, 0.13)
    anatomy = _scn(depth, rng) if design.tissue == "scn" else _zebrafish(depth, rng)
    return Look(look, anatomy, _knife_marks(half_u, rng), _spots(design.tissue, rng), fold)


def _scn(depth: float, rng: Generator) -> Floats:
    middle = math.sin(math.pi * min(max(depth, 0.0), 1.0))
    p = np.zeros(kernels.N_ANATOMY)
    p[0], p[1], p[15] = rng.uniform(0.82, 0.88), 0.86 + rng.normal(0.0, 0.02), rng.uniform(0.84, 0.90)
    p[2:6] = 0.20 + 0.03 * middle, 0.30, 0.12 + 0.035 * middle, 0.18 + 0.07 * middle
    p[6:8] = 0.045 + 0.02 * (1 - middle), 0.38
    p[8:11] = 0.64, 0.30 + 0.20 * middle, 0.12 + 0.04 * middle
    p[11:14] = 0.36, 0.34 + 0.20 * middle, 0.16 + 0.14 * middle
    p[2:11] *= rng.normal(1.0, 0.02, 9)
    return p


def _zebrafish(depth: float, rng: Generator) -> Floats:
    middle = math.sin(math.pi * min(max(depth, 0.0), 1.0))
    size = 0.72 + 0.28 * middle
    p = np.zeros(kernels.N_ANATOMY)
    p[0:2] = -0.46, 0.20 * size
    p[2:5] = -0.08, 0.27 * size, 0.34 * size
    p[5] = 0.20
    p[6:9] = 0.46, 0.40 * size, 0.30 * size
    p[9:12] = -0.36, 0.60, 0.15 + 0.12 * middle if middle > 0.3 else 0.0
    p[12], p[13] = 0.50, 1.05
    p[:11] *= rng.normal(1.0, 0.015, 11)
    return p


def _knife_marks(half_u: float, rng: Generator) -> Floats:
    """Draw scratches of the knife, which run as the section was cut: across its long side."""
    count = int(rng.choice([0, 1, 2], p=[0.62, 0.26, 0.12]))
    marks = np.zeros((count, 5))
    for mark in marks:
        angle = rng.normal(0.0, 0.05)
        mark[:2] = math.cos(angle), math.sin(angle)
        mark[2:4] = rng.uniform(-0.9, 0.9) * half_u, rng.uniform(0.004, 0.014) * half_u
        mark[4] = random_sign(rng) * rng.uniform(0.04, 0.09)
    return marks


def _spots(tissue: str, rng: Generator) -> Floats:
    """Draw vessels (pale, as if there were a hole) and dark cells or pigment."""
    spots = np.zeros((int(rng.integers(0, 7 if tissue == "scn" else 8)), 4))
    for spot in spots:
        if tissue == "scn":
            spot[:3] = rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.4), rng.uniform(0.02, 0.055)
            spot[3] = -1.0 if rng.random() < 0.7 else 0.35
        else:
            spot[:3] = rng.uniform(-0.7, 0.8), rng.normal(0.0, 0.25), rng.uniform(0.02, 0.05)
            spot[3] = rng.uniform(0.3, 0.7)
    return spots


def draw_texture(length: float, rng: Generator) -> Canvas:
    """Return a periodic texture, mean 0 and deviation 1: lumps down to the pixel, a section and a quarter wide."""
    n = max(48, round(1.28 * length))
    texture = np.zeros((n, n))
    for parts, weight in ((8, 0.45), (18, 0.5), (40, 0.6), (90, 0.7)):
        cells = min(parts, n // 2)
        nodes = rng.standard_normal((cells, cells))
        place = np.arange(n) / n * cells
        low = np.floor(place).astype(int)
        t = place - low
        t = t * t * (3 - 2 * t)
        rows = nodes[low % cells] * (1 - t)[:, None] + nodes[(low + 1) % cells] * t[:, None]
        texture += weight * (rows[:, low % cells] * (1 - t) + rows[:, (low + 1) % cells] * t)
    texture -= texture.mean()
    return np.ascontiguousarray(texture / texture.std(), dtype=np.float32)


def draw_ground(design: Scene, strips: list[Strip], stain: Stain, texture: Canvas, rng: Generator) -> Canvas:
    """Return the empty wafer."""
    pitch = max(8.0, 0.4 * design.section_length_px)
    rows, columns = math.ceil(design.height / pitch) + 2, math.ceil(design.width / pitch) + 2
    fine = rng.standard_normal((rows, columns), dtype=np.float32)
    broad = rng.standard_normal((rows // 6 + 2, columns // 6 + 2), dtype=np.float32)
    i, j = np.arange(rows) / 6, np.arange(columns) / 6
    a, b = i.astype(int), j.astype(int)
    s, t = (i - a)[:, None].astype(np.float32), (j - b)[None, :].astype(np.float32)
    upper = broad[a][:, b] * (1 - t) + broad[a][:, b + 1] * t
    lower = broad[a + 1][:, b] * (1 - t) + broad[a + 1][:, b + 1] * t
    canvas = np.empty((design.height, design.width), dtype=np.float32)
    ground = stain.ground
    table = np.zeros((len(strips), 6))
    if strips:
        ground = 0.5 + rng.uniform(0.05, 0.2)  # bare silicon between the strips
        for row, strip in zip(table, strips, strict=True):
            grey = stain.ground + rng.normal(0.0, 0.012)
            row[:] = *strip.direction, strip.middle, strip.half, grey, rng.uniform(0.006, 0.014)
    coarse = np.float32(ground) + np.float32(0.007) * fine + np.float32(0.018) * (upper * (1 - s) + lower * s)
    kernels.fill_ground(canvas, np.ascontiguousarray(coarse), pitch, table, texture, 0.003)
    return canvas


def lay_slivers(
    canvas: Canvas, design: Scene, stain: Stain, placed: list[Placed], texture: Canvas, rng: Generator
) -> None:
    """Draw thin slices without tissue, some next to sections; the sections come on top of them."""
    length = design.section_length_px
    for _ in range(int(rng.poisson(0.09 * len(placed) * min(design.dust, 2.0)))):
        shape = draw_shape("good", length * rng.uniform(0.4, 0.95), length * rng.uniform(0.05, 0.11), None, 0.0, rng)
        y, x, angle = rng.uniform(0, design.height), rng.uniform(0, design.width), rng.uniform(0, 2 * math.pi)
        if placed and rng.random() < 0.6:
            near = placed[int(rng.integers(len(placed)))]
            c, s, half_v = near.box[2], near.box[3], near.box[5]
            away = (half_v + shape.half[1] + rng.uniform(0.0, 0.08) * length) * random_sign(rng)
            y, x = near.box[0] - s * away, near.box[1] + c * away
            angle = math.atan2(s, c) + rng.normal(0.0, 0.06)
        one = Placed(shape, 0, np.array([y, x, math.cos(angle), math.sin(angle), *shape.half]))
        look = draw_look(design, stain, shape, 0.0, rng)
        lay_section(canvas, one, replace(look, mark=look.mark[:0], spot=look.spot[:0]), kernels.SLIVER, texture)


def lay_section(canvas: Canvas, one: Placed, look: Look, kind: int, texture: Canvas) -> tuple[Integers, Bytes]:
    """Lay one section, or a sliver without tissue, on the canvas; return the pixels it may touch and its cover."""
    row, column, rows, columns = pixel_box(one)
    top, left = max(row, 0), max(column, 0)
    height, width = min(row + rows, canvas.shape[0]) - top, min(column + columns, canvas.shape[1]) - left
    box = np.array([top, left, max(height, 0), max(width, 0)], dtype=np.int64)
    cover = cover_section(one, box, texture, look.look[[kernels.LOOK_SHIFT_U, kernels.LOOK_SHIFT_V]])
    paint_section(canvas, one, box, cover, look, kind, texture)
    return box, cover


def cover_section(one: Placed, box: Integers, texture: Canvas, shift: Floats) -> Bytes:
    """Return how much of each pixel of `box` a section covers, 0 to 255; its ragged sides are read from `shift`."""
    shape = one.shape
    return kernels.cover_section(one.frame, box, shape.side, shape.fold, shape.disc, shape.tear, texture, shift)


def paint_section(
    canvas: Canvas, one: Placed, box: Integers, cover: Bytes, look: Look, kind: int, texture: Canvas
) -> None:
    """Paint what a section covers of the pixels `box`."""
    edge = (one.shape.side, look.fold, one.shape.disc, one.shape.tear)
    inside = (look.mark, look.spot, look.look, look.anatomy)
    kernels.paint_section(canvas, one.frame, box, cover, edge, inside, kind, texture)


def pixel_box(one: Placed) -> tuple[int, int, int, int]:
    """Return the pixels that a section may touch: first row, first column, rows, columns."""
    y, x, c, s, half_u, half_v = one.box.tolist()
    slack = 3.0 + 0.06 * half_u
    reach_y, reach_x = abs(c) * half_u + abs(s) * half_v + slack, abs(s) * half_u + abs(c) * half_v + slack
    row, column = math.floor(y - reach_y), math.floor(x - reach_x)
    return row, column, math.ceil(y + reach_y) - row, math.ceil(x + reach_x) - column


def scatter_dust(canvas: Canvas, design: Scene, rng: Generator) -> None:
    """Let dust and fibres fall on everything."""
    length = design.section_length_px
    area = design.height * design.width / length**2
    count = int(rng.poisson(0.9 * design.dust * area))
    place = rng.uniform(0, 1, (count, 2)) * (design.height, design.width)
    for _ in range(int(rng.poisson(0.012 * design.dust * area))):
        # Where something was touched or blown upon, much dust lies together.
        at = rng.uniform(0, 1, 2) * (design.height, design.width)
        place = np.vstack([place, at + rng.normal(0.0, 0.45 * length, (int(rng.integers(15, 60)), 2))])
    n = len(place)
    specks = np.zeros((n, 8))
    specks[:, :2] = place
    specks[:, 2] = np.maximum(0.5, length * np.exp(rng.normal(math.log(0.010), 0.55, n)).clip(0.003, 0.04))
    light = rng.random(n) < (0.12 if design.background == "silicon" else 0.55)
    specks[:, 3] = np.where(light, rng.uniform(0.8, 1.0, n), rng.uniform(0.05, 0.30, n))
    specks[:, 4] = rng.uniform(0.5, 1.0, n)
    specks[:, 5] = rng.uniform(0.0, 0.25, n)
    specks[:, 6], specks[:, 7] = rng.uniform(0, 2 * math.pi, n), rng.uniform(0.7, 1.4, n)
    kernels.drop_specks(canvas, specks)
    pieces: list[tuple[float, ...]] = []
    for _ in range(int(rng.poisson(0.022 * design.dust * area))):
        y, x = rng.uniform(0, 1, 2) * (design.height, design.width)
        angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0.0, 0.35)
        half = max(0.35, rng.uniform(0.003, 0.008) * length)
        grey, opacity = rng.uniform(0.05, 0.35), rng.uniform(0.4, 0.9)
        for _ in range(int(rng.integers(5, 16))):
            angle += bend + rng.normal(0.0, 0.2)
            y1, x1 = y + 0.07 * length * math.cos(angle), x + 0.07 * length * math.sin(angle)
            pieces.append((y, x, y1, x1, half, grey, opacity))
            y, x = y1, x1
    kernels.draw_fibres(canvas, np.array(pieces, dtype=np.float64).reshape(-1, 7))


def take_mosaic(canvas: Canvas, design: Scene, seed: int, rng: Generator) -> Bytes:
    """Photograph the wafer field by field: each with its own light, all with the lamp's shading, seams between."""
    image = np.zeros(canvas.shape, dtype=np.uint8)
    side = max(96.0, FIELD_LENGTHS * design.section_length_px)
    rows, columns = max(1, round(design.height / side)), max(1, round(design.width / side))
    row_edge = np.rint(np.linspace(0, design.height, rows + 1)).astype(int)
    column_edge = np.rint(np.linspace(0, design.width, columns + 1)).astype(int)
    shading = _lamp(rng)
    blur = rng.uniform(0.10, 0.22)
    taps = np.array([blur, 1 - 2 * blur, blur], dtype=np.float32)
    normal = rng.permutation(normal_table())
    noise = rng.uniform(0.008, 0.018)
    brightest = rng.uniform(1.04, 1.12) if design.background == "silicon" else 1.0
    drift = round(0.004 * design.section_length_px)
    edge = 0.10 * design.section_length_px
    for i in range(rows):
        for j in range(columns):
            gain = brightest * rng.normal(1.0, 0.025)
            if rng.random() < 0.12:
                gain *= rng.uniform(0.78, 0.92)  # the camera chose another exposure
            down, right = rng.integers(-drift, drift + 1, 2)
            inward = np.abs(rng.normal(0.0, edge, 4)).clip(0, 2 * edge).astype(int)
            r0, r1 = row_edge[i] + (i == 0) * inward[0], row_edge[i + 1] - (i == rows - 1) * inward[1]
            c0, c1 = column_edge[j] + (j == 0) * inward[2], column_edge[j + 1] - (j == columns - 1) * inward[3]
            field = np.array([r0, r1, c0, c1, down, right], dtype=np.int64)
            kernels.expose_field(canvas, image, field, gain, shading, taps, noise, seed, normal)
    return image


def _lamp(rng: Generator) -> Canvas:
    """Return how the lamp lights one field: bright in a ring off the middle, dark in the corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(-1, 1, 25), indexing="ij")
    shift_y, shift_x = rng.uniform(-0.25, 0.25, 2)
    away = np.hypot(y - shift_y, x - shift_x)
    light = 1.0 - rng.uniform(0.05, 0.10) * np.exp(-np.square(away / 0.45))
    light -= rng.uniform(0.06, 0.20) * np.clip(away - 0.75, 0, None) ** 2
    for _ in range(2):
        corner_y, corner_x = rng.choice([-1.0, 1.0], 2)
        light -= rng.uniform(0.10, 0.24) * np.exp(-np.hypot(y - corner_y, x - corner_x) / 0.12)
    light += rng.uniform(-0.03, 0.03) * y + rng.uniform(-0.03, 0.03) * x
    return np.ascontiguousarray(light, dtype=np.float32)


@lru_cache(maxsize=1)
def normal_table() -> Canvas:
    """Return 4096 normal quantiles of variance 1/2, of which two add up to a deviate."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(4096) + 0.5) / 4096) * math.sqrt(0.5), dtype=np.float32)
