"""What the network said of one batch of tiles, on its way from the device to the mosaic.

Only the rows that are kept are weighed and copied. On a GPU the copy goes on while the next batch is computed. The
least and the largest value travel with it, and tell with one comparison whether NaN, infinity or a value that the
output cannot hold is among them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from emseg.errors import InputError
from emseg.tiling.grid import TileGrid
from emseg.tiling.mosaic import weigh
from emseg.tiling.network import Tiles
from emseg.tiling.output import to_stored, value_range


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for tiles `first`, `first + 1`, ... of row of tiles `row`; `ready` tells when they are copied."""

    row: int
    first: int
    raw: Tensor  # [tile, class, kept row, column], on the device
    weighed: Tensor  # the same, weighed, in memory
    extremes: Tensor  # least and largest value of `raw`, in memory
    ready: torch.cuda.Event | None

    def __len__(self) -> int:
        return len(self.raw)


def collect(answer: Tiles, grid: TileGrid, row: int, first: int, stored: str) -> Answers:
    """Start weighing and copying the answers for a batch of tiles; with blending "none" in the form that is stored."""
    tile = grid.rows[row]
    raw = answer[:, :, tile.start - tile.origin : tile.stop - tile.origin].to(torch.float32)
    weighed = weigh(raw, tile, grid.columns[first : first + len(raw)])
    if tile.weights is None:
        weighed = to_stored(weighed, stored)
    extremes = torch.stack(torch.aminmax(raw))
    if raw.device.type != "cuda":
        return Answers(row, first, raw, weighed.cpu(), extremes.cpu(), None)
    copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (weighed, extremes)]
    for copy, original in zip(copies, (weighed, extremes), strict=True):
        copy.copy_(original, non_blocking=True)
    ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
    ready.record(torch.cuda.current_stream(raw.device))
    return Answers(row, first, raw, copies[0], copies[1], ready)


def receive(answers: Answers, grid: TileGrid, stored: str) -> Shaped[np.ndarray, "tile class row column"]:
    """Return the weighed answers, or raise `InputError` naming the tile that holds what the output cannot."""
    if answers.ready is not None:
        answers.ready.synchronize()
    low, high = value_range(stored)
    least, largest = answers.extremes.tolist()
    if not (least >= low and largest <= high):  # so NaN is caught too
        _refuse_tile(answers, grid, stored)
    return np.asarray(answers.weighed.numpy())


def _refuse_tile(answers: Answers, grid: TileGrid, stored: str) -> None:
    """Raise for the first tile whose kept pixels do not fit; what is thrown away may hold anything."""
    low, high = value_range(stored)
    for place in range(len(answers)):
        column = grid.columns[answers.first + place]
        kept = answers.raw[place, ..., column.start - column.origin : column.stop - column.origin]
        where = f"tile {tile_name(grid, answers.row, answers.first + place)}"
        n_bad = int((~torch.isfinite(kept)).sum())
        if n_bad:
            raise InputError(
                f"The network's output must be finite; {n_bad} of {kept.numel()} values are NaN or infinite in "
                f"{where}. Look at the image there and at the weights; half precision overflows where float32 does not."
            )
        least, largest = (float(value) for value in torch.aminmax(kept))
        if least < low or largest > high:
            holds = "probabilities from 0 to 1" if stored == "uint8" else f"values up to {high:.0f}"
            repair = "End the network with a sigmoid or softmax, or use" if stored == "uint8" else "Use"
            raise InputError(
                f"An output of {stored} holds {holds}; {where} has values from {least:.4g} to {largest:.4g}. "
                f"{repair} an output of float32."
            )


def tile_name(grid: TileGrid, row: int, column: int) -> str:
    """Return how a tile is called in messages: its numbers in the grid, and where its pixels lie."""
    top, left = max(0, grid.rows[row].origin), max(0, grid.columns[column].origin)
    return f"({row}, {column}), which begins at row {top}, column {left} of the image"
