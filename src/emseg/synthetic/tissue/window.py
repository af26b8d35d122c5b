"""Draw a window of the tissue band by band: smooth fields, cells and organelles, then optics, noise, grey levels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.synthetic.tissue.cells import Cells, pack_cells, packing_scale_nm
from emseg.synthetic.tissue.exposure import normal_table, point_spread_taps
from emseg.synthetic.tissue.field_numbers import LARGEST_STRETCH, field_numbers
from emseg.synthetic.tissue.kernels import NODE_NM, blur_columns, bucket_sites, draw_band, expose_rows, node_fields
from emseg.synthetic.tissue.parameters import Imaging, Tissue
from emseg.synthetic.tissue.stain import (
    LARGEST_SMEAR_NM,
    N_SMEARS,
    grain_texture,
    influence_nm,
    membrane_profile,
)

BAND_NODES, MIN_BAND_ROWS = 8, 16
SYNAPSE_STAIN = 0.34
VESICLE_STAIN = 0.75  # of `organelle_stain`
RETICULUM_STAIN = 0.75


@dataclass(frozen=True)
class Drawing:
    """The picture and its truth, [height, width] each; `cell_keys` [n_cells + 1] names the cells across windows."""

    image: NDArray[np.uint8]
    membrane: NDArray[np.bool_]
    cells: NDArray[np.int32]
    organelles: NDArray[np.uint8]
    cell_keys: NDArray[np.int64]


def draw_window(
    shape: tuple[int, int],
    pixel_size_nm: float,
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    origin_nm: tuple[float, float],
) -> Drawing:
    """Draw the window whose upper left corner lies at `origin_nm`. Arguments are taken as valid."""
    height, width = shape
    taps = point_spread_taps(imaging.point_spread_nm / pixel_size_nm)
    halo = len(taps) // 2
    corner = np.array(origin_nm, np.float64) - halo * pixel_size_nm
    n_rows, n_cols = height + 2 * halo, width + 2 * halo
    node = NODE_NM
    first = np.floor(corner / node).astype(np.int64) - 1
    last = np.floor((corner + np.array([n_rows, n_cols]) * pixel_size_nm) / node).astype(np.int64) + 1
    numbers = field_numbers(tissue, imaging)
    cells, buckets = _cells_and_buckets(
        seed,
        tissue,
        imaging,
        (first * node).astype(np.float64),
        (last * node).astype(np.float64),
        numbers,
        pixel_size_nm,
    )
    drops = np.array(
        [
            imaging.membrane_stain,
            SYNAPSE_STAIN * (imaging.membrane_stain > 0.0),
            imaging.organelle_stain,
            imaging.organelle_stain * VESICLE_STAIN,
            imaging.organelle_stain * RETICULUM_STAIN,
        ]
    )
    profile = membrane_profile(tissue.membrane_thickness_nm, pixel_size_nm)
    texture = grain_texture(pixel_size_nm)
    noise = 0.0 if imaging.dose_per_nm2 is None else 1.0 / (math.sqrt(imaging.dose_per_nm2) * pixel_size_nm)
    first_pixel = np.array([round(edge / pixel_size_nm) for edge in origin_nm], np.int64)

    drawing = Drawing(
        image=np.empty(shape, np.uint8),
        membrane=np.empty(shape, np.bool_),
        cells=np.empty(shape, np.int32),
        organelles=np.empty(shape, np.uint8),
        cell_keys=np.zeros(0, np.int64),
    )
    ids = np.zeros(len(cells.site), np.int32)
    next_id = 1
    step = max(BAND_NODES, math.ceil(MIN_BAND_ROWS * pixel_size_nm / node))
    most_rows = math.ceil(step * node / pixel_size_nm) + 1
    grey = np.empty((most_rows, n_cols), np.float32)
    blurred = np.empty((most_rows + 2 * halo, width), np.float32)
    waiting = done = row = 0
    for band in range(int(first[0]), int(last[0]) + 1, step):
        end = min(math.ceil(((band + step) * node - corner[0]) / pixel_size_nm - 0.5), n_rows)
        if end <= row:
            continue
        fields = node_fields(seed, band, first[1], step + 1, last[1] - first[1] + 1, numbers)
        rows = grey[: end - row]
        next_id = draw_band(
            seed,
            fields,
            np.array([band, first[1]]),
            pixel_size_nm,
            corner,
            row,
            halo,
            cells.site,
            cells.look,
            cells.mitochondrion_start,
            cells.mitochondrion,
            *buckets,
            profile,
            LARGEST_SMEAR_NM / (N_SMEARS - 1),
            0.5 * tissue.membrane_thickness_nm,
            texture,
            drops,
            rows,
            drawing.membrane,
            drawing.cells,
            drawing.organelles,
            ids,
            next_id,
        )
        blur_columns(rows, taps, blurred[waiting : waiting + len(rows)])
        waiting += len(rows)
        row = end
        ready = waiting - 2 * halo
        if ready > 0:
            expose_rows(
                seed,
                blurred[:waiting],
                taps,
                noise,
                imaging.contrast,
                imaging.cytoplasm_grey,
                first_pixel + np.array([done, 0]),
                normal_table(),
                drawing.image[done : done + ready],
            )
            done += ready
            blurred[: 2 * halo] = blurred[ready:waiting].copy()
            waiting = 2 * halo
    keys = np.zeros(next_id, np.int64)
    keys[ids] = np.where(ids > 0, cells.key, 0)
    return Drawing(drawing.image, drawing.membrane, drawing.cells, drawing.organelles, keys)


def _cells_and_buckets(
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    numbers: NDArray[np.float64],
    pixel_size_nm: float,
) -> tuple[Cells, tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64], float, NDArray[np.int64], int]]:
    """Return the cells near a box of the section and, for each square of a grid, those that can be nearest in it."""
    scale = packing_scale_nm(tissue)
    moved = 1.1 * (numbers[1] + numbers[3])  # how far the warp may carry a point
    low, high = low - moved, high + moved
    pitch = max(0.12 * scale, 90.0)
    cutoff = 2.0 * LARGEST_STRETCH * influence_nm(tissue.membrane_thickness_nm, pixel_size_nm)
    slack = 2.0 * LARGEST_STRETCH * math.sqrt(0.5) * NODE_NM + math.sqrt(2.0) * pitch + cutoff
    n = np.ceil((high - low) / pitch).astype(np.int64) + 1
    reach = 0.5 * scale + slack
    while True:
        cells = pack_cells(seed, tissue, imaging, (low[0], low[1]), (high[0] + pitch, high[1] + pitch), reach)
        start, index, furthest = bucket_sites(cells.site, low, pitch, n[0], n[1], slack, reach)
        if furthest + slack <= reach:
            return cells, (start, index, low, pitch, n, int(np.diff(start).max()))
        reach = 1.5 * reach  # a hole in the packing: look further
