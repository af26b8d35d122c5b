"""Joining weighted tiles row of tiles by row of tiles, with no more in memory than the rows that are still open.

Row of tiles i gives rows start_i to stop_i - 1 of the mosaic. When it is added, nothing will be added any more above
start_{i+1}: those rows are finished, and go out; what is below is carried on to the next row of tiles.

    band     [class, stop_i - start_i, width]   rows that row of tiles i gives to
    carried  [class, stop_{i-1} - start_i, width]   the top of it, begun by the rows of tiles above
"""

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from emseg.tiling.axis import AxisTile
from emseg.tiling.grid import TileGrid

Rows = Shaped[np.ndarray, "class row column"]


def open_band(grid: TileGrid, row: int, carried: Rows) -> Rows:
    """Return the rows that row of tiles `row` gives to, holding what the rows of tiles above gave them."""
    n_classes, n_carried, width = carried.shape
    tile = grid.rows[row]
    band = np.zeros((n_classes, tile.stop - tile.start, width), dtype=carried.dtype)
    band[:, :n_carried] = carried
    return band


def weigh(answers: Float32[Tensor, "tile class row column"], row: AxisTile, columns: tuple[AxisTile, ...]) -> Tensor:
    """Return the kept rows of the answers times the weights of their rows and columns.

    Columns that a tile does not give are times zero; with blending "none" nothing is multiplied.
    """
    if row.weights is None:
        return answers
    across = np.zeros((len(columns), 1, 1, answers.shape[-1]), dtype=np.float32)
    for place, column in enumerate(columns):
        across[place, ..., column.start - column.origin : column.stop - column.origin] = column.weights
    down = torch.from_numpy(row.weights).to(answers.device)[:, None]
    return answers * (down * torch.from_numpy(across).to(answers.device))


def add_tile(band: Rows, values: Rows, column: AxisTile) -> None:
    """Add the columns that a tile gives to the rows of its row of tiles."""
    given = values[..., column.start - column.origin : column.stop - column.origin]
    if column.weights is None:
        band[..., column.start : column.stop] = given
    else:
        band[..., column.start : column.stop] += given


def close_band(grid: TileGrid, row: int, band: Rows) -> tuple[Rows, Rows]:
    """Return the rows that are finished, and those that are carried on."""
    bottom = grid.rows[row + 1].start if row + 1 < len(grid.rows) else grid.height
    n_finished = bottom - grid.rows[row].start
    return band[:, :n_finished], band[:, n_finished:]
