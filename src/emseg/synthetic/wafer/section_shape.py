"""The shape of one section: its quad and what went wrong with it, as tables of pixels for the kernels.

    good         four sides, slightly out of square, each a little bowed
    incomplete   one ragged side more takes a part away: the first sections of a new knife, which does not yet reach the
                 whole block. The knife's tilt is shared by the sections that follow it; what is missing shrinks
    fold         a strip lies double, so the tissue beyond it has moved in by twice the strip's width
    damaged      chips off the border, holes, tears that run in from it

With a severity, a defect is drawn as on any wafer and then grown or shrunk until the section has lost the fraction of
its area that was drawn for it, measured on pixels: lost = 1 - (area with the defect) / (area without it).

Source for the classes: Sun et al. 2021 (FANet), section 4.1 and Fig. 2.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from emseg.synthetic.shared_kernels import Floats
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.wafer_design import Severity
from emseg.synthetic.wafer.wafer_kernels import Tables  # sides, folds, discs, tears

Half = tuple[float, float]
Knife = tuple[float, float]  # how a new knife meets the block: the direction of what it misses, (along u, along v)
USUAL_MISSING = (0.24, 0.62)  # fractions of a section's extent that a new knife misses on a usual wafer
_EVEN = np.zeros((1, 1), dtype=np.float32)  # a texture that displaces no border
_SLACK = 4.0  # pixels around the block, into which bowed sides may reach
_HALVINGS = 11


@dataclass(frozen=True)
class Shape:
    """One section in its own frame (u, v), pixels from the middle of the whole block.

    `middle` and `half` [2]: the box around what is left of it. `defect` [n, 2]: places that must be seen for the class
    to be seen.
    """

    quality: str
    block: tuple[float, float]
    side: Floats
    fold: Floats
    disc: Floats
    tear: Floats
    middle: Floats
    half: Floats
    defect: Floats


def draw_knife(rng: Generator) -> Knife:
    """Draw which part of the block a new knife misses."""
    angle = rng.integers(4) * math.pi / 2 + float(rng.uniform(0.05, 0.45) * random_sign(rng))
    return math.cos(angle), math.sin(angle)


def draw_shape(
    quality: str,
    length: float,
    width: float,
    knife: Knife | None,
    missing: float,
    rng: Generator,
    severity: Severity | None = None,
) -> Shape:
    """Draw a section of `length` x `width` pixels; an incomplete one lacks the fraction `missing` of its extent.

    With a `severity` the defect takes as much of the section's area as that states.
    """
    half_u, half_v = 0.5 * length, 0.5 * width
    lean = rng.normal(0.0, math.radians(1.6), 4)
    side = np.zeros((4, 5))
    for k, (angle, reach) in enumerate(zip(np.arange(4) * math.pi / 2, (half_u, half_v) * 2, strict=True)):
        side[k, :2] = math.cos(angle + lean[k]), math.sin(angle + lean[k])
        bow = rng.normal(0.0, 0.03) / length
        span = half_v if k % 2 == 0 else half_u
        side[k, 2:] = reach * rng.uniform(0.98, 1.02) + 0.4 * bow * span * span, bow, 0.003 * length
    fold, disc, tear = np.zeros((0, 7)), np.zeros((0, 7)), np.zeros((0, 9))
    defect: list[tuple[float, float]] = []
    if quality == "incomplete":
        knife = knife or draw_knife(rng)
        side = np.vstack([side, _cut(side, knife, missing, length)])
    elif quality == "fold":
        fold = np.array([_fold(half_u, half_v, length, rng)])
        if severity is None and rng.random() < 0.2:
            second = _fold(half_u, half_v, length, rng)
            if abs(second[2] - fold[0, 2]) > 0.25 * width:
                fold = np.vstack([fold, second])
        defect = _along_fold(fold[0], half_u, half_v)
    elif quality == "damaged":
        disc, tear, defect = _damage(side, length, width, rng)
    if severity is not None and quality != "good":
        side, fold, disc, tear = _as_severe(severity, quality, (side, fold, disc, tear), (half_u, half_v), missing, rng)
    if quality == "incomplete":
        a, b, reach = side[4, :3]
        defect = [(a * reach - b * t, b * reach + a * t) for t in (-0.2 * width, 0.0, 0.2 * width)]
    outline = _straight_outline(side, length)
    low, high = outline.min(0), outline.max(0)
    if len(fold):
        # Each half of the section has moved in by the strip's width.
        inward = np.abs(fold[:, :2]).T @ fold[:, 3]
        low, high = low + inward, high - inward
    places = np.array(defect).reshape(-1, 2)
    return Shape(quality, (half_u, half_v), side, fold, disc, tear, 0.5 * (low + high), 0.5 * (high - low), places)


def _as_severe(severity: Severity, quality: str, tables: Tables, half: Half, missing: float, rng: Generator) -> Tables:
    """Return a section's tables with its defect as large as `severity` has it."""
    side, fold, disc, tear = tables
    if quality == "incomplete":
        # Of the area what `missing` is of the extent on a usual wafer: most stays most, least stays least.
        (low, high), (least, greatest) = USUAL_MISSING, severity.missing
        share = float(least + (greatest - least) * min(max((missing - low) / (high - low), 0.0), 1.0))
        largest = 2.0 * math.hypot(*half)
    else:
        least, greatest = severity.folded if quality == "fold" else severity.torn
        share, largest = float(rng.uniform(least, greatest)), 12.0

    def resized(size: float) -> Tables:
        new_side, new_fold, new_disc, new_tear = side.copy(), fold.copy(), disc.copy(), tear.copy()
        if quality == "incomplete":
            new_side[4, 2] = 0.5 * largest - size
        new_fold[:, 3] *= size
        new_disc[:, 2] *= size
        new_tear[:, 5] *= size
        return new_side, new_fold, new_disc, new_tear

    # The size at which the defect takes its share: it takes more as it grows.
    left = (1.0 - share) * _area((side[:4], fold[:0], disc[:0], tear[:0]), half)
    low, high = 0.0, largest
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _area(resized(middle), half) > left else (low, middle)
    return resized(high)


