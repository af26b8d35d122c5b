"""The rows of an image file from top to bottom, a band at a time, so that no more is decoded than the format demands.

A TIFF is decoded strip by strip or tile by tile; an uncompressed one is not even copied. A PNG, and a TIFF compressed
by a method that needs another decoder, must be decoded whole: once, when it is converted (see `store`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.images import read_gray
from emseg.membrane.dataset.headers import read_header, whole_page

BAND_ROWS = 256
_BYTES_AT_ONCE = 1 << 22  # of the compressed file
_DECODED_HERE = ("NONE", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS")


def read_bands(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of an 8-bit grey image as arrays [rows, width], which are valid until the next is asked for."""
    if read_header(path).is_tiff:
        with tifffile.TiffFile(path) as tiff:
            page = whole_page(tiff)
            if page is not None and getattr(page.compression, "name", "") in _DECODED_HERE:
                yield from _tiff_bands(path, page)
                return
    yield from _cut(np.asarray(read_gray(path), np.uint8))


def _cut(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, image.shape[0], BAND_ROWS):
        yield image[start : start + BAND_ROWS]


def _tiff_bands(path: Path, page: tifffile.TiffPage) -> Iterator[NDArray[np.uint8]]:
    inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if page.is_memmappable and not inverted:
        yield from _cut(np.asanyarray(read_gray(path, memory_map=True)))
        return
    segment_rows = page.tilelength if page.is_tiled else page.rowsperstrip
    height, width = int(page.imagelength), int(page.imagewidth)
    band = np.empty((min(int(segment_rows), height), width), np.uint8)
    top = 0
    for row, column, segment in _segments(path, page):
        if row != top:
            yield ~band if inverted else band
            top = row
        n_rows = min(segment.shape[0], height - row)
        n_columns = min(segment.shape[1], width - column)
        band[:n_rows, column : column + n_columns] = segment[:n_rows, :n_columns]
    yield ~band[: height - top] if inverted else band[: height - top]


def _segments(path: Path, page: tifffile.TiffPage) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Yield (row, column, pixels) of the strips or tiles of a page, in the order of rows."""
    segments: Any = page.segments(maxworkers=1, buffersize=_BYTES_AT_ONCE)
    while True:
        try:
            segment, position, shape = next(segments)
        except StopIteration:
            return
        except Exception as error:  # whatever the decoder makes of damaged data
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise InputError(f"{path} is a damaged TIFF file ({reason}). Copy it again from its source.") from error
        if segment is None:
            raise InputError(f"{path} is a damaged TIFF file (pixels are missing). Copy it again from its source.")
        yield int(position[2]), int(position[3]), np.asarray(segment).reshape(shape[-3], shape[-2])
