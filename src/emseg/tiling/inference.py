"""Tiled inference: a network on an image of any size, in memory that grows with the image's width, not its height.

    for each row of tiles:      read its rows        (one row of tiles ahead, in a thread)
        for each batch:         network -> weigh -> add to the rows that are open
        write the finished rows                      (in a thread)

The tiles of a row are shared out to batches of even size. See `emseg.tiling.grid` for what a grid can be.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped

from emseg.errors import UsageError
from emseg.tiling.answers import Answers, collect, receive
from emseg.tiling.checkpoint import Checkpoint, Setting, describe
from emseg.tiling.grid import TileGrid
from emseg.tiling.mosaic import Rows, add_tile, close_band, open_band
from emseg.tiling.network import Calling, Network, Precision, call_network, device_of, evaluating
from emseg.tiling.output import (
    OutputArray,
    require_classes,
    require_on_disk,
    require_output,
    to_stored,
    write_rows,
)
from emseg.tiling.reading import Band, ImageArray, cut_tiles, read_band, require_image

Progress = Callable[[int, int], None]


def predict_tiled(
    network: Network,
    image: ImageArray,
    grid: TileGrid,
    *,
    batch_size: int = 4,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    mean: float = 0.0,
    scale: float = 1.0,
    out: OutputArray | None = None,
    checkpoint: str | Path | None = None,
    depends_on: Mapping[str, Setting] | None = None,
    progress: Progress | None = None,
) -> OutputArray | Shaped[np.ndarray, "class row column"]:
    """Return the mosaic of what `network` says of the tiles of `image`: `out`, or a new float32 array.

    network     torch module, or function [tile, channel, row, column] -> [tile, class, row, column], both float32
    image       (row, column) or (channel, row, column), in memory, mapped or stored in chunks
    device      where a function's tiles go; a module's go to where its weights are
    mean, scale the network sees (pixel - mean) / scale: for 8-bit images and a network of [0, 1], scale=255
    out         see `emseg.tiling.output`
    checkpoint  file that keeps what is finished: the same call takes up a prediction that was stopped. `out` must be on
                disk. `depends_on` adds to the settings that must stay the same, for example {"weights": "unet.pt"}
    progress    called with the tiles that are done and all tiles, after each batch

    Raises UsageError for a request and InputError for an image, network or checkpoint that does not fit.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"`batch_size` must be a whole number of tiles from 1 up; got {batch_size!r}.")
    require_image(image, grid)
    calling = Calling(device_of(network, device), precision, mean, scale)
    if out is not None:
        require_output(out, image, grid)
    record = None
    if checkpoint is not None:
        require_on_disk(out)
        assert out is not None
        record = Checkpoint(checkpoint, describe(network, image, grid, calling, out, depends_on or {}))
    elif depends_on:
        raise UsageError("`depends_on` is kept in a checkpoint; got one without the other. Name a `checkpoint` file.")
    run = _Run(network, image, grid, calling, batch_size, progress)
    with evaluating(network), ThreadPoolExecutor(max_workers=2) as threads:
        return run.predict(out, record, threads)


@dataclass(frozen=True, eq=False)
class _Run:
    network: Network
    image: ImageArray
    grid: TileGrid
    calling: Calling
    batch_size: int
    progress: Progress | None

    def predict(self, out: OutputArray | None, record: Checkpoint | None, threads: ThreadPoolExecutor) -> OutputArray:
        """Compute the rows of tiles that are not finished, reading ahead and writing behind."""
        grid = self.grid
        finished = record.load(out) if record is not None and out is not None else None
        begin, carried = (0, None) if finished is None else (finished.n_rows, finished.carried)
        stored = "float32" if out is None else str(np.dtype(out.dtype))
        writing: Future[None] | None = None
        ahead = threads.submit(read_band, self.image, grid, begin) if begin < len(grid.rows) else None
        for row in range(begin, len(grid.rows)):
            assert ahead is not None
            pixels = ahead.result()
            if row + 1 < len(grid.rows):
                ahead = threads.submit(read_band, self.image, grid, row + 1)
            band: Rows | None = None
            for answers in self._one_behind(pixels, row, stored):
                if out is None:
                    out = np.empty((answers.raw.shape[1], grid.height, grid.width), dtype=np.float32)
                if band is None:
                    band, carried = self._opened(row, carried, out, answers), None
                self._add(band, answers, stored)
            assert band is not None
            assert out is not None
            rows, carried = close_band(grid, row, band)
            if grid.blending != "none":
                rows = to_stored(torch.from_numpy(rows), stored).numpy()
            if writing is not None:
                writing.result()
            writing = threads.submit(_write, out, grid, row, rows, carried, record)
            if record is not None:
                writing.result()  # so that no more than the row of tiles in work can be lost
        if writing is not None:
            writing.result()
        assert out is not None
        return out

    def _one_behind(self, pixels: Band, row: int, stored: str) -> Iterator[Answers]:
        """Yield the answers of a row of tiles, each when the next batch is under way: a GPU need not wait for us."""
        grid, waiting = self.grid, None
        for first, stop in even_batches(len(grid.columns), self.batch_size):
            tiles = cut_tiles(pixels, grid, first, stop)
            answer = call_network(self.network, tiles, self.calling)
            answers = collect(answer, grid, row, first, stored)
            if waiting is not None:
                yield waiting
            waiting = answers
        if waiting is not None:
            yield waiting

    def _opened(self, row: int, carried: Rows | None, out: OutputArray, answers: Answers) -> Rows:
        n_classes = answers.raw.shape[1]
        require_classes(out, n_classes)
        if carried is None:
            dtype = np.dtype(out.dtype) if self.grid.blending == "none" else np.dtype(np.float32)
            carried = np.empty((n_classes, 0, self.grid.width), dtype=dtype)
        return open_band(self.grid, row, carried)

    def _add(self, band: Rows, answers: Answers, stored: str) -> None:
        values = receive(answers, self.grid, stored)
        for place, column in enumerate(self.grid.columns[answers.first : answers.first + len(answers)]):
            add_tile(band, values[place], column)
        if self.progress is not None:
            done = answers.row * len(self.grid.columns) + answers.first + len(answers)
            self.progress(done, self.grid.n_tiles)


def even_batches(n_tiles: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (first, stop) of the batches that `n_tiles` tiles are shared out to: as few and as even as can be."""
    n_batches = -(-n_tiles // batch_size)
    ends = [n_tiles * k // n_batches for k in range(n_batches + 1)]
    return list(pairwise(ends))


def _write(out: OutputArray, grid: TileGrid, row: int, rows: Rows, carried: Rows, record: Checkpoint | None) -> None:
    top = grid.rows[row].start
    write_rows(out, top, rows)
    if record is None:
        return
    if isinstance(out, np.memmap):
        out.flush()
    record.save(row + 1, top, rows, carried)