def _area(tables: Tables, half: Half) -> float:
    """Return the area of a section in square pixels, upright in the middle of a box."""
    rows, columns = (math.ceil(one + _SLACK) for one in half)
    frame = np.array([rows, columns, 1.0, 0.0, 0.0, 0.0])
    box = np.array([0, 0, 2 * rows, 2 * columns], dtype=np.int64)
    cover = kernels.cover_section(frame, box, *tables, _EVEN, np.zeros(2))
    return float(cover.sum(dtype=np.int64)) / 255.0


def _cut(side: Floats, knife: Knife, missing: float, length: float) -> Floats:
    """Return the ragged side beyond which the fraction `missing` of the section's extent is not there."""
    corner = _straight_outline(side, length)
    extent = corner @ np.array(knife)
    reach = extent.max() - missing * (extent.max() - extent.min())
    return np.array([[*knife, reach, 0.0, 0.011 * length]])


def _fold(half_u: float, half_v: float, length: float, rng: Generator) -> Floats:
    across = rng.random() < 0.6  # a strip across the short way, like most
    angle = (0.0 if across else math.pi / 2) + rng.normal(0.0, math.radians(16.0))
    reach = half_u if across else half_v
    offset, wide, bend = rng.uniform(-0.5, 0.5) * reach, rng.uniform(0.055, 0.10) * length, rng.normal(0.0, 0.30)
    # How much lighter the strip and its rim are, the look decides.
    return np.array([math.cos(angle), math.sin(angle), offset, wide, bend / length, 0.0, 0.0])


def _along_fold(fold: Floats, half_u: float, half_v: float) -> list[tuple[float, float]]:
    """Return places on the strip that lie within the section."""
    a, b, offset = fold[:3]
    found = []
    for t in np.linspace(-1.0, 1.0, 13) * max(half_u, half_v):
        u, v = a * offset - b * t, b * offset + a * t
        if abs(u) < 0.85 * half_u and abs(v) < 0.85 * half_v:
            found.append((float(u), float(v)))
    return found


def _damage(
    side: Floats, length: float, width: float, rng: Generator
) -> tuple[Floats, Floats, list[tuple[float, float]]]:
    """Draw one to three chips, holes and tears, so large together that the section is clearly lost."""
    discs: list[list[float]] = []
    tears: list[list[float]] = []
    defect = []
    count = int(rng.choice([1, 2, 2, 3]))
    for _ in range(count):
        large = 1.25 if count == 1 else 1.0
        which = int(rng.integers(3))
        turn = rng.uniform(0, math.pi)
        if which == 1:
            u, v = rng.uniform(-0.62, 0.62) * 0.5 * length, rng.uniform(-0.6, 0.6) * 0.5 * width
            radius, squeeze = large * rng.uniform(0.065, 0.125) * length, rng.uniform(0.6, 1.0)
        else:
            corner = int(rng.integers(4))
            a, b, reach = side[corner, :3]
            span = 0.5 * (width if corner % 2 == 0 else length)
            beside = rng.uniform(-0.95 if which == 0 else -0.7, 0.95 if which == 0 else 0.7) * span
            u, v = a * reach - b * beside, b * reach + a * beside
            if which == 2:
                inward = math.atan2(-b, -a) + rng.uniform(-0.5, 0.5)
                depth = rng.uniform(0.45, 0.75) * (0.7 * length if corner % 2 == 0 else width)
                mouth = large * rng.uniform(0.03, 0.06) * length
                tears.append(
                    [u, v, math.cos(inward), math.sin(inward), depth, mouth, rng.uniform(0.006, 0.02) * length,
                     rng.uniform(18, 40) / length, rng.uniform(0, 2 * math.pi)]
                )  # fmt: skip
                defect.append((u + 0.25 * depth * math.cos(inward), v + 0.25 * depth * math.sin(inward)))
                continue
            radius, squeeze = large * rng.uniform(0.11, 0.2) * length, rng.uniform(0.7, 1.0)
        discs.append([u, v, radius, math.cos(turn), math.sin(turn), squeeze, rng.uniform(0, 2 * math.pi)])
        defect.append((u, v) if which == 1 else (0.9 * u, 0.9 * v))
    return np.array(discs).reshape(-1, 7), np.array(tears).reshape(-1, 9), defect


def _straight_outline(side: Floats, length: float) -> Floats:
    """Return the corners of the region within all sides, taken as straight."""
    corners = [(-length, -length), (-length, length), (length, length), (length, -length)]
    for a, b, reach in side[:, :3].tolist():
        # Sutherland and Hodgman's clipping by one half plane.
        kept = []
        for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
            first, second = reach - a * u0 - b * v0, reach - a * u1 - b * v1
            if first >= 0:
                kept.append((u0, v0))
            if (first >= 0) != (second >= 0):
                t = first / (first - second)
                kept.append((u0 + t * (u1 - u0), v0 + t * (v1 - v0)))
        corners = kept
    return np.array(corners)


def random_sign(rng: Generator) -> int:
    """Draw 1 or -1."""
    return 1 if rng.random() < 0.5 else -1
