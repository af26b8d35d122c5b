"""Crops of a synthetic wafer image with one section each, for the question: is this section fit to be imaged?

The four classes are FANet's: good, incomplete, fold, damaged (see `emseg.synthetic.wafer.section_outline` for their shapes).
Around and on the section lies what makes the question hard on a real wafer: any angle and position, sizes that vary by
a third, stain and contrast that vary, vessels that look like holes and knife marks that look like folds, the edge of
the tape, a neighbour that may touch, uneven light, dust and noise. So neither the mean grey value nor the area of the
section tells the class.

    image    [size, size]   uint8; the crop is `CROP_WIDTH_UM` wide whatever its size in pixels
    section  [size, size]   float32 in [0, 1]: how much of each pixel the section covers

Crop number i of a seed is a function of (seed, i, size) alone, so any part of a set can be made by itself. Its class is
i modulo 4: every run of four crops holds each class once.

Source for the classes: Sun et al. 2021 (FANet), section 4.1 and Fig. 2. The ranges are ours, set by eye.
"""

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from emseg.errors import UsageError, suggest
from emseg.synthetic.wafer.section_outline import Fold, Plane, Quad, cut_off, damage, draw_fold, draw_quad

SECTION_CLASSES = ("good", "incomplete", "fold", "damaged")
CROP_WIDTH_UM = 2000.0
SMALLEST_SIZE, LARGEST_SIZE = 24, 1024


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
    """Return `size`, or raise `UsageError` where a crop of so many pixels a side would show nothing."""
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise UsageError(f"`size` must be from {SMALLEST_SIZE} to {LARGEST_SIZE} px; got {size}. Use 56.")
    return size


def draw_section_crop(quality: str, size: int, rng: np.random.Generator) -> SectionCrop:
    """Draw one crop with a section of the class `quality`, taking everything random from `rng`."""
    if quality not in SECTION_CLASSES:
        raise UsageError(
            f"`quality` must be one of {', '.join(SECTION_CLASSES)}; got {quality!r}."
            + suggest(quality, SECTION_CLASSES)
        )
    along, across = _section_frame(require_crop_size(size), rng)
    quad = draw_quad(rng)
    whole, fold = quad, draw_fold(quad, rng) if quality == "fold" else None
    if quality == "incomplete":
        quad, (middle_along, middle_across) = cut_off(quad, rng)
        along, across = along + np.float32(middle_along), across + np.float32(middle_across)
    flat_along, flat_across, strip = (along, across, None) if fold is None else fold.unfold(along, across)
    field = quad.distance(flat_along, flat_across)
    if quality == "damaged":
        field = damage(field, whole, along, across, rng)
    section = _coverage(field, size)

    ground = _wafer_surface(along, across, rng)
    tissue = _tissue(flat_along, flat_across, whole, rng)
    if fold is not None and strip is not None:
        tissue = _doubled(tissue, strip, fold, size, rng)
    tissue = tissue + np.float32(rng.uniform(-0.25, 0.25)) * np.exp(-np.square(field * np.float32(45.0)))
    image = ground + section * (tissue - ground)
    image = _with_neighbour(image, whole, along, across, field, rng)
    return SectionCrop(_exposed(image, rng), section)


