"""All on a wafer image that is no section: the ground, its tape, slivers, dust and fibres, and the mosaic's light."""

import math

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.wafer import kernels
from emseg.synthetic.wafer.design import WaferDesign
from emseg.synthetic.wafer.layout import Placed, Strip
from emseg.synthetic.wafer.look import Stain, draw_look
from emseg.synthetic.wafer.outline import pixel_box
from emseg.synthetic.wafer.shape import draw_shape

Canvas = NDArray[np.float32]
FIELD_LENGTHS = 7.0  # a picture of the mosaic, in section lengths


def draw_texture(length: float, rng: np.random.Generator) -> Canvas:
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


def draw_ground(
    design: WaferDesign, strips: list[Strip], stain: Stain, texture: Canvas, rng: np.random.Generator
) -> Canvas:
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
    canvas: Canvas, design: WaferDesign, stain: Stain, placed: list[Placed], texture: Canvas, rng: np.random.Generator
) -> None:
    """Lay thin slices without tissue, some beside sections; the sections come on top of them."""
    length = design.section_length_px
    for _ in range(int(rng.poisson(0.09 * len(placed) * min(design.dust, 2.0)))):
        shape = draw_shape("good", length * rng.uniform(0.4, 0.95), length * rng.uniform(0.05, 0.11), None, 0.0, rng)
        y, x, angle = rng.uniform(0, design.height), rng.uniform(0, design.width), rng.uniform(0, 2 * math.pi)
        if placed and rng.random() < 0.6:
            near = placed[int(rng.integers(len(placed)))]
            c, s, half_v = near.box[2], near.box[3], near.box[5]
            away = (half_v + shape.half[1] + rng.uniform(0.0, 0.08) * length) * (1 if rng.random() < 0.5 else -1)
            y, x = near.box[0] - s * away, near.box[1] + c * away
            angle = math.atan2(s, c) + rng.normal(0.0, 0.06)
        one = Placed(shape, 0, np.array([y, x, math.cos(angle), math.sin(angle), *shape.half]))
        look = draw_look(design, stain, shape, 0.0, rng)
        box = np.array(pixel_box(one), dtype=np.int64)
        shift = look.look[[kernels.LOOK_SHIFT_U, kernels.LOOK_SHIFT_V]]
        cover = kernels.cover_section(one.frame, box, shape.side, shape.fold, shape.disc, shape.tear, texture, shift)
        kernels.paint_section(
            canvas, one.frame, box, cover, shape.side, look.fold, shape.disc, shape.tear, look.mark[:0], look.spot[:0],
            look.look, look.anatomy, kernels.SLIVER, texture,
        )  # fmt: skip


def scatter_dust(canvas: Canvas, design: WaferDesign, rng: np.random.Generator) -> None:
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
        half, grey, opacity = (
            max(0.35, rng.uniform(0.003, 0.008) * length),
            rng.uniform(0.05, 0.35),
            rng.uniform(0.4, 0.9),
        )
        for _ in range(int(rng.integers(5, 16))):
            angle += bend + rng.normal(0.0, 0.2)
            y1, x1 = y + 0.07 * length * math.cos(angle), x + 0.07 * length * math.sin(angle)
            pieces.append((y, x, y1, x1, half, grey, opacity))
            y, x = y1, x1
    kernels.draw_fibres(canvas, np.array(pieces, dtype=np.float64).reshape(-1, 7))


def take_mosaic(canvas: Canvas, design: WaferDesign, seed: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Photograph the wafer field by field: each with its own light, all with the lamp's shading, seams between."""
    image = np.zeros(canvas.shape, dtype=np.uint8)
    side = max(96.0, FIELD_LENGTHS * design.section_length_px)
    rows, columns = max(1, round(design.height / side)), max(1, round(design.width / side))
    row_edge = np.rint(np.linspace(0, design.height, rows + 1)).astype(int)
    column_edge = np.rint(np.linspace(0, design.width, columns + 1)).astype(int)
    shading = _lamp(rng)
    blur = rng.uniform(0.10, 0.22)
    taps = np.array([blur, 1 - 2 * blur, blur], dtype=np.float32)
    quantiles = (np.arange(4096) + 0.5) / 4096
    normal = np.ascontiguousarray(rng.permutation(_normal_quantiles(quantiles)) * math.sqrt(0.5), dtype=np.float32)
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


def _lamp(rng: np.random.Generator) -> Canvas:
    """Return how the lamp lights one field: bright in a ring off the middle, dark in the corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(-1, 1, 25), indexing="ij")
    shift_y, shift_x = rng.uniform(-0.25, 0.25, 2)
    away = np.hypot(y - shift_y, x - shift_x)
    light = (
        1.0
        - rng.uniform(0.05, 0.10) * np.exp(-np.square(away / 0.45))
        - rng.uniform(0.06, 0.20) * np.clip(away - 0.75, 0, None) ** 2
    )
    for _ in range(2):
        corner_y, corner_x = rng.choice([-1.0, 1.0], 2)
        light -= rng.uniform(0.10, 0.24) * np.exp(-np.hypot(y - corner_y, x - corner_x) / 0.12)
    light += rng.uniform(-0.03, 0.03) * y + rng.uniform(-0.03, 0.03) * x
    return np.ascontiguousarray(light, dtype=np.float32)


def _normal_quantiles(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles of the standard normal distribution."""
    from scipy.special import ndtri

    return np.asarray(ndtri(probability), dtype=np.float64)
