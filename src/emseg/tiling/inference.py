"""Tiled inference: a network on an image of any size, in memory that grows with the image's width, not its height.

    for each row of tiles:      read its rows        (one row of tiles ahead, in a thread)
        for each batch:         network -> weigh -> add to the open rows
        write the finished rows                      (in a thread)

A module is in evaluation mode during the prediction, because batch normalisation in training mode would make every tile
depend on its batch. Row of tiles i contributes rows start_i to stop_i - 1 of the mosaic. When it has been added, the
rows above start_{i+1} are finished and written; those below are carried to the next row of tiles.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError
from emseg.tiling.arrays import (
    Band,
    ImageArray,
    OutputArray,
    Rows,
    TileBatch,
    cut_tiles,
    read_band,
    require_image,
    require_output,
    to_stored,
    value_range,
    write_rows,
)
from emseg.tiling.grid import TileGrid
from emseg.tiling.resume import Checkpoint, Setting, describe_prediction

Tiles = Float[Tensor, "tile _ row column"]
Network = nn.Module | Callable[..., Any]
Precision = Literal["float32", "bfloat16", "float16"]
Progress = Callable[[int, int], Any]


def predict_tiled(
    network: Network,
    image: ImageArray,
    grid: TileGrid,
    *,
    batch_size: float = 4,  # checked to be a whole number
    device: str | torch.device | None = None,
    precision: str = "float32",
    mean: float = 0.0,
    scale: float = 1.0,
    out: OutputArray | None = None,
    checkpoint: str | Path | None = None,
    depends_on: Mapping[str, Setting] | None = None,
    progress: Progress | None = None,
) -> OutputArray:
    """Return the mosaic of the network's outputs for the tiles of `image`: `out`, or a new float32 array.

    network     torch module, or function [tile, channel, row, column] -> [tile, class, row, column], both float32
    image       (row, column) or (channel, row, column), in memory, mapped or stored in chunks
    device      where a function's tiles go; a module's go to where its weights are
    mean, scale the network sees (pixel - mean) / scale: for 8-bit images and a network of [0, 1], scale=255
    out         see `emseg.tiling.arrays`
    checkpoint  file that records what is finished: the same call resumes an interrupted prediction. `out` must be on
                disk. `depends_on` adds to the settings that must stay the same, for example {"weights": "unet.pt"}
    progress    called with the finished tiles and all tiles, after each batch

    Raises UsageError for a request and InputError for an image, network or checkpoint that does not fit.
    """
    n_batch = require_count("batch_size", batch_size)
    require_image(image, grid)
    require_one_of("precision", precision, get_args(Precision))
    if not (math.isfinite(mean) and math.isfinite(scale) and scale > 0):
        raise UsageError(f"`mean` must be finite and `scale` finite and positive; got mean={mean}, scale={scale}.")
    place = device_of(network, device)
    if out is not None:
        require_output(out, image, grid)
    record = None
    if checkpoint is not None:
        in_memory = isinstance(out, np.ndarray) and (not isinstance(out, np.memmap) or out.mode == "c")
        if out is None or in_memory:
            kind = "no `out`" if out is None else "an array in memory"
            raise UsageError(
                f"A `checkpoint` needs an `out` on disk, because memory is lost with the process; got {kind}. "
                "Make one with emseg.tiling.open_output, or pass a zarr array."
            )
        calling = {"precision": precision, "mean": mean, "scale": scale}
        record = Checkpoint(checkpoint, describe_prediction(network, image, grid, out, depends_on or {}, **calling))
    elif depends_on:
        raise UsageError("`depends_on` is kept in a checkpoint; got one without the other. Name a `checkpoint` file.")
    stored = "float32" if out is None else str(np.dtype(out.dtype))
    run = _Prediction(network, image, grid, place, precision, mean, scale, n_batch, stored, progress)
    with evaluating(network), ThreadPoolExecutor(max_workers=2) as threads:
        return run.predict(out, record, threads)


def device_of(network: Network, device: str | torch.device | None) -> torch.device:
    """Return where the tiles go: the module's own device, or for a function the requested `device`, or the CPU."""
    try:
        asked = None if device is None else torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f'`device` must be one of torch\'s, such as "cpu" or "cuda:0"; got {device!r}.') from None
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    if "meta" in (asked and asked.type, first is not None and first.device.type):
        raise UsageError("A network must have weights to compute with; `meta` has shapes alone. Load it on a device.")
    if first is None:
        return asked or torch.device("cpu")
    if asked is not None and (asked.type != first.device.type or asked.index not in (None, first.device.index)):
        raise UsageError(
            f"The network's weights are on {first.device}, but `device` is {asked}. "
            f"Move them with network.to({str(asked)!r})."
        )
    return first.device