def _section_frame(size: int, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Return each pixel's place in the frame of a section that lies at any angle somewhere near the centre."""
    position = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    down, right = rng.uniform(-0.04, 0.04, 2).astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u, v = position[:, None] - down, position[None, :] - right
    return c * u + s * v, c * v - s * u


def _coverage(field: Plane, size: int) -> Plane:
    return np.asarray(np.clip(field * np.float32(size) + np.float32(0.5), 0, 1))


def _clouds(size: int, grain: int, rng: np.random.Generator) -> Plane:
    """Return smooth noise of standard deviation about 1 whose features are 1 / `grain` of the crop wide."""
    coarse = rng.standard_normal((grain + 3, grain + 3), dtype=np.float32)
    return np.asarray(1.6 * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _wafer_surface(along: Plane, across: Plane, rng: np.random.Generator) -> Plane:
    """Return silicon or tape: a grey with faint streaks, often with the straight edge of a tape strip in it."""
    ground = np.float32(rng.uniform(0.12, 0.34)) + np.float32(0.02) * _clouds(len(along), 12, rng)
    if rng.random() < 0.5:
        angle, offset = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.45)
        beyond = np.float32(math.cos(angle)) * along + np.float32(math.sin(angle)) * across - np.float32(offset)
        ground = ground + np.float32(rng.uniform(-0.14, 0.14)) * _coverage(beyond, len(along))
    return np.asarray(ground, dtype=np.float32)


def _tissue(along: Plane, across: Plane, quad: Quad, rng: np.random.Generator) -> Plane:
    """Return the grey of the section: resin with a margin around tissue, its core, its vessels and knife marks."""
    size = len(along)
    resin = np.float32(rng.uniform(0.45, 0.65))
    x, y = along / np.float32(quad.reach[0]), across / np.float32(quad.reach[1])
    shape = np.float32(0.72) + np.float32(0.07) * _clouds(size, 4, rng)
    body = shape - np.sqrt(np.square(x) + np.square(y) * np.float32(rng.uniform(0.8, 1.1)))
    tissue = np.float32(_signed(rng, 0.08, 0.22)) + np.float32(0.035) * _clouds(size, 16, rng)
    tissue = tissue + np.float32(0.025) * _clouds(size, size // 2, rng)
    core = _coverage(np.float32(0.4) * (body - np.float32(rng.uniform(0.2, 0.45))), size)
    tissue = tissue + np.float32(_signed(rng, 0.03, 0.10)) * core
    inside = _coverage(np.float32(0.3) * body, size)
    for _ in range(int(rng.integers(0, 4))):
        a, b = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
        distance = np.float32(rng.uniform(0.012, 0.035)) - np.sqrt(
            np.square(along - a * np.float32(quad.reach[0] * 2)) + np.square(across - b * np.float32(quad.reach[1] * 2))
        )
        inside = inside * (1 - _coverage(distance, size))
    grey = resin + inside * tissue
    if rng.random() < 0.4:
        line = np.abs(along - np.float32(rng.uniform(-0.2, 0.2)) - np.float32(rng.normal(0, 0.05)) * across)
        grey = grey + np.float32(_signed(rng, 0.03, 0.08)) * _coverage(np.float32(0.006) - line, size)
    return np.asarray(grey, dtype=np.float32)


def _doubled(tissue: Plane, strip: Plane, fold: Fold, size: int, rng: np.random.Generator) -> Plane:
    """Return the tissue with the fold's strip lighter or darker, for it is thicker there, and a thin shadow beside."""
    step = np.float32(fold.sign * rng.uniform(0.12, 0.28))
    rim = np.exp(-np.square(strip * np.float32(90.0)))
    return np.asarray(tissue + step * _coverage(strip, size) - np.float32(0.4) * step * rim, dtype=np.float32)


def _with_neighbour(
    image: Plane, quad: Quad, along: Plane, across: Plane, field: Plane, rng: np.random.Generator
) -> Plane:
    """Return the image, in one of three, with a second section beside the first; the two may touch."""
    if rng.random() > 1 / 3:
        return image
    side = _signed(rng, 1.0, 1.0)
    gap = max(0.0, rng.uniform(-0.04, 0.12))
    step = np.float32(side * (quad.reach[1] + quad.reach[3] + gap))
    shift = np.float32(rng.normal(0, 0.02))
    beside = quad.distance(along - shift, across - step)
    grey = np.float32(rng.uniform(0.45, 0.65)) + np.float32(0.06) * _clouds(len(along), 10, rng)
    seam = np.minimum(beside, -quad.distance(along, across))
    return np.asarray(image + _coverage(seam, len(along)) * (grey - image), dtype=np.float32)


def _exposed(image: Plane, rng: np.random.Generator) -> UInt8[np.ndarray, "size size"]:
    """Return the picture that a camera takes: uneven light, contrast, dust, blur and noise, in 8 bits."""
    size = len(image)
    light = 1 + np.float32(0.05) * _clouds(size, 1, rng)
    image = (np.float32(0.5) + np.float32(rng.uniform(0.7, 1.2)) * (image - np.float32(0.45))) * light
    for _ in range(int(rng.integers(0, 6))):
        row, column = (int(place) for place in rng.integers(0, size, 2))
        speck = np.zeros_like(image)
        radius, grey = round(rng.uniform(0.006, 0.024) * size), _signed(rng, 0.15, 0.4)
        cv2.circle(speck, (column, row), radius, (grey,), thickness=-1)
        image = image + speck
    image = cv2.GaussianBlur(image, (0, 0), 0.009 * size)
    image = image + np.float32(rng.uniform(0.01, 0.03)) * rng.standard_normal((size, size), dtype=np.float32)
    return np.asarray(np.clip(image * 255, 0, 255), dtype=np.uint8)


def _signed(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number between `low` and `high`, and its sign."""
    return float(rng.uniform(low, high) * (1 if rng.random() < 0.5 else -1))
