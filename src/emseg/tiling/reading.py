"""Reading rows of tiles from any array, mirrored where tiles reach beyond the image.

An image is anything with `shape`, `dtype` and slices: a NumPy array, a memory map, a zarr array. It is (row, column) or
(channel, row, column). A whole row of tiles is read at a time, so that a chunk of a stored image is decoded once or
twice and not once for every tile that touches it.

    band  [channel, tile height, columns]   uint8 where the image is uint8, float32 otherwise

Beyond the image, pixel -1 is pixel 1 and pixel `length` is pixel `length - 2`, as often as it takes.
"""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from emseg.errors import InputError
from emseg.tiling.grid import TileGrid

Band = UInt8[np.ndarray, "channel row column"] | Float32[np.ndarray, "channel row column"]


class ImageArray(Protocol):
    """What an image must have."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(row, column) or (channel, row, column)."""

    @property
    def dtype(self) -> Any:
        """The type of a pixel."""

    def __getitem__(self, index: Any, /) -> Any: ...


def mirrored(origin: int, n: int, length: int) -> Int64[np.ndarray, " n"]:
    """Return where the `n` pixels from `origin` on are found in an axis of `length` pixels that ends in mirrors."""
    places = np.arange(origin, origin + n, dtype=np.int64)
    if length == 1:
        return np.zeros(n, dtype=np.int64)
    places = np.mod(places, 2 * (length - 1))
    return np.minimum(places, 2 * (length - 1) - places)


def require_image(image: ImageArray, grid: TileGrid) -> ImageArray:
    """Return `image`, or raise `InputError` where it is no image of the grid's size."""
    shape = tuple(image.shape)
    if len(shape) not in (2, 3):
        raise InputError(
            f"An image must be (row, column) or (channel, row, column); got shape {shape}. Hand over one at a time."
        )
    if shape[-2:] != (grid.height, grid.width):
        last = len(shape) == 3 and shape[:2] == (grid.height, grid.width)
        repair = (
            "Move its channels to the front: np.moveaxis(image, -1, 0)." if last else "Make the grid for this image."
        )
        raise InputError(
            f"The image must be as large as the grid, {grid.height} x {grid.width} pixels; got shape {shape}. {repair}"
        )
    if np.dtype(image.dtype).kind not in "buif":
        raise InputError(f"An image must hold integers or floating-point numbers; got {image.dtype}.")
    return image


def n_channels(image: ImageArray) -> int:
    """Return the number of channels; an image (row, column) has one."""
    return image.shape[0] if len(image.shape) == 3 else 1


def read_band(image: ImageArray, grid: TileGrid, row: int) -> Band:
    """Return the pixels of one row of tiles, from the first tile's left to the last tile's right."""
    height, width = grid.tile_shape
    first, last = grid.columns[0].origin, grid.columns[-1].origin
    rows = mirrored(grid.rows[row].origin, height, grid.height)
    columns = mirrored(first, last - first + width, grid.width)
    top, bottom = int(rows.min()), int(rows.max()) + 1
    pixels = image[top:bottom, :] if len(image.shape) == 2 else image[:, top:bottom, :]
    dtype = np.uint8 if np.dtype(image.dtype) == np.uint8 else np.float32
    band = np.array(pixels, dtype=dtype).reshape(n_channels(image), bottom - top, grid.width)  # a copy, in memory
    if len(rows) != bottom - top or rows[0] != top:
        band = band[:, rows - top]
    if len(columns) != grid.width or columns[0] != 0:
        band = band[:, :, columns]
    return band


def cut_tiles(band: Band, grid: TileGrid, first: int, stop: int) -> Band:
    """Return the tiles `first` to `stop - 1` of a row of tiles as [tile, channel, row, column]."""
    height, width = grid.tile_shape
    left = grid.columns[0].origin
    tiles = np.empty((stop - first, band.shape[0], height, width), dtype=band.dtype)
    for place, column in enumerate(grid.columns[first:stop]):
        tiles[place] = band[:, :, column.origin - left : column.origin - left + width]
    return tiles
