"""Crops of a synthetic wafer image with one section each, for the question: is this section fit to be imaged?

A crop is a small scene drawn by the wafer generator: tape and perhaps its edge, perhaps a neighbour, one section of SCN
of a known class near the centre at any angle, dust, uneven light and noise. Size, stain and contrast vary, vessels look
like holes and knife marks like folds. So neither the mean grey value nor the area of the section reveals the class.

    image    [size, size]   uint8; the crop is `CROP_WIDTH_UM` wide whatever its size in pixels
    section  [size, size]   float32 in [0, 1]: how much of each pixel the section covers

Crop number i of a seed is a function of (seed, i, size) alone, so any part of a set can be made by itself. Its class is
i modulo 4: every run of four crops contains each class once.

Source for the classes: Sun et al. 2021 (FANet), section 4.1 and Fig. 2. The ranges are ours, set by eye.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.random import Generator

from emseg.checks import require_count, require_one_of
from emseg.errors import UsageError
from emseg.synthetic.shared_kernels import Canvas
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.layout import Placed
from emseg.synthetic.wafer.scenery import (
    Stain,
    draw_look,
    draw_stain,
    draw_texture,
    lay_section,
    normal_table,
    scatter_dust,
)
from emseg.synthetic.wafer.section_shape import draw_shape, random_sign
from emseg.synthetic.wafer.wafer_design import SECTION_CLASSES as SECTION_CLASSES
from emseg.synthetic.wafer.wafer_design import SHORT_OVER_LONG, CropScene

CROP_WIDTH_UM = 2000.0
SMALLEST_SIZE, LARGEST_SIZE = 24, 1024
LENGTH = 0.62  # of a usual section, in crop widths


@dataclass(frozen=True)
class SectionCrop:
    """One crop: `image`, and the part of it that the `section` covers."""

    image: UInt8[np.ndarray, "size size"]
    section: Float32[np.ndarray, "size size"]


@dataclass(frozen=True)
class CropSet:
    """Crops `first` to `first + n - 1` of a seed, with their classes as indices into `SECTION_CLASSES`."""

    images: UInt8[np.ndarray, "crop size size"]
    labels: Int64[np.ndarray, " crop"]
    seed: int
    first: int

    @property
    def pixel_size_nm(self) -> float:
        """Side of a pixel on the wafer."""
        return 1000.0 * CROP_WIDTH_UM / int(self.images.shape[-1])

    def fingerprint(self) -> str:
        """Return a short digest of the images and classes."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:16]


def section_crops(n: int, *, size: int, seed: int, first: int = 0) -> CropSet:
    """Return crops `first`, ..., `first + n - 1` of `seed`, `size` pixels a side, the four classes in turn."""
    if n < 1 or first < 0:
        raise UsageError(f"`n` must be at least 1 and `first` at least 0; got n={n}, first={first}.")
    labels = np.arange(first, first + n, dtype=np.int64) % len(SECTION_CLASSES)
    images = np.empty((n, require_crop_size(size), size), dtype=np.uint8)
    for place, label in enumerate(labels):
        rng = np.random.default_rng((seed, first + place))
        images[place] = draw_section_crop(SECTION_CLASSES[label], size, rng).image
    return CropSet(images, labels, seed, first)


def require_crop_size(size: int) -> int:
    """Return `size`, or raise `UsageError` where a crop of that many pixels a side would show nothing."""
    return require_count("size", size, SMALLEST_SIZE, LARGEST_SIZE)


def draw_section_crop(quality: str, size: int, rng: Generator) -> SectionCrop:
    """Draw one crop with a section of the class `quality`, taking everything random from `rng`."""
    require_one_of("quality", quality, SECTION_CLASSES)
    texture = _texture(require_crop_size(size))
    scene = CropScene(size, size, LENGTH * size)
    length = scene.section_length_px * rng.uniform(0.86, 1.08)
    width = length * SHORT_OVER_LONG[scene.tissue] * rng.uniform(0.93, 1.08)
    stain = draw_stain(scene, rng)
    canvas = _tape(size, stain, texture, rng)
    shape = draw_shape(quality, length, width, None, rng.uniform(0.25, 0.6), rng)
    y, x = size * (0.5 + rng.uniform(-0.04, 0.04, 2))
    angle = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    if rng.random() < 0.2:  # a neighbour, as in a ribbon; the two may touch
        beside = draw_shape("good", length, width, None, 0.0, rng)
        away = shape.half[1] + beside.half[1] + max(0.0, rng.uniform(-0.04, 0.12)) * size
        away *= random_sign(rng)
        neighbour = Placed(beside, 1, np.array([y - s * away, x + c * away, c, s, *beside.half]))
        lay_section(canvas, neighbour, draw_look(scene, stain, beside, rng.random(), rng), kernels.SCN, texture)
    placed = Placed(shape, 0, np.array([y, x, c, s, *shape.half]))
    box, cover = lay_section(canvas, placed, draw_look(scene, stain, shape, rng.random(), rng), kernels.SCN, texture)
    if rng.random() < 0.4:
        scatter_dust(canvas, scene, rng)
    section = np.zeros((size, size), dtype=np.float32)
    top, left, rows, columns = box
    section[top : top + rows, left : left + columns] = cover / np.float32(255)
    return SectionCrop(_photograph(canvas, rng), section)


@lru_cache(maxsize=8)
def _texture(size: int) -> Canvas:
    """Return the texture of all crops of a size; each section reads it from its own place."""
    return draw_texture(LENGTH * size, np.random.default_rng(size))


def _tape(size: int, stain: Stain, texture: Canvas, rng: Generator) -> Canvas:
    """Return the tape under the section, in half of the crops with its straight edge, beyond which silicon shows."""
    angle, half = rng.uniform(0, 2 * math.pi), 4.0 * size
    beyond = size * (rng.uniform(0.2, 0.45) if rng.random() < 0.5 else 2.0)
    c, s = math.cos(angle), math.sin(angle)
    middle = 0.5 * size * (c + s) + beyond - half
    strip = np.array([[c, s, middle, half, stain.ground + rng.normal(0.0, 0.012), rng.uniform(0.006, 0.014)]])
    pitch = max(8.0, 0.4 * LENGTH * size)
    nodes = math.ceil(size / pitch) + 2
    silicon = np.float32(rng.uniform(0.55, 0.7)) + np.float32(0.02) * rng.standard_normal((nodes, nodes), np.float32)
    canvas = np.empty((size, size), dtype=np.float32)
    kernels.fill_ground(canvas, silicon, pitch, strip, texture, 0.003)
    return canvas


def _photograph(canvas: Canvas, rng: Generator) -> UInt8[np.ndarray, "size size"]:
    """Return the picture that a camera takes: light, blur and noise, in 8 bits."""
    size = len(canvas)
    image = np.empty((size, size), dtype=np.uint8)
    blur, noise, gain = rng.uniform(0.10, 0.22), rng.uniform(0.008, 0.018), rng.uniform(0.85, 1.15)
    taps = np.array([blur, 1 - 2 * blur, blur], dtype=np.float32)
    light = rng.uniform(0.94, 1.06, (2, 2)).astype(np.float32)
    field = np.array([0, size, 0, size, 0, 0], dtype=np.int64)
    kernels.expose_field(canvas, image, field, gain, light, taps, noise, int(rng.integers(2**62)), normal_table())
    return image
