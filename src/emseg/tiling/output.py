"""Where the mosaic goes: [class, row, column], or [row, column] for one class, in memory or on disk.

    float32, float16    the values as they are
    uint8               probabilities p in [0, 1] as round(255 p): read them back as value / 255

Any array with `shape`, `dtype` and assignment to slices will do: NumPy, a memory map, zarr. Rows are written once each,
from the top, a row of tiles at a time; chunks as wide as the image and a row of tiles high are written fastest.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.tiling.grid import TileGrid
from emseg.tiling.reading import ImageArray

STORED_TYPES = ("float16", "float32", "uint8")
_OUTSIDE = 1e-3  # by so much a probability may leave [0, 1] by rounding


class OutputArray(ImageArray, Protocol):
    """What an output must have."""

    def __setitem__(self, index: Any, value: Any, /) -> None: ...


def open_output(path: str | Path, grid: TileGrid, n_classes: int, dtype: str = "float16") -> np.memmap[Any, Any]:
    """Return the .npy file at `path` as a memory map for the mosaic: the one that is there, or a new one.

    Raises InputError where a file is there that is not such an array: nothing is overwritten.
    """
    path, shape = Path(path), (n_classes, grid.height, grid.width)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    try:
        out = np.lib.format.open_memmap(path, mode="r+")
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} must be a .npy file that can be written, to hold the mosaic; {error}. Choose another file."
        ) from error
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise InputError(
            f"{path} is there already, and holds {out.dtype} of shape {out.shape}; this mosaic is {dtype} of shape "
            f"{shape}. Choose another file, or remove this one."
        )
    return out


def require_output(out: OutputArray, image: ImageArray, grid: TileGrid) -> OutputArray:
    """Return `out`, or raise `UsageError` where the mosaic of `grid` cannot be written to it."""
    shape = tuple(out.shape)
    if len(shape) not in (2, 3) or shape[-2:] != (grid.height, grid.width):
        raise UsageError(
            f"`out` must be (class, row, column) or (row, column) of {grid.height} x {grid.width} pixels; "
            f"got shape {shape}."
        )
    if str(np.dtype(out.dtype)) not in STORED_TYPES:
        raise UsageError(f"`out` must hold one of {', '.join(STORED_TYPES)}; got {out.dtype}.")
    read_only = not out.flags.writeable if isinstance(out, np.ndarray) else getattr(out, "read_only", False)
    if read_only:
        raise UsageError("`out` must be writable; this one was opened for reading. Open it with mode='r+'.")
    both_in_memory = isinstance(out, np.ndarray) and isinstance(image, np.ndarray)
    if out is image or (both_in_memory and np.may_share_memory(out, image)):
        raise UsageError("`out` must not be the image itself, whose rows are read again for the tiles below them.")
    return out


def require_on_disk(out: OutputArray | None) -> None:
    """Raise `UsageError` where `out` would not outlive the process, so that nothing could be taken up again."""
    in_memory = isinstance(out, np.ndarray) and (not isinstance(out, np.memmap) or out.mode == "c")
    if out is None or in_memory:
        kind = "no `out`" if out is None else "an array in memory"
        raise UsageError(
            f"A `checkpoint` needs an `out` on disk, for what is in memory is gone with the process; got {kind}. "
            "Make one with emseg.tiling.open_output, or hand over a zarr array."
        )


def require_classes(out: OutputArray, n_classes: int) -> None:
    """Raise `UsageError` where `out` has not one plane for each class that the network returned."""
    planes = out.shape[0] if len(out.shape) == 3 else 1
    if planes != n_classes:
        raise UsageError(
            f"`out` must have one plane for each class of the network, that is {n_classes}; "
            f"got shape {tuple(out.shape)}."
        )


def value_range(dtype: str) -> tuple[float, float]:
    """Return the least and the largest value that an output of this type can hold."""
    if dtype == "uint8":
        return -_OUTSIDE, 1 + _OUTSIDE
    limit = float(np.finfo(dtype).max)
    return -limit, limit


def to_stored(values: Float[Tensor, "*shape"], dtype: str) -> Shaped[Tensor, "*shape"]:
    """Return the values in the form in which they are stored."""
    if dtype == "uint8":
        return (values * 255).round_().clamp_(0, 255).to(torch.uint8)
    stored: torch.dtype = getattr(torch, dtype)
    return values.to(stored)


def write_rows(out: OutputArray, top: int, rows: Shaped[np.ndarray, "class row column"]) -> None:
    """Write finished rows of the mosaic, from row `top` on."""
    place = slice(top, top + rows.shape[1])
    if len(out.shape) == 2:
        out[place, :] = rows[0]
    else:
        out[:, place, :] = rows


def read_rows(out: OutputArray, top: int, bottom: int) -> Shaped[np.ndarray, "class row column"]:
    """Return rows of the mosaic as they were written."""
    rows = np.asarray(out[top:bottom, :] if len(out.shape) == 2 else out[:, top:bottom, :])
    return rows[None] if rows.ndim == 2 else rows
