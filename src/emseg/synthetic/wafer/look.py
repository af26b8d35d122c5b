"""What a section looks like: its greys and its anatomy, which change slowly from one section to the next.

Neither tells the class: stain, thickness, grain, vessels and knife marks are drawn for every section alike.

    SCN         a broad block: two cell-dense nuclei beside the ventricle, the optic chiasm below
    zebrafish   a slender brain of lobes between two eyes, in much empty resin

Sections are darker than bright silicon and lighter than tape, as in the pictures of wafers that we know.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.wafer import kernels
from emseg.synthetic.wafer.design import WaferDesign
from emseg.synthetic.wafer.shape import Shape

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Stain:
    """The greys of a whole wafer, 0 black to 1 white."""

    ground: float
    resin: float
    tissue: float


@dataclass(frozen=True)
class Look:
    """The tables of one section that the kernels read."""

    look: Table
    anatomy: Table
    mark: Table
    spot: Table
    fold: Table


def draw_stain(design: WaferDesign, rng: np.random.Generator) -> Stain:
    """Draw the greys of a wafer."""
    if design.background == "silicon":
        resin = rng.uniform(0.34, 0.46)
        return Stain(rng.uniform(0.74, 0.82), resin, resin - rng.uniform(0.25, 0.32))
    resin = rng.uniform(0.56, 0.66)
    return Stain(rng.uniform(0.24, 0.33), resin, resin - rng.uniform(0.20, 0.30))


def draw_look(design: WaferDesign, stain: Stain, shape: Shape, depth: float, rng: np.random.Generator) -> Look:
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
        strip[kernels.FOLD_RIM] = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.06, 0.13)
    anatomy = _scn(depth, rng) if design.tissue == "scn" else _zebrafish(depth, rng)
    return Look(look, anatomy, _knife_marks(half_u, rng), _spots(design.tissue, rng), fold)


def _scn(depth: float, rng: np.random.Generator) -> Table:
    middle = math.sin(math.pi * min(max(depth, 0.0), 1.0))
    p = np.zeros(kernels.N_ANATOMY)
    p[0], p[1], p[15] = rng.uniform(0.82, 0.88), 0.86 + rng.normal(0.0, 0.02), rng.uniform(0.84, 0.90)
    p[2:6] = 0.20 + 0.03 * middle, 0.30, 0.12 + 0.035 * middle, 0.18 + 0.07 * middle
    p[6:8] = 0.045 + 0.02 * (1 - middle), 0.38
    p[8:11] = 0.64, 0.30 + 0.20 * middle, 0.12 + 0.04 * middle
    p[11:14] = 0.36, 0.34 + 0.20 * middle, 0.16 + 0.14 * middle
    p[2:11] *= rng.normal(1.0, 0.02, 9)
    return p


def _zebrafish(depth: float, rng: np.random.Generator) -> Table:
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


def _knife_marks(half_u: float, rng: np.random.Generator) -> Table:
    """Draw scratches of the knife, which run as the section was cut: across its long side."""
    count = int(rng.choice([0, 1, 2], p=[0.62, 0.26, 0.12]))
    marks = np.zeros((count, 5))
    for mark in marks:
        angle = rng.normal(0.0, 0.05)
        mark[:] = (
            math.cos(angle),
            math.sin(angle),
            rng.uniform(-0.9, 0.9) * half_u,
            rng.uniform(0.004, 0.014) * half_u,
            (1 if rng.random() < 0.5 else -1) * rng.uniform(0.04, 0.09),
        )
    return marks


def _spots(tissue: str, rng: np.random.Generator) -> Table:
    """Draw vessels (pale, as if there were a hole) and dark cells or pigment."""
    if tissue == "scn":
        return np.array(
            [
                [rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.4), rng.uniform(0.02, 0.055),
                 -1.0 if rng.random() < 0.7 else 0.35]
                for _ in range(int(rng.integers(0, 7)))
            ]
        ).reshape(-1, 4)  # fmt: skip
    return np.array(
        [
            [rng.uniform(-0.7, 0.8), rng.normal(0.0, 0.25), rng.uniform(0.02, 0.05), rng.uniform(0.3, 0.7)]
            for _ in range(int(rng.integers(0, 8)))
        ]
    ).reshape(-1, 4)