def even_batches(n_tiles: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (first, stop) of as few batches of `n_tiles` tiles as possible, as even as possible."""
    n_batches = -(-n_tiles // batch_size)
    return list(pairwise(n_tiles * k // n_batches for k in range(n_batches + 1)))


class _Outputs(NamedTuple):
    """The outputs for tiles `first`, `first + 1`, ... of a row of tiles; `ready` fires when they are copied."""

    row: int
    first: int
    raw: Tensor  # [tile, class, kept row, column], on the device
    weighed: Tensor  # the same, weighted, in memory
    extremes: Tensor  # smallest and largest value of `raw`, in memory
    ready: torch.cuda.Event | None


@dataclass(frozen=True, eq=False)
class _Prediction:
    network: Network
    image: ImageArray
    grid: TileGrid
    device: torch.device
    precision: str
    mean: float
    scale: float
    batch_size: int
    stored: str
    progress: Progress | None

    def predict(self, out: OutputArray | None, record: Checkpoint | None, threads: ThreadPoolExecutor) -> OutputArray:
        """Compute the rows of tiles that are not finished, reading ahead and writing behind."""
        grid = self.grid
        begin, carried = record.load(out) if record is not None and out is not None else (0, None)
        writing: Future[None] | None = None
        ahead = threads.submit(read_band, self.image, grid, min(begin, len(grid.rows) - 1))
        for row in range(begin, len(grid.rows)):
            pixels, tile = ahead.result(), grid.rows[row]
            if row + 1 < len(grid.rows):
                ahead = threads.submit(read_band, self.image, grid, row + 1)
            band: Rows | None = None
            for outputs in self._one_behind(pixels, row):
                n_classes = outputs.raw.shape[1]
                if out is None:
                    out = np.empty((n_classes, grid.height, grid.width), dtype=np.float32)
                if band is None:  # the rows to which this row of tiles contributes
                    if (out.shape[0] if len(out.shape) == 3 else 1) != n_classes:
                        raise UsageError(
                            f"`out` must have one plane for each class of the network, that is {n_classes}; "
                            f"got shape {tuple(out.shape)}."
                        )
                    dtype = self.stored if not grid.overlap else "float32"
                    band = np.zeros((n_classes, tile.stop - tile.start, grid.width), dtype=dtype)
                    if carried is not None:
                        band[:, : carried.shape[1]] = carried
                self._add(outputs, band)
            assert band is not None
            assert out is not None
            bottom = grid.rows[row + 1].start if row + 1 < len(grid.rows) else grid.height
            rows, carried = np.split(band, [bottom - tile.start], axis=1)
            if grid.overlap:
                rows = to_stored(torch.from_numpy(rows), self.stored).numpy()
            if writing is not None:
                writing.result()
            writing = threads.submit(_write, out, row + 1, tile.start, rows, carried, record)
            if record is not None:
                writing.result()  # so that no more than the current row of tiles can be lost
        if writing is not None:
            writing.result()
        assert out is not None
        return out

    def _one_behind(self, pixels: Band, row: int) -> Iterator[_Outputs]:
        """Yield the outputs of a row of tiles, each once the next batch is under way: a GPU need not wait for us."""
        made = (
            self._collect(self._call(cut_tiles(pixels, self.grid, first, stop)), row, first)
            for first, stop in even_batches(len(self.grid.columns), self.batch_size)
        )
        waiting = next(made)
        for outputs in made:
            yield waiting
            waiting = outputs
        yield waiting

    def _call(self, tiles: TileBatch) -> Tiles:
        pixels = torch.from_numpy(tiles)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        x = pixels.to(self.device, non_blocking=True).to(torch.float32)  # 8-bit pixels travel as 8 bits
        if (self.mean, self.scale) != (0.0, 1.0):
            x = (x - self.mean) / self.scale
        half = self.precision != "float32"
        with torch.autocast(self.device.type, getattr(torch, self.precision)) if half else nullcontext():
            return _require_shape(self.network(x), tiles.shape)

    def _collect(self, output: Tiles, row: int, first: int) -> _Outputs:
        """Start weighting and copying the kept outputs of a batch, without blending in the type that is stored.

        On a GPU the copy overlaps with the next batch. The smallest and the largest value travel along: one comparison
        finds NaN, infinity and values that the output cannot represent.
        """
        tile = self.grid.rows[row]
        raw = output[:, :, tile.inside].to(torch.float32)
        if tile.weights is None:
            weighed = to_stored(raw, self.stored)
        else:
            columns = self.grid.columns[first : first + len(raw)]
            across = np.zeros((len(columns), 1, 1, raw.shape[-1]), dtype=np.float32)  # 0 outside a tile's core
            for place, column in enumerate(columns):
                across[place, ..., column.inside] = column.weights
            down = torch.from_numpy(tile.weights).to(raw.device)[:, None]
            weighed = raw * (down * torch.from_numpy(across).to(raw.device))
        extremes = torch.stack(torch.aminmax(raw))
        if raw.device.type != "cuda":
            return _Outputs(row, first, raw, weighed.cpu(), extremes.cpu(), None)
        copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (weighed, extremes)]
        for copy, original in zip(copies, (weighed, extremes), strict=True):
            copy.copy_(original, non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(raw.device))
        return _Outputs(row, first, raw, copies[0], copies[1], ready)

    def _add(self, outputs: _Outputs, band: Rows) -> None:
        if outputs.ready is not None:
            outputs.ready.synchronize()
        low, high = value_range(self.stored)
        smallest, largest = outputs.extremes.tolist()
        if not (smallest >= low and largest <= high):  # catches NaN too
            self._refuse_tile(outputs, low, high)
        for values, column in zip(outputs.weighed.numpy(), self.grid.columns[outputs.first :], strict=False):
            if column.weights is None:
                band[..., column.start : column.stop] = values[..., column.inside]
            else:
                band[..., column.start : column.stop] += values[..., column.inside]
        if self.progress is not None:
            done = outputs.row * len(self.grid.columns) + outputs.first + len(outputs.raw)
            self.progress(done, self.grid.n_tiles)

    def _refuse_tile(self, outputs: _Outputs, low: float, high: float) -> None:
        """Raise for the first tile whose kept pixels do not fit; what is discarded may contain anything."""
        top = self.grid.rows[outputs.row].origin
        for place, raw in enumerate(outputs.raw, start=outputs.first):
            column = self.grid.columns[place]
            kept = raw[..., column.inside]
            where = f"tile ({outputs.row}, {place}), which begins at row {top}, column {column.origin} of the image"
            n_bad = int((~torch.isfinite(kept)).sum())
            if n_bad:
                raise InputError(
                    f"The network's output must be finite; {n_bad} of {kept.numel()} values are NaN or infinite in "
                    f"{where}. Check the image there and the weights; half precision overflows where float32 does not."
                )
            smallest, largest = (float(value) for value in torch.aminmax(kept))
            if smallest < low or largest > high:
                holds, repair = f"values up to {high:.0f}", "Use"
                if self.stored == "uint8":
                    holds, repair = "probabilities from 0 to 1", "End the network with a sigmoid or softmax, or use"
                raise InputError(
                    f"An output of {self.stored} stores {holds}; {where} has values from {smallest:.4g} to "
                    f"{largest:.4g}. {repair} an output of float32."
                )


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Put a module into evaluation mode, without gradients; afterwards each of its parts is as it was."""
    training = [part for part in network.modules() if part.training] if isinstance(network, nn.Module) else []
    if isinstance(network, nn.Module):
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


def _require_shape(output: object, asked: tuple[int, ...]) -> Tiles:
    if isinstance(output, np.ndarray):
        output = torch.from_numpy(output)
    if not isinstance(output, Tensor):
        raise InputError(
            f"The network must return one tensor [tile, class, row, column]; got {type(output).__name__}. "
            "Wrap it in a function that picks the map, for example lambda x: network(x)[0]."
        )
    n, _, height, width = asked
    shape = tuple(output.shape)
    if len(shape) != 4 or (shape[0], *shape[2:]) != (n, height, width) or not output.is_floating_point():
        raise InputError(
            f"The network must return floating-point numbers of shape [{n}, class, {height}, {width}] for tiles of "
            f"shape {list(asked)}; got {output.dtype} of shape {list(shape)}. It may need tiles divisible by "
            "its stride (`multiple`), a layer that keeps the size, or an added axis for its one class."
        )
    return output


def _write(out: OutputArray, n_rows: int, top: int, rows: Rows, carried: Rows, record: Checkpoint | None) -> None:
    write_rows(out, top, rows)
    if record is not None:
        if isinstance(out, np.memmap):
            out.flush()
        record.save(n_rows, top, rows, carried)
