"""Image and mosaic as arrays in memory or on disk: rows of tiles are read from one, finished rows go to the other.

An image has `shape`, `dtype` and slices (NumPy, memory map, zarr), as (row, column) or (channel, row, column). A whole
row of tiles is read at a time, so that a stored chunk is decoded once or twice. Beyond the image it is mirrored.

The mosaic is [class, row, column], or [row, column] for one class, with assignment to slices. It contains float32 or
float16 values as they are, and as uint8 probabilities p in [0, 1] as round(255 p). Rows are written once each, from the
top; chunks as wide as the image and a row of tiles high are written fastest.
"""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from torch import Tensor

from emseg.checks import require_one_of
from emseg.errors import InputError, UsageError
from emseg.tiling.grid import TileGrid

Band = UInt8[np.ndarray, "channel row column"] | Float32[np.ndarray, "channel row column"]
TileBatch = UInt8[np.ndarray, "tile channel height width"] | Float32[np.ndarray, "tile channel height width"]
Rows = Shaped[np.ndarray, "class _ column"]
STORED_TYPES = ("float16", "float32", "uint8")
_OUTSIDE = 1e-3  # a probability may leave [0, 1] by this much through rounding


@runtime_checkable
class ImageArray(Protocol):
    """What an image must have."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(row, column) or (channel, row, column)."""

    @property
    def dtype(self) -> Any:
        """The type of a pixel."""

    def __getitem__(self, index: Any, /) -> Any: ...


@runtime_checkable
class OutputArray(ImageArray, Protocol):
    """What an output must have."""

    def __setitem__(self, index: Any, value: Any, /) -> None: ...


def mirrored(origin: int, n: int, length: int) -> Int64[np.ndarray, " place"]:
    """Return the places of the `n` pixels from `origin` on an axis of `length` pixels that ends in mirrors.

    Pixel -1 is pixel 1, pixel `length` is pixel `length - 2`, as often as needed.
    """
    period = max(2 * (length - 1), 1)
    places = np.arange(origin, origin + n, dtype=np.int64) % period
    return np.minimum(places, (period - places) % period)


def require_image(image: ImageArray, grid: TileGrid) -> None:
    """Raise `InputError` where `image` is not an image of the grid's size."""
    shape, size = tuple(image.shape), (grid.height, grid.width)
    if len(shape) not in (2, 3):
        raise InputError(
            f"An image must be (row, column) or (channel, row, column); got shape {shape}. Hand over one at a time."
        )
    if shape[-2:] != size:
        channels_last = len(shape) == 3 and shape[:2] == size
        repair = "Move its channels to the front: np.moveaxis(image, -1, 0)." if channels_last else "Make another grid."
        raise InputError(
            f"The image must be as large as the grid, {size[0]} x {size[1]} pixels; got shape {shape}. {repair}"
        )
    if np.dtype(image.dtype).kind not in "buif":
        raise InputError(f"An image must contain integers or floating-point numbers; got {image.dtype}.")


def read_band(image: ImageArray, grid: TileGrid, row: int) -> Band:
    """Return the pixels of one row of tiles, uint8 where the image is uint8, float32 otherwise."""
    height, width = grid.tile_shape
    rows = mirrored(grid.rows[row].origin, height, grid.height)
    columns = mirrored(0, grid.columns[-1].origin + width, grid.width)
    top, bottom = int(rows.min()), int(rows.max()) + 1
    flat = len(image.shape) == 2
    pixels = image[top:bottom, :] if flat else image[:, top:bottom, :]
    dtype = np.uint8 if np.dtype(image.dtype) == np.uint8 else np.float32
    band = np.array(pixels, dtype=dtype).reshape(-1, bottom - top, grid.width)  # a copy, in memory
    if len(rows) != bottom - top or rows[0] != top:
        band = band[:, rows - top]
    return band if len(columns) == grid.width else band[:, :, columns]


def cut_tiles(band: Band, grid: TileGrid, first: int, stop: int) -> TileBatch:
    """Return the tiles `first` to `stop - 1` of a row of tiles."""
    width = grid.tile_shape[1]
    return np.stack([band[:, :, one.origin : one.origin + width] for one in grid.columns[first:stop]])


def open_output(path: str | Path, grid: TileGrid, n_classes: int, dtype: str = "float16") -> np.memmap[Any, Any]:
    """Return the .npy file at `path` as a memory map for the mosaic: the existing one, or a new one.

    Raises InputError where the existing file is not such an array, as nothing is overwritten, or space is lacking.
    """
    path, shape = Path(path), (n_classes, grid.height, grid.width)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
            if hasattr(os, "posix_fallocate"):  # a full disk is found now: in the middle it would end the process
                with path.open("rb+") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise InputError(
                f"{path} could not be written: {error.strerror or error}. Free some space or choose another folder."
            ) from error
        return made
    try:
        out = np.lib.format.open_memmap(path, mode="r+")
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} must be a writable .npy file for the mosaic; {error}. Choose another file."
        ) from error
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise InputError(
            f"{path} exists, and contains {out.dtype} of shape {out.shape}; this mosaic is {dtype} of shape {shape}. "
            "Choose another file, or remove this one."
        )
    return out


def require_output(out: OutputArray, image: ImageArray, grid: TileGrid) -> None:
    """Raise `UsageError` where the mosaic of `grid` cannot be written to `out`."""
    shape = tuple(out.shape)
    if len(shape) not in (2, 3) or shape[-2:] != (grid.height, grid.width):
        raise UsageError(
            f"`out` must be (class, row, column) or (row, column) of {grid.height} x {grid.width} pixels; "
            f"got shape {shape}."
        )
    require_one_of("out.dtype", str(np.dtype(out.dtype)), STORED_TYPES)
    if not out.flags.writeable if isinstance(out, np.ndarray) else getattr(out, "read_only", False):
        raise UsageError("`out` must be writable; this one was opened for reading. Open it with mode='r+'.")
    both_in_memory = isinstance(out, np.ndarray) and isinstance(image, np.ndarray)
    if out is image or (both_in_memory and np.may_share_memory(out, image)):
        raise UsageError("`out` must not be the image itself, whose rows are read again for the tiles below them.")


def value_range(dtype: str) -> tuple[float, float]:
    """Return the smallest and the largest value that an output of this type can represent."""
    limit = 0.0 if dtype == "uint8" else float(np.finfo(dtype).max)
    return (-limit, limit) if limit else (-_OUTSIDE, 1 + _OUTSIDE)


def to_stored(values: Float[Tensor, "*shape"], dtype: str) -> Shaped[Tensor, "*shape"]:
    """Return the values as they are stored."""
    if dtype == "uint8":
        values = (values * 255).round_().clamp_(0, 255)
    return values.to(getattr(torch, dtype))


def write_rows(out: OutputArray, top: int, rows: Rows) -> None:
    """Write finished rows of the mosaic, from row `top` on."""
    if len(out.shape) == 2:
        out[top : top + rows.shape[1], :] = rows[0]
    else:
        out[:, top : top + rows.shape[1], :] = rows


def read_rows(out: OutputArray, top: int, bottom: int) -> Rows:
    """Return rows of the mosaic as they were written."""
    rows = np.asarray(out[top:bottom, :] if len(out.shape) == 2 else out[:, top:bottom, :])
    return rows[None] if rows.ndim == 2 else rows
