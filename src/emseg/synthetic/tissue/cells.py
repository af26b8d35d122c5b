"""The cells of a window: a packing of capsules whose gaps are shared out to the nearest.

Cell k owns the places x whose signed distance d_k(x) = dist(x, axis_k) - radius_k is the smallest: an additively
weighted Voronoi tessellation of line segments. Large capsules are placed first and small ones fill what is left, so
large profiles bulge between small ones as dendrites and boutons do among axons. Capsules never overlap; so every cell
contains its own capsule, is connected, and an organelle inside the capsule cannot touch the membrane. A smooth warp of
the plane bends the lot. Between cells k and l the membrane's middle lies where d_k = d_l, at |d_k - d_l| / |grad(d_k
- d_l)| nm to first order, the gradient taken through the warp.
"""

from functools import lru_cache

import numpy as np

from emseg.errors import UsageError
from emseg.synthetic.shared_kernels import Floats, Integers
from emseg.synthetic.tissue import tissue_kernels as kernels
from emseg.synthetic.tissue.tissue_design import Imaging, Tissue

# Radii of the five levels of the packing in units of its scale: pitch, smallest radius, largest radius, stretch,
# presence.
LEVELS = (
    (4.2, 0.90, 1.70, 0.40, 0.55),
    (1.9, 0.42, 0.90, 0.90, 0.90),
    (0.95, 0.22, 0.42, 1.60, 0.95),
    (0.48, 0.12, 0.22, 1.80, 1.00),
    (0.32, 0.07, 0.12, 1.50, 0.80),
)
# Mean cell diameter of the packing over its scale: rows `large_cells` 0, 0.5, 1; columns `elongation` 0, 1, 2, 3.
# Measured on two packings of 60 by 60 scales; tests/synthetic/tissue/test_packing.py holds it to 5 %.
DIAMETER_OVER_SCALE = (
    (0.523, 0.610, 0.657, 0.690),
    (0.568, 0.668, 0.728, 0.773),
    (0.609, 0.714, 0.769, 0.819),
)
ORGANELLE_CLEARANCE_NM = 14.0
MITOCHONDRION_MINOR_NM = (75.0, 170.0)  # semi-axis across
MAX_MITOCHONDRIA_PER_CELL = 6
MAX_CANDIDATES = 20_000_000  # 1.3 GB


@lru_cache(maxsize=16)
def packing_scale_nm(tissue: Tissue) -> float:
    """Return the length that turns `LEVELS` into nm, so that the mean cell has the requested diameter."""
    table = np.array(DIAMETER_OVER_SCALE)
    by_size = [np.interp(tissue.elongation, np.arange(4), row) for row in table]
    return float(tissue.cell_diameter_nm / np.interp(tissue.large_cells, (0.0, 0.5, 1.0), by_size))


def pack_cells(
    seed: int, tissue: Tissue, imaging: Imaging, low: tuple[float, float], high: tuple[float, float], reach: float
) -> kernels.Cells:
    """Return all cells that reach within `reach` nm of the box [low, high] (warped coordinates, nm).

    Which cells exist depends only on the seed and the place, never on the box. Raises `UsageError` when the box would
    contain more cells than memory should.
    """
    scale = packing_scale_nm(tissue)
    levels = np.array(LEVELS)
    levels[:, :3] *= scale
    levels[:, 3] *= tissue.elongation
    levels[:2, 4] *= tissue.large_cells
    boxes = np.zeros((len(levels), 4), np.int64)
    span = levels[:, 2] * (1.0 + levels[:, 3])
    margin = reach + span[-1]
    for level in range(len(levels) - 1, -1, -1):  # a level must be complete as far as the next one looks at it
        margin += 2.0 * span[level]
        pitch = levels[level, 0]
        start = np.floor((np.array(low) - margin) / pitch)
        boxes[level] = (*start, *(np.floor((np.array(high) + margin) / pitch) - start + 1))
        margin = max(margin + span[level] + span[max(level - 1, 0)], reach + span[max(level - 1, 0)])
    first = np.concatenate([[0], np.cumsum(boxes[:, 2] * boxes[:, 3])])
    if first[-1] > MAX_CANDIDATES:
        raise UsageError(
            f"a window may look at {MAX_CANDIDATES:.0e} possible cells at most; this one has {first[-1]:.1e}. "
            f"Use larger cells (`cell_diameter_nm` is {tissue.cell_diameter_nm:g}), smaller pixels or a smaller "
            "`shape`."
        )
    site, alive = kernels.pack_capsules(seed, levels, boxes, first, 3.0 * scale)
    index = np.flatnonzero(alive)
    site = site[index]
    around = reach + site[:, kernels.RADIUS] + site[:, kernels.HALF_LENGTH]
    y, x = site[:, kernels.SITE_Y], site[:, kernels.SITE_X]
    seen = (y > low[0] - around) & (y < high[0] + around) & (x > low[1] - around) & (x < high[1] + around)
    site, index = site[seen], index[seen]
    of_level = np.searchsorted(first, index, side="right") - 1
    row, column = np.divmod(index - first[of_level], boxes[of_level, 3])
    address = np.stack([of_level, boxes[of_level, 0] + row, boxes[of_level, 1] + column], axis=1)
    random = kernels.cell_random(seed, address)
    start, mitochondrion = _place_mitochondria(site, random, tissue)
    half = 1 << 27
    key: Integers = ((address[:, 0] + 1) << 56) | ((address[:, 1] + half) << 28) | (address[:, 2] + half)
    return kernels.Cells(site, _looks(site, random, tissue, imaging), start, mitochondrion, key)


