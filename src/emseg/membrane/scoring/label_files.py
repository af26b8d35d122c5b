"""Labels in files that `read_gray` refuses or widens, though only one reading of them is possible: as greys 0 to 255.

`read_gray` reads images, and a 1-bit image or one with a palette may be anything. A label has two classes, so that here

    1-bit images        are 0 and 255, as they are shown (PNG, TIFF of any compression, BMP, PBM)
    palettes            are looked up where every colour that occurs is a grey; others stay refused
    wide integers       (all but uint8 and uint16, in a TIFF) are a label if they are 0 and 255 only, or 0 and 1 only
"""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from emseg.errors import InputError
from emseg.images import read_gray

_PILLOW_KINDS = ("PNG", "BMP", "PPM")
_DECODER_ERRORS = (
    *(OSError, ValueError, TypeError, SyntaxError, LookupError, AttributeError, ArithmeticError, MemoryError),
    *(UserWarning, struct.error, zlib.error, tifffile.TiffFileError),
)


def read_label_file(path: Path, page: int | None = None) -> NDArray[np.uint8] | None:
    """Return the label [height, width] in greys 0 to 255, or None for every file that `read_gray` must judge.

    `page` picks one image, from 0, of a TIFF that holds several. Raises `InputError` for integers that are no label
    and for pixels that cannot be decoded.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
        stored = _tiff_page(path, page) if start.startswith((b"II", b"MM")) else None
    except _DECODER_ERRORS:
        return None
    if stored is None:
        return _by_pillow(path, start, _PILLOW_KINDS)
    if stored.bitspersample == 1 or stored.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return _by_pillow(path, start, ("TIFF",), stored.index)
    if stored.dtype is not None and stored.dtype.kind in "iu" and stored.dtype not in (np.uint8, np.uint16):
        return _label_of_integers(read_gray(path, page=page), str(stored.dtype), path)
    return None


def _tiff_page(path: Path, page: int | None) -> Any:
    """The page in question, or None where the file has several and none was asked for."""
    with tifffile.TiffFile(path) as tiff:
        pages: list[Any] = [one for one in tiff.pages if not getattr(one, "is_reduced", False)]
    return pages[page or 0] if page is not None or len(pages) == 1 else None


def _by_pillow(path: Path, start: bytes, kinds: tuple[str, ...], frame: int = 0) -> NDArray[np.uint8] | None:
    """The greys of a 1-bit image or of a grey palette, otherwise None; `start`: the file's first bytes."""
    Image.init()
    # As in `read_gray`: Image.open would refuse more than 179 million pixels, and these are the user's own files.
    opener = next((Image.OPEN[kind][0] for kind in kinds if Image.OPEN[kind][1](start)), None)  # type: ignore[misc]
    if opener is None:
        return None
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("error", UserWarning)
        try:
            image = opener(file, str(path))
            image.seek(frame)
        except _DECODER_ERRORS:
            return None
        if image.mode not in ("1", "P") or "transparency" in image.info:
            return None
        try:
            image.load()
        except _DECODER_ERRORS as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise InputError(f"{path} is a truncated or damaged file ({reason}). Copy it again.") from error
    return np.asarray(image.convert("L")) if image.mode == "1" else _looked_up(image)


def _looked_up(image: Image.Image) -> NDArray[np.uint8] | None:
    """The greys that a palette gives, or None if a colour occurs."""
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    used = palette[np.array(image.histogram()) > 0]
    if (used != used[:, :1]).any():
        return None
    greys: NDArray[np.uint8] = palette[:, 0][np.asarray(image)]
    return greys


def _label_of_integers(values: NDArray[Any], type_name: str, path: Path) -> NDArray[np.uint8]:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest not in (0, 1, 255) or not np.logical_or(values == 0, values == highest).all():
        raise InputError(
            f"{path} must be 0 and 255 only, or 0 and 1 only, because its pixels are integers ({type_name}); "
            f"they lie in {lowest} to {highest}. Save a mask of the membranes as 8-bit, or their probability as float "
            "in 0 to 1."
        )
    return np.multiply(values > 0, 255, dtype=np.uint8)
