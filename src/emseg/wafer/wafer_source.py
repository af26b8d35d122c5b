"""A wafer image read block by block as 8-bit grey, whatever its file and its size.

    uncompressed TIFF              mapped: the file's own pages, as they are needed
    tiled or compressed TIFF,      decoded chunk by chunk (tifffile's zarr store); the levels of a pyramid are images
    BigTIFF, pyramids              their levels, of which a smaller one serves where the network needs no more
    PNG, JPEG, turned TIFF ...     decoded whole

Colour becomes luminance, 0.299 R + 0.587 G + 0.114 B. Images of more than 8 bits are mapped to 0 to 255, clipped, from
`grey_range` = (black, white), or from the 0.5th to the 99.5th percentile of sampled rows without their darkest value,
which fills the border of a mosaic. NaN is black. `notes` lists what was done.

Source of the luminance: ITU-R BT.601.
"""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import UInt8
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError
from emseg.files import decoding, digest_of_array
from emseg.images import image_size, read_gray

LUMINANCE = (0.299, 0.587, 0.114)
SAMPLED_ROWS = 48
SATURATED_SHARE = 0.25
_PERCENTILES = (0.5, 99.5)


class WaferImage:
    """An image of `height` x `width` pixels whose blocks `image[rows, columns]` are 8-bit grey arrays.

    `levels` are the image and its smaller copies, each (row, column), (row, column, colour) or (colour, row, column).
    """

    def __init__(
        self,
        name: str,
        levels: list[Any],
        *,
        colours: int | None = None,
        inverted: bool = False,
        grey_range: tuple[float, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name, self.levels, self.colours, self.inverted, self.grey_range = name, levels, colours, inverted, None
        self.shape, self.dtype, self.ndim = self.level_shape(0), np.dtype(np.uint8), 2
        rows = np.unique(np.linspace(0, self.shape[0] - 1, SAMPLED_ROWS).astype(int))
        sample = np.concatenate([self._grey(slice(row, row + 1), slice(None), 0) for row in rows])
        self.fingerprint = digest_of_array(sample)
        said = list(notes)
        if colours is not None:
            said.append("The image is in colour; its luminance was used.")
        if sample.dtype != np.uint8 or grey_range is not None:
            low, high = grey_range or _percentiles(sample)
            if not low < high:
                raise UsageError(
                    f"`grey_range` must be (black, white) with black below white; got ({low:g}, {high:g})."
                )
            how = "as asked" if grey_range else "percentiles of the image; choose others with --grey-range"
            said.append(f"Greys of {low:g} to {high:g} became 0 to 255 ({how}).")
            self.grey_range = (float(low), float(high))
            sample = _to_8_bit(sample, *self.grey_range)
        saturated = float((sample == 255).mean())
        if saturated > SATURATED_SHARE:
            said.append(f"{saturated:.0%} of the pixels are saturated (255); sections there cannot be seen.")
        self.notes = tuple(said)

    @property
    def size(self) -> int:
        """The number of pixels."""
        return self.shape[0] * self.shape[1]

    def level_shape(self, level: int) -> tuple[int, int]:
        """Return height and width of a level."""
        shape = list(self.levels[level].shape)
        if self.colours is not None:
            del shape[self.colours]
        return int(shape[0]), int(shape[1])

    def read(self, rows: slice, columns: slice, level: int = 0) -> UInt8[np.ndarray, "row column"]:
        """Return a block of a level."""
        block = self._grey(rows, columns, level)
        return block if self.grey_range is None else _to_8_bit(block, *self.grey_range)

    def __getitem__(self, index: tuple[slice, slice]) -> UInt8[np.ndarray, "row column"]:
        return self.read(*index)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self.read(slice(None), slice(None))
        return whole if dtype is None else whole.astype(dtype)

    def _grey(self, rows: slice, columns: slice, level: int) -> NDArray[Any]:
        """Return a block in the file's own range, of one channel."""
        pixels = self.levels[level]
        with decoding(self.name, "image"):
            if self.colours == 0:
                block = np.moveaxis(np.asarray(pixels[:, rows, columns]), 0, -1)
            else:
                block = np.asarray(pixels[rows, columns])
        if self.colours is not None:
            grey = block[..., :3].astype(np.float32) @ np.array(LUMINANCE, np.float32)
            block = grey.round().astype(block.dtype) if block.dtype.kind in "ui" else grey
        return ~block if self.inverted else block


def open_wafer_image(source: Any, *, grey_range: tuple[float, float] | None = None, name: str = "image") -> WaferImage:
    """Return the image in a file or an array ((row, column), or colour in a first or last axis of 3 or 4).

    A `WaferImage` is returned as it is. Raises `InputError`, naming the file, for whatever is not one readable image.
    """
    if isinstance(source, WaferImage):
        return source
    if not isinstance(source, str | Path):
        colours = next((axis for axis in (2, 0) if source.ndim == 3 and source.shape[axis] in (3, 4)), None)
        if source.ndim != 2 + (colours is not None) or not source.size or np.dtype(source.dtype).kind not in "uif":
            raise InputError(
                f"a wafer image must be an array (row, column) of numbers, or colour; got {source.dtype} of shape "
                f"{tuple(source.shape)}."
            )
        return WaferImage(name, [source], colours=colours, grey_range=grey_range)
    path = Path(source)
    image_size(path)  # names whatever is no image, holds several, or ends early
    with path.open("rb") as file:
        is_tiff = file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    opened = _open_tiff(path, grey_range) if is_tiff else None
    if opened is not None:
        return opened
    try:
        return WaferImage(str(path), [read_gray(path, memory_map=True)], grey_range=grey_range)
    except InputError:
        pixels = read_gray(path, memory_map=True, luminance=True)
    note = "The image is in colour; its luminance was used."
    return WaferImage(str(path), [pixels], grey_range=grey_range, notes=(note,))


def _open_tiff(path: Path, grey_range: tuple[float, float] | None) -> WaferImage | None:
    """Return a TIFF read by blocks; None where it has to be decoded whole (palettes, turned images, odd axes)."""
    import zarr

    tiff = tifffile.TiffFile(path)
    with decoding(path, "TIFF"):
        series = tiff.series[0]
        page: Any = series.keyframe
        photometric, compression = (getattr(getattr(page, key), "name", "") for key in ("photometric", "compression"))
        direct = photometric in ("MINISBLACK", "MINISWHITE", "RGB") or (photometric, compression) == ("YCBCR", "JPEG")
        upright = int(page.tags.valueof(274, 1)) == 1
        if not (direct and upright and series.axes in ("YX", "YXS", "SYX") and series.dtype.kind in "uif"):
            tiff.close()
            return None
        colours = series.axes.index("S") if "S" in series.axes else None
        levels: list[Any] = [zarr.open(series.aszarr(level=number), mode="r") for number in range(len(series.levels))]
        if page.is_memmappable and len(series.pages) == 1:
            levels[0] = tiff.asarray(series=0, out="memmap")
    white = photometric == "MINISWHITE"
    wafer = WaferImage(str(path), levels, colours=colours, inverted=white, grey_range=grey_range)
    weakref.finalize(wafer, tiff.close)
    return wafer


def _percentiles(sample: NDArray[Any]) -> tuple[float, float]:
    numbers = np.asarray(sample[np.isfinite(sample)], np.float64)
    brighter = numbers[numbers > numbers.min()] if numbers.size else numbers
    if not brighter.size:
        return 0.0, 1.0  # one value: nothing can be found, and `detect_sections` says so
    low, high = np.percentile(brighter, _PERCENTILES)
    return (float(low), float(high)) if low < high else (float(low) - 1, float(low) + 1)


def _to_8_bit(block: NDArray[Any], low: float, high: float) -> UInt8[np.ndarray, "row column"]:
    scaled = (np.asarray(block, np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(np.nan_to_num(scaled), 0, 255).round(), np.uint8)
