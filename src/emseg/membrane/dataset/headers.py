"""What a file announces before it is decoded: an 8-bit grey PNG or TIFF, and its size.

Everything else is refused here, in milliseconds, so that a wrong file is named before long work begins.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from emseg.errors import InputError
from emseg.images import read_gray

SUFFIXES = (".png", ".tif", ".tiff")
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Header:
    """Size of an image in px, and whether its file is a TIFF."""

    height: int
    width: int
    is_tiff: bool


def read_header(path: Path) -> Header:
    """Return the size of an 8-bit grey image; raise `InputError`, naming the file, for anything else."""
    try:
        with path.open("rb") as file:
            is_tiff = file.read(4) in _TIFF_SIGNATURES
        header = _tiff_header(path) if is_tiff else _png_header(path)
    except InputError:
        raise
    except Exception:  # whatever a decoder makes of a damaged file
        header = None
    if header is not None:
        return header
    image = read_gray(path)  # says what the file is, if it is not one grey image
    if image.dtype == "uint16":
        raise InputError(
            f"{path} must be 8-bit; it is 16-bit, which does not say what white means. "
            "Convert it, for example by (image // 257).astype(np.uint8) where white is 65535."
        )
    raise InputError(f"{path} must be 8-bit grey, in a PNG or TIFF file; it holds {image.dtype}. Convert it.")


def whole_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage | None:
    """Return the only page of an 8-bit grey TIFF whose pixels are all there, or None."""
    whole: list[Any] = list(tiff.pages)
    pages = [page for page in whole if not page.is_reduced]
    if len(pages) != 1 or not isinstance(page := pages[0], tifffile.TiffPage):
        return None
    is_grey = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    is_plain = page.samplesperpixel == 1 and page.dtype == "uint8" and page.bitspersample == 8 and len(page.shape) == 2
    is_there = bool(page.dataoffsets) and 0 not in page.databytecounts
    end = max((start + n for start, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    return page if is_grey and is_plain and is_there and end <= tiff.filehandle.size else None


def _tiff_header(path: Path) -> Header | None:
    with tifffile.TiffFile(path) as tiff:
        page = whole_page(tiff)
        return None if page is None else Header(int(page.imagelength), int(page.imagewidth), True)


def _png_header(path: Path) -> Header | None:
    Image.init()
    factory = Image.OPEN["PNG"][0]  # Image.open would refuse more than 179 million pixels
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        with factory(file, str(path)) as image:
            return Header(image.height, image.width, False) if image.mode == "L" else None