def _looks(site: Floats, random: Floats, tissue: Tissue, imaging: Imaging) -> Floats:
    look = np.zeros((len(site), kernels.N_CELL))
    # Sum of uniforms: a bell shape with a bounded tail; one cell in twelve is a dark one (glia, or a sick cell).
    bell = random[:, 0] + random[:, 1] + random[:, 2] - 1.5
    dark = (random[:, 3] < 0.08) * (0.5 + random[:, 4])
    look[:, kernels.CELL_GREY] = imaging.cytoplasm_grey + imaging.cell_variation * (2.0 * bell - 2.0 * dark)
    look[:, kernels.CELL_GRAIN] = imaging.grain * (0.75 + 0.5 * random[:, 5])
    look[:, kernels.CELL_SHIFT_Y] = np.floor(random[:, 6] * kernels.TEXTURE_SIZE)
    look[:, kernels.CELL_SHIFT_X] = np.floor(random[:, 7] * kernels.TEXTURE_SIZE)
    radius, half_length = site[:, kernels.RADIUS], site[:, kernels.HALF_LENGTH]
    along = (2.0 * random[:, 8] - 1.0) * half_length
    look[:, kernels.POOL_Y] = site[:, kernels.SITE_Y] + along * site[:, kernels.AXIS_Y]
    look[:, kernels.POOL_X] = site[:, kernels.SITE_X] + along * site[:, kernels.AXIS_X]
    pool = np.minimum(radius * (0.8 + 0.9 * random[:, 9]), 900.0)
    look[:, kernels.POOL_RADIUS] = np.where(random[:, 10] < tissue.vesicle_pools, pool, 0.0)
    look[:, kernels.CELL_RETICULUM] = random[:, 11] < tissue.reticulum
    return look


def _place_mitochondria(site: Floats, random: Floats, tissue: Tissue) -> tuple[Integers, Floats]:
    """Return starts per cell and the table of mitochondria; each lies inside its capsule, clear of its neighbours."""
    radius, half_length = site[:, kernels.RADIUS], site[:, kernels.HALF_LENGTH]
    axis_y, axis_x = site[:, kernels.AXIS_Y], site[:, kernels.AXIS_X]
    room = radius - 0.5 * tissue.membrane_thickness_nm - ORGANELLE_CLEARANCE_NM
    area_um2 = (np.pi * radius**2 + 4.0 * radius * half_length) * 1e-6
    wanted = np.floor(tissue.mitochondria_per_um2 * area_um2 + random[:, 12])
    smallest, largest = MITOCHONDRION_MINOR_NM
    placed: list[Floats] = []
    owner: list[Integers] = []
    taken = np.zeros((len(site), MAX_MITOCHONDRIA_PER_CELL, 3))  # y, x, semi-axis along
    for slot in range(MAX_MITOCHONDRIA_PER_CELL):
        u = random[:, 13 + 3 * slot : 16 + 3 * slot]
        v = np.modf(u * 4096.0)[0]  # further digits of the same numbers
        minor = np.minimum(smallest + (largest - smallest) * u[:, 0] ** 1.5, 0.85 * room)
        along = (2.0 * u[:, 1] - 1.0) * half_length
        across = (2.0 * u[:, 2] - 1.0) * np.maximum(room - 1.1 * minor, 0.0)
        # An ellipse along the axis lies in the capsule when the ellipse's straight part does.
        free = np.maximum(half_length - np.abs(along), room - np.abs(across) - 1.1 * minor)
        major = minor + np.minimum(np.maximum(free, 0.0), minor * 2.2 * v[:, 0])
        turn = np.where(half_length > 0.3 * radius, 0.0, (v[:, 1] - 0.5) * np.pi)
        fits_round = np.abs(across) + np.abs(along) * (half_length <= 0.3 * radius) + major <= room
        turn = np.where(fits_round, turn, 0.0)
        y = site[:, kernels.SITE_Y] + along * axis_y - across * axis_x
        x = site[:, kernels.SITE_X] + along * axis_x + across * axis_y
        good = (slot < wanted) & (minor >= 0.8 * smallest)
        apart = np.hypot(taken[:, :, 0] - y[:, None], taken[:, :, 1] - x[:, None]) - taken[:, :, 2]
        good &= np.all((apart > 1.1 * major[:, None] + 20.0) | (taken[:, :, 2] == 0.0), axis=1)
        taken[good, slot] = np.stack([y, x, 1.1 * major], axis=1)[good]
        table = np.empty((len(site), kernels.N_MITO))
        table[:, kernels.MITO_Y], table[:, kernels.MITO_X] = y, x
        table[:, kernels.MITO_AXIS_Y] = axis_y * np.cos(turn) + axis_x * np.sin(turn)
        table[:, kernels.MITO_AXIS_X] = axis_x * np.cos(turn) - axis_y * np.sin(turn)
        table[:, kernels.MITO_A], table[:, kernels.MITO_B] = major, minor
        table[:, kernels.MITO_BEND] = 0.1 * (2.0 * v[:, 2] - 1.0)
        table[:, kernels.MITO_PERIOD] = 30.0 + 14.0 * u[:, 1]
        table[:, kernels.MITO_PHASE] = 6.0 * v[:, 1]
        table[:, kernels.MITO_KEY] = np.floor(u[:, 2] * 2.0**40)
        placed.append(table[good])
        owner.append(np.flatnonzero(good))
    owners = np.concatenate(owner)
    order = np.argsort(owners, kind="stable")
    start = np.zeros(len(site) + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=len(site)), out=start[1:])
    return start, np.ascontiguousarray(np.concatenate(placed)[order])
