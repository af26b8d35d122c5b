"""Reading a wafer image: one 8-bit grey image, however large, or one sentence that says what to do.

An uncompressed TIFF is mapped, so its tiles are read as they are cut; any other file is decoded whole, which needs one
byte a pixel and more while it is decoded. 16-bit images are refused unless `grey_range` says which of their greys shall
be black and white: no choice suits all microscopes.

    grey 8-bit = round(255 (grey - low) / (high - low)), cut off at 0 and 255
"""

from pathlib import Path
from typing import Any

import numpy as np
import psutil
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.images import read_gray, require_gray

_DECODING_BYTES = 2.2  # a pixel, at the height of decoding: the decoder's copy and ours
_ROWS_AT_ONCE = 512
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "JPEG2000")


def read_wafer_image(
    path: str | Path, *, grey_range: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "row column"]:
    """Return the wafer image in a file, mapped where that is possible.

    `grey_range` = (black, white) turns an image of more than 8 bits into 8. Raises `InputError` for colour, 1-bit and
    damaged images, for 16-bit ones without a range, and where memory would not do.
    """
    path = Path(path)
    require_memory(path)
    image = read_gray(path, memory_map=True)
    return require_8_bit(image, str(path)) if grey_range is None else to_8_bit(image, *grey_range)


def require_8_bit(image: NDArray[Any], name: str = "image") -> UInt8[np.ndarray, "row column"]:
    """Return a grey image of 8 bits; raise `InputError` that says how to convert any other."""
    image = require_gray(image, name)
    if image.dtype != np.uint8:
        low, high = (f"{value:g}" for value in np.percentile(image[:: max(len(image) // 512, 1)], (0.5, 99.5)))
        raise InputError(
            f"a wafer image must have 8 bits; {name} is {image.dtype} of {image.min():g} to {image.max():g}. "
            f"Give the greys that shall be black and white, for example grey_range=({low}, {high}), on the command "
            f"line --grey-range {low} {high}."
        )
    return image


def to_8_bit(image: NDArray[Any], low: float, high: float) -> UInt8[np.ndarray, "row column"]:
    """Return the image with `low` as 0 and `high` as 255, a few rows at a time; what lies beyond is cut off."""
    if not low < high:
        raise UsageError(f"`grey_range` must be (black, white) with black below white; got ({low:g}, {high:g}).")
    image = require_gray(image)
    scaled = np.empty(image.shape, dtype=np.uint8)
    for start in range(0, len(image), _ROWS_AT_ONCE):
        rows = image[start : start + _ROWS_AT_ONCE].astype(np.float32)
        scaled[start : start + _ROWS_AT_ONCE] = np.clip((rows - low) * (255.0 / (high - low)), 0, 255).round()
    return scaled


def require_memory(path: Path) -> None:
    """Raise `InputError` if a compressed image would not fit into memory, before it is decoded."""
    size = _announced_size(path)
    if size is None:
        return
    needed, free = size[0] * size[1] * _DECODING_BYTES, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path} has {size[1]} x {size[0]} px and takes about {needed / 1e9:.1f} GB of memory to decode, of which "
            f"{free / 1e9:.1f} GB are free. Save it as an uncompressed TIFF, which is read piece by piece, or cut it."
        )


def _announced_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of a file that Pillow would decode, None for TIFF and what is no image."""
    Image.init()
    for kind in _FORMATS:
        try:
            with path.open("rb") as file, Image.OPEN[kind][0](file, str(path)) as image:
                return int(image.width), int(image.height)
        except (OSError, SyntaxError, ValueError, KeyError):  # another format; `read_gray` names what it is
            continue
    return None
