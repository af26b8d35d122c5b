"""An image on disk as tiles of 256 x 256 px, so that a window is read in a few contiguous pieces.

The file is a .npy array [tile row, tile column, row, column], one byte a pixel for grey values, one bit for a mask
(`np.packbits` along columns); tiles beyond the image's border are filled with zeros. `np.load` opens it anywhere.

A window is read by one seek and one read for each row of tiles. Nothing is mapped into memory: a mapping costs one page
fault for every 4 KiB, counts as the process's memory, and kills the process if the file is cut.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError

TILE_PX = 256


@dataclass(frozen=True)
class TiledFile:
    """Where an image lies as tiles; `packed`: a mask of one bit a pixel. `offset`: bytes before the first tile."""

    path: Path
    height: int
    width: int
    packed: bool
    offset: int

    @property
    def n_bytes(self) -> int:
        """The size that the file must have."""
        return self.offset + _n_tiles(self.height) * _n_tiles(self.width) * _tile_bytes(self.packed)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a window as uint8, or bool for a mask; the slices must have plain bounds within the image."""
        first_row, end_row = rows.start // TILE_PX, _n_tiles(rows.stop)
        first, end = columns.start // TILE_PX, _n_tiles(columns.stop)
        tile_bytes, n = _tile_bytes(self.packed), end - first
        tiles = np.empty((end_row - first_row, TILE_PX, n, tile_bytes // TILE_PX), np.uint8)
        piece = np.empty(n * tile_bytes, np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                for tile_row in range(first_row, end_row):
                    file.seek(self.offset + (tile_row * _n_tiles(self.width) + first) * tile_bytes)
                    _fill(file, piece)
                    tiles[tile_row - first_row] = piece.reshape(n, TILE_PX, -1).transpose(1, 0, 2)
        except OSError as error:
            raise InputError(
                f"{self.path}, made from an image and kept in the cache, can no longer be read "
                f"({error.strerror or error}). Open the set again, and it is made again."
            ) from error
        top, left = rows.start - first_row * TILE_PX, columns.start - first * TILE_PX
        height, width = rows.stop - rows.start, columns.stop - columns.start
        flat = tiles.reshape(tiles.shape[0] * TILE_PX, -1)[top : top + height]
        if not self.packed:
            return flat[:, left : left + width].copy()
        bits = np.unpackbits(flat, axis=1)[:, left : left + width]
        return np.ascontiguousarray(bits).view(np.bool_)


def write_tiles(
    file: BinaryIO, path: Path, bands: Iterable[NDArray[Any]], height: int, width: int, *, packed: bool
) -> TiledFile:
    """Write the rows of an image, band by band, as tiles; return what reads them once the file is called `path`.

    Raises `InputError` if the bands have another size than announced.
    """
    n_columns = _n_tiles(width)
    shape = (_n_tiles(height), n_columns, TILE_PX, _tile_bytes(packed) // TILE_PX)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    tiled = TiledFile(path, height, width, packed, file.tell())
    waiting = np.zeros((TILE_PX, n_columns * TILE_PX), np.uint8)
    filled = done = 0
    for band in bands:
        start = 0
        if band.shape[1] != width or done + len(band) > height:
            raise InputError(f"the image for {path.name} must have {height} x {width} pixels; its rows are others.")
        while start < len(band):
            n = min(TILE_PX - filled, len(band) - start)
            waiting[filled : filled + n, :width] = band[start : start + n]
            filled, start = filled + n, start + n
            if filled == TILE_PX:
                _write_row(file, waiting, packed)
                filled = 0
        done += len(band)
    if done != height:
        raise InputError(f"the image for {path.name} must have {height} rows; it has {done}.")
    if filled:
        waiting[filled:] = 0
        _write_row(file, waiting, packed)
    return tiled


def _write_row(file: BinaryIO, rows: NDArray[np.uint8], packed: bool) -> None:
    values = np.packbits(rows, axis=1) if packed else rows
    n_columns = rows.shape[1] // TILE_PX
    file.write(np.ascontiguousarray(values.reshape(TILE_PX, n_columns, -1).transpose(1, 0, 2)).data)


def _fill(file: Any, piece: NDArray[np.uint8]) -> None:
    view = memoryview(piece.data)
    while len(view):
        n = file.readinto(view)
        if not n:
            raise OSError("the file is shorter than it was")
        view = view[n:]


def _n_tiles(length: int) -> int:
    return math.ceil(length / TILE_PX)


def _tile_bytes(packed: bool) -> int:
    return TILE_PX * TILE_PX // (8 if packed else 1)
