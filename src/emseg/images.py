"""Finding image files, and reading one grey image from a file, refusing everything else by name.

The content of a file decides what it is, not its extension. TIFF (also BigTIFF, tiled, and of either byte order) is
read by tifffile, and memory-mapped on request; PNG, JPEG, BMP, PGM, WebP and JPEG 2000 by Pillow. A grey image is a
two-dimensional array (row, column) of uint8, uint16, float32 or float64 without NaN or infinity. Colour, palette and
1-bit images are refused rather than converted, because how to make grey of them is the owner's choice; every message
says how. A TIFF whose zero means white is inverted, so that large is always bright.
"""

import glob
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from emseg.errors import InputError, UsageError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp", ".jp2")  # in a listed folder
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_PILLOW_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"P5", "PPM"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
)
_FOREIGN_SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GIF8", "a GIF image"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself"),
)
_GRAY_MODES = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "F": np.float32}
_DECODER_ERRORS = (  # what tifffile and Pillow were seen to raise on damaged files
    *(OSError, ValueError, TypeError, SyntaxError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError),
    *(UserWarning, struct.error, zlib.error),
)
_FINITE_BLOCK_PIXELS = 1 << 20
# No compression below packs more (deflate 1,032, LZW 1,365): a damaged header is found before memory is asked for.
_PIXELS_PER_BYTE = 2_000
_BOUNDED_FORMATS = ("PNG", "JPEG", "BMP", "PPM")
_BOUNDED_COMPRESSIONS = ("NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "JPEG")
_TO_GRAY = 'Convert it to grey first, for example PIL.Image.open(name).convert("L").'


def read_gray(
    path: str | Path, *, page: int | None = None, memory_map: bool = False, as_label: bool = False
) -> NDArray[Any]:
    """Return the grey image in a file as (row, column) uint8, uint16, float32 or float64.

    `page` picks one image, from 0, of a TIFF that holds several. With `memory_map` an uncompressed TIFF is not read but
    mapped, read-only and in its own byte order. Other integer types become the smallest float type that holds them.
    With `as_label` they stay as they are, and images with one reading only as labels are accepted: 1-bit images, as 0
    and 255, and palettes whose colours in use are greys.
    Raises InputError, in one sentence that names the file, for anything that is not one readable grey image.
    """
    path = Path(path)
    signature = _signature(path)
    if signature.startswith(_TIFF_SIGNATURES):
        image = _read_tiff(path, page, memory_map, as_label)
    else:
        if page:
            raise UsageError(f"page must be 0 for a file of one image; got page={page} for {path}.")
        image = _read_by_pillow(path, _pillow_format(path, signature, as_label), as_label)
    kept = as_label and np.issubdtype(image.dtype, np.integer)
    return require_gray(image if kept else _supported(image), str(path))


def count_pages(path: str | Path) -> int:
    """Return how many images a file holds: the pages of a TIFF, otherwise 1. Raises InputError as `read_gray` does."""
    path = Path(path)
    if not _signature(path).startswith(_TIFF_SIGNATURES):
        return 1
    try:
        with tifffile.TiffFile(path) as tiff:
            return len(_full_size_pages(tiff))
    except _DECODER_ERRORS as error:
        raise _damaged(path, "TIFF", error) from error


def find_images(names: Iterable[str], *, recursive: bool = False) -> tuple[list[Path], list[str]]:
    """Return the image files given by names of files, folders and patterns, sorted, and a sentence per problem.

    Of a folder, the files with an image's extension are taken, with `recursive` also those in the folders below, but
    not hidden files. A named file is taken whatever its extension.
    """
    found: set[Path] = set()
    problems: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = [
                one
                for one in (path.rglob("*") if recursive else path.iterdir())
                if one.suffix.lower() in IMAGE_SUFFIXES and not one.name.startswith(".") and not one.is_dir()
            ]
            if not inside:
                advice = "Name its files." if recursive else "Name its files, or look below it with --recursive."
                problems.append(f"{name} must hold images ({' '.join(IMAGE_SUFFIXES)}); it holds none. {advice}")
            found.update(inside)
        elif glob.has_magic(name) and not path.exists():
            matches = [Path(match) for match in glob.glob(name, recursive=recursive)]  # noqa: PTH207 - absolute patterns
            if not matches:
                problems.append(f"{name} must match an image; it matches no file. Check the pattern.")
            found.update(match for match in matches if not match.is_dir())
        else:
            found.add(path)
    return sorted(found, key=natural_key), problems


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key that compares the numbers in a name as numbers."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.casefold()) for part in parts], str(path)


def require_gray(image: Any, name: str = "image", *, check_finite: bool = True) -> NDArray[Any]:
    """Return the image as an array if it is a grey image, and raise an InputError that says what it is if it is not.

    `check_finite=False` leaves out the search for NaN and infinity, which reads every pixel of a floating-point image.
    """
    array: NDArray[Any] = np.asanyarray(image)
    if array.dtype == np.bool_:
        raise InputError(f"{name} must hold grey values; got booleans. Convert a mask by mask.astype(np.uint8) * 255.")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(f"{name} must hold real grey values; got {array.dtype}. Convert it to uint8, uint16 or float.")
    if array.size == 0:
        raise InputError(f"{name} must not be empty; got {_extent(array.shape)}.")
    if array.ndim == 3 and array.shape[2] in (2, 3, 4):
        raise InputError(
            f"{name} must be grey; got colour, {_extent(array.shape)}. "
            "Convert it to grey first, for example by image[..., :3].mean(axis=2)."
        )
    if array.ndim != 2:
        kind = f"a stack, {_extent(array.shape)}" if array.ndim == 3 else _extent(array.shape)
        raise InputError(f"{name} must be two-dimensional (row, column); got {kind}. Give one image of it.")
    if check_finite and np.issubdtype(array.dtype, np.floating):
        _require_finite(array, name)
    return array


def _require_finite(array: NDArray[Any], name: str) -> None:
    n_rows = max(_FINITE_BLOCK_PIXELS // array.shape[1], 1)
    n_nan = n_infinite = 0
    for start in range(0, array.shape[0], n_rows):  # block by block: a mask of the whole image would cost memory
        block = array[start : start + n_rows]
        if not np.isfinite(block).all():
            n_nan += int(np.isnan(block).sum())
            n_infinite += int(np.isinf(block).sum())
    if n_nan or n_infinite:
        counts = [f"{count} {what}" for count, what in ((n_nan, "NaN"), (n_infinite, "infinite")) if count]
        raise InputError(
            f"{name} must be finite; got {' and '.join(counts)} of {array.size} pixels. "
            "Crop them away or fill them, for example by np.nan_to_num."
        )


def _extent(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) if shape else "a single number"


def _signature(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path} must be an image file; it is a directory. Name the files in it.")
        with path.open("rb") as file:
            signature = file.read(32)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the name and the folder.") from None
    except PermissionError:
        raise InputError(f"{path} must be readable; permission was denied. Change its access rights.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not signature:
        raise InputError(f"{path} must hold an image; the file is empty. Copy it again.")
    return signature


def _pillow_format(path: Path, signature: bytes, as_label: bool) -> str:
    for start, name in _PILLOW_SIGNATURES:
        if signature.startswith(start):
            return name
    if signature[:4] == b"RIFF" and signature[8:12] == b"WEBP":
        return "WEBP"
    if signature[:2] in (b"P1", b"P4"):
        if as_label:
            return "PPM"
        raise _one_bit(path)
    if signature[:2] in (b"P3", b"P6"):
        raise InputError(f"{path} must be grey; it is a colour image. {_TO_GRAY}")
    found = next((what for start, what in _FOREIGN_SIGNATURES if signature.startswith(start)), None)
    if found is None:
        printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in signature)
        found = "text" if printable else "data of an unknown kind"
    raise InputError(
        f"{path} must hold an image (PNG, TIFF, JPEG, BMP, PGM, WebP or JPEG 2000) whatever its extension; "
        f"it holds {found}."
    )


def _one_bit(path: Path) -> InputError:
    return InputError(f"{path} must hold grey values; it is a 1-bit image. {_TO_GRAY}")


def _damaged(path: Path, kind: str, error: BaseException) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return InputError(f"{path} is a truncated or damaged {kind} file ({reason}). Copy it again from its source.")


def _require_plausible(path: Path, height: int, width: int) -> None:
    size = path.stat().st_size
    if height * width > _PIXELS_PER_BYTE * size:
        raise InputError(
            f"{path} is a damaged file: it announces {height} x {width} pixels, which its {size} bytes cannot hold. "
            "Copy it again from its source."
        )


def _supported(image: NDArray[Any]) -> NDArray[Any]:
    """The image in one of the four supported types; types that are refused pass through to be named."""
    native = image.dtype.newbyteorder("=")
    if native.kind not in "iuf" or native in (np.uint8, np.uint16, np.float32, np.float64):
        return image
    exact_in_float32 = native in (np.int8, np.int16, np.float16)
    return image.astype(np.float32 if exact_in_float32 else np.float64)


def _read_by_pillow(path: Path, kind: str, as_label: bool = False, frame: int = 0) -> NDArray[Any]:
    Image.init()
    # Image.open would refuse more than 179 million pixels; wafer images have more, and these are the user's own files.
    factory = Image.OPEN[kind][0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            with path.open("rb") as file, factory(file, str(path)) as image:
                image.seek(frame)
                if kind in _BOUNDED_FORMATS:
                    pixels_per_byte = 8 if image.mode in ("1", "P") else 1
                    _require_plausible(path, image.height, image.width // pixels_per_byte)
                if not (as_label and image.mode in ("1", "P") and "transparency" not in image.info):
                    _require_gray_mode(path, image)
                image.load()
                if image.mode == "P":
                    return _greys_of_palette(path, image)
                pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    except (InputError, UsageError):
        raise
    except _DECODER_ERRORS as error:
        raise _damaged(path, kind, error) from error
    if image.mode == "I":  # 16-bit PGM
        return pixels.astype(np.uint16)
    return pixels.astype(_GRAY_MODES.get(image.mode, np.uint8), copy=False)


def _greys_of_palette(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """The greys that a palette gives; raises InputError if another colour occurs in the image."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.pad(colours, ((0, 256 - len(colours)), (0, 0)))
    used = palette[np.array(image.histogram()) > 0]
    if (used != used[:, :1]).any():
        _require_gray_mode(path, image)
    return np.asarray(palette[:, 0][np.asarray(image)])


def _require_gray_mode(path: Path, image: Image.Image) -> None:
    if image.mode == "1":
        raise _one_bit(path)
    if image.mode in ("P", "PA"):
        raise InputError(f"{path} must be grey; it has a colour palette. {_TO_GRAY}")
    if image.mode == "LA":
        raise InputError(f"{path} must be grey without transparency; it has an alpha channel. {_TO_GRAY}")
    if image.mode not in _GRAY_MODES and not (image.mode == "I" and image.format == "PPM"):
        raise InputError(f"{path} must be grey; it is a colour image ({image.mode}). {_TO_GRAY}")


def _read_tiff(path: Path, page: int | None, memory_map: bool, as_label: bool) -> NDArray[Any]:
    try:
        with tifffile.TiffFile(path) as tiff:
            chosen = _choose_page(path, _full_size_pages(tiff), page)
            if as_label and (chosen.bitspersample == 1 or chosen.photometric == tifffile.PHOTOMETRIC.PALETTE):
                return _read_by_pillow(path, "TIFF", as_label, chosen.index)
            _require_gray_page(path, chosen)
            _require_complete(path, chosen)
            inverted = chosen.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            if memory_map and not inverted and chosen.is_memmappable:
                offset = chosen.dataoffsets[0]
                dtype = np.dtype(chosen.dtype).newbyteorder(tiff.byteorder)
                return np.memmap(path, dtype, "r", offset=offset, shape=(chosen.imagelength, chosen.imagewidth))
            pixels = _decode(path, chosen)
    except (InputError, UsageError):
        raise
    except _DECODER_ERRORS as error:
        raise _damaged(path, "TIFF", error) from error
    if not inverted:
        return pixels
    return ~pixels if np.issubdtype(pixels.dtype, np.unsignedinteger) else -pixels


def _full_size_pages(tiff: tifffile.TiffFile) -> list[Any]:
    """The pages of a TIFF without its thumbnails and pyramid levels."""
    pages: list[Any] = list(tiff.pages)
    return [page for page in pages if not page.is_reduced] or pages


def _choose_page(path: Path, pages: list[Any], page: int | None) -> Any:
    if page is None and len(pages) > 1:
        raise InputError(f"{path} must hold one image; it holds {len(pages)} pages. Say which one by page=0 and so on.")
    if not pages:
        raise InputError(f"{path} must hold an image; it has no pages. Copy it again from its source.")
    if not 0 <= (page or 0) < len(pages):
        raise UsageError(f"page must lie in 0 to {len(pages) - 1} for {path}; got {page}.")
    return pages[page or 0]


def _require_gray_page(path: Path, page: Any) -> None:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise InputError(f"{path} must be grey; it has a colour palette. {_TO_GRAY}")
    if page.samplesperpixel > 1:
        samples = f"{page.samplesperpixel} samples a pixel"
        raise InputError(f"{path} must be grey; it is a colour image ({samples}). {_TO_GRAY}")
    if page.bitspersample == 1:
        raise _one_bit(path)
    if len(page.shape) != 2:
        raise InputError(f"{path} must hold a two-dimensional image; it holds {_extent(page.shape)} pixels.")


def _require_complete(path: Path, page: Any) -> None:
    """Refuse a file that ends before the pixels it announces; some decoders would fill the rest with zeros."""
    if getattr(page.compression, "name", "") in _BOUNDED_COMPRESSIONS:
        _require_plausible(path, page.imagelength, page.imagewidth)
    size = path.stat().st_size
    if not page.dataoffsets or 0 in page.databytecounts:
        raise _damaged(path, "TIFF", ValueError("pixels are missing"))
    needed = max(start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if needed > size:
        raise InputError(
            f"{path} is a truncated TIFF file ({size} of at least {needed} bytes). Copy it again from its source."
        )


def _decode(path: Path, page: Any) -> NDArray[Any]:
    try:
        return np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error) or page.index:
            raise
    return _read_by_pillow(path, "TIFF")  # LZW, for one, which tifffile leaves to an optional package
