"""Finding image files, and reading one grey image from a file; everything else is refused by name.

The content of a file decides what it is, not its extension. TIFF is read by tifffile (stacks of plain, ImageJ and OME
files page by page, uncompressed ones memory-mapped on request, all codecs of imagecodecs), PNG, JPEG, BMP, PGM, WebP
and JPEG 2000 by Pillow, .npy by NumPy, .mrc by mrcfile, .zarr by zarr. Other containers are named with the remedy.

A grey image is a two-dimensional array (row, column) of uint8, uint16, float32 or float64 without NaN or infinity, as
every viewer shows it: the orientation in EXIF or TIFF is applied, and a TIFF whose zero means white is inverted. RGB,
RGBA, LA and palettes are grey where all colours are equal and alpha is opaque; otherwise how to make grey of them is
the owner's choice, and the message states how.
"""

import glob
import math
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.files import decoding

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp", ".jp2", ".npy", ".mrc")
"""Of the files taken from a folder."""
_CONTAINERS = (".h5", ".hdf5", ".n5")  # named where a folder holds nothing else
_PILLOW_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"P5": "PPM",
    b"P6": "PPM",
    b"P1": "PPM",
    b"P4": "PPM",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
}
_SIGNATURES = _PILLOW_SIGNATURES | dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
_SIGNATURES |= {b"\x93NUMPY": "NumPy"}
_ARRAYS = ("NumPy", "MRC", "Zarr")
_FOREIGN_SIGNATURES = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip-compressed data",
    b"\x89HDF": "an HDF5 file. Save its images as TIFF",
    b"GIF8": "a GIF image",
    b"<!DOCTYPE": "an HTML page",
    b"<html": "an HTML page",
    b"version https://git-lfs": "a Git LFS pointer, not the image itself",
}
_ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
_GRAY_MODES = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "F": np.float32}
_BAND_PIXELS = 1 << 20
# Deflate packs at most 1,032 bytes into one, LZW 1,365; other codecs are bounded by no more than a constant image is.
_BYTES_PER_BYTE, _UNBOUNDED = 2_000, 1_000_000
_BOUNDED = ("PNG", "JPEG", "BMP", "PPM", "NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS")
_PHOTOMETRICS = ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "PALETTE")
_COPY_AGAIN = "Copy it again from its source."
_TO_GRAY = 'Convert it to grey first, for example PIL.Image.open(name).convert("L").'


def read_gray(
    path: str | Path,
    *,
    page: int | None = None,
    memory_map: bool = False,
    as_label: bool = False,
    luminance: bool = False,
) -> NDArray[Any]:
    """Return the grey image in a file as (row, column) uint8, uint16, float32 or float64.

    `page` picks one image, from 0, of a file that contains several. With `memory_map` an uncompressed file is not read
    but mapped, read-only and in its own byte order. Other integer types become the smallest float type that contains
    them. With `as_label` they stay as they are, and images with one reading only as labels are accepted, as 0 and 255:
    1-bit images, masks, palettes of two colours (255 is the brighter).
    With `luminance` colour becomes 0.299 R + 0.587 G + 0.114 B, where it is refused otherwise.
    Raises InputError, in one sentence that names the file, for anything that is not one readable grey image.
    """
    path = Path(path)
    kind = _kind(path)
    with decoding(path, kind):
        if kind == "TIFF":
            image = _read_tiff(path, page, memory_map, as_label, luminance)
        elif kind in _ARRAYS:
            image = _read_array(path, kind, page, memory_map, luminance)
        else:
            _choose(path, 1, page)
            image = _read_by_pillow(path, kind, as_label, luminance)
        if as_label and image.dtype == np.bool_:
            image = np.multiply(image, 255, dtype=np.uint8)
        kept = as_label and np.issubdtype(image.dtype, np.integer)
        return require_gray(image if kept else _supported(image), str(path))


def count_pages(path: str | Path) -> int:
    """Return how many images a file contains. Raises InputError as `read_gray` does."""
    path = Path(path)
    kind = _kind(path)
    with decoding(path, kind):
        if kind == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                return len(_frames(path, tiff))
        if kind in _ARRAYS:
            with _opened_array(path, kind) as array:
                return _n_planes(path, array)
    return 1


def image_size(path: str | Path, *, page: int | None = None) -> tuple[int, int]:
    """Return the height and width of an image without decoding it. Raises InputError as `read_gray` does."""
    path = Path(path)
    kind = _kind(path)
    with decoding(path, kind):
        if kind == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                chosen, _ = _choose_frame(path, tiff, page, mapped=True)
                (height, width), turn = (chosen.imagelength, chosen.imagewidth), _tiff_orientation(chosen)
        elif kind in _ARRAYS:
            with _opened_array(path, kind) as array:
                (height, width), turn = array.shape[-3:-1] if _is_colour(array) else array.shape[-2:], 1
        else:
            with _opened_by_pillow(path, kind) as image:
                (height, width), turn = (image.height, image.width), _orientation(image)
    return (width, height) if turn > 4 else (height, width)


def find_images(names: Iterable[str], *, recursive: bool = False) -> tuple[list[Path], list[str]]:
    """Return the image files given by names of files, folders and patterns, sorted, and a sentence per problem.

    Of a folder, the zarr arrays and the files with an image's extension are taken, with `recursive` also those in the
    folders below, but not hidden ones. A named file is taken whatever its extension.
    """
    found: set[Path] = set()
    problems: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir() and not is_zarr(path):
            all_files = [one for one in (path.rglob("*") if recursive else path.iterdir()) if one.name[0] != "."]
            arrays = {one for one in all_files if one.is_dir() and is_zarr(one)}
            files = {one for one in all_files if one.suffix.lower() in IMAGE_SUFFIXES and not one.is_dir()}
            inside = {one for one in arrays | files if arrays.isdisjoint(one.parents)}  # nothing within an array
            if not inside:
                others = sorted({one.suffix.lower() for one in all_files} & {*_CONTAINERS})
                advice = "Name its files." if recursive else "Name its files, or look below it with --recursive."
                advice = f"Save the images of its {' and '.join(others)} files as TIFF." if others else advice
                problems.append(
                    f"{name} must contain images ({' '.join(IMAGE_SUFFIXES)} .zarr); it contains none. {advice}"
                )
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
    return [(1, int(part), "") if i % 2 else (0, 0, part.casefold()) for i, part in enumerate(parts)], str(path)


def require_gray(image: Any, name: str = "image", *, check_finite: bool = True) -> NDArray[Any]:
    """Return the image as an array if it is a grey image, and raise an InputError that describes it if it is not.

    `check_finite=False` leaves out the search for NaN and infinity, which reads every pixel of a floating-point image.
    """
    array: NDArray[Any] = np.asanyarray(image)
    if array.dtype == np.bool_:
        raise InputError(
            f"{name} must contain grey values; got booleans. Convert a mask by mask.astype(np.uint8) * 255."
        )
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(
            f"{name} must contain real grey values; got {array.dtype}. Convert it to uint8, uint16 or float."
        )
    if array.size == 0:
        raise InputError(f"{name} must not be empty; got {_extent(array.shape)}.")
    if _is_colour(array):
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
    if all(np.isfinite(band).all() for band in bands(array)):
        return
    counts = {"NaN": np.isnan(array).sum(), "infinite": np.isinf(array).sum()}
    found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    raise InputError(
        f"{name} must be finite; got {found} of {array.size} pixels. Crop them away or fill them, for example by "
        "np.nan_to_num."
    )


def bands(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield bands of rows of about a million pixels: a mask of the whole image would cost memory."""
    n_rows = max(_BAND_PIXELS // array.shape[1], 1)
    return (array[start : start + n_rows] for start in range(0, len(array), n_rows))


def _extent(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) if shape else "a single number"


def is_zarr(path: Path) -> bool:
    """Return whether a path is a zarr array or group: a folder that is read as one image or stack."""
    return any((path / mark).is_file() for mark in _ZARR_MARKS)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(212)


def _kind(path: Path) -> str:
    with decoding(path, "image"):
        if path.is_dir():
            if is_zarr(path):
                return "Zarr"
            container = "an N5 container. Save its images as TIFF" if path.suffix == ".n5" else "a directory"
            raise InputError(f"{path} must be an image file; it is {container}. Name the files in it.")
        start = _start(path)
    if not start:
        raise InputError(f"{path} must contain an image; the file is empty. Copy it again.")
    found = next((kind for mark, kind in _SIGNATURES.items() if start.startswith(mark)), None)
    if found is None and start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        found = "WEBP"
    if found is None and start[208:212] == b"MAP ":
        found = "MRC"
    if found is not None:
        return found
    foreign = next((what for mark, what in _FOREIGN_SIGNATURES.items() if start.startswith(mark)), None)
    if foreign is None:
        printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
        foreign = "text" if printable else "data of an unknown kind"
    raise InputError(
        f"{path} must contain an image (PNG, TIFF, JPEG, BMP, PGM, WebP, JPEG 2000, NumPy or MRC) whatever its "
        f"extension; it contains {foreign}."
    )


def _require_plausible(path: Path, height: int, width: int, bits: int, *, bounded: bool, mapped: bool = False) -> None:
    """Refuse what exceeds the file or this machine's memory before it is allocated; `bits`: those of a pixel."""
    size, n_bytes = path.stat().st_size, height * width * bits / 8
    if n_bytes > (_BYTES_PER_BYTE if bounded else _UNBOUNDED) * size and path.is_file():  # a folder has none
        raise InputError(
            f"{path} is a damaged file: it announces {height} x {width} pixels, more than {size} bytes allow. "
            f"{_COPY_AGAIN}"
        )
    free = psutil.virtual_memory().available
    if n_bytes > free and not mapped:
        raise InputError(
            f"{path} has {height} x {width} pixels and takes about {n_bytes / 1e9:.1f} GB of memory to decode, of "
            f"which {free / 1e9:.1f} GB are free. Save it as an uncompressed TIFF, which is read piece by piece, or "
            "cut it."
        )


def _supported(image: NDArray[Any]) -> NDArray[Any]:
    """The image in one of the four supported types; types that are refused pass through to be named."""
    native = image.dtype.newbyteorder("=")
    if native.kind not in "iuf" or native in (np.uint8, np.uint16, np.float32, np.float64):
        return image
    exact_in_float32 = native in (np.int8, np.int16, np.float16)
    return image.astype(np.float32 if exact_in_float32 else np.float64)


def _is_colour(array: Any) -> bool:
    return array.ndim == 3 and array.shape[2] in (2, 3, 4)


def _grey_of_samples(
    path: Path, pixels: NDArray[Any], what: str, *, alpha: bool, luminance: bool = False
) -> NDArray[Any]:
    """Return the one channel of (row, column, sample) pixels whose colours are equal; a last alpha must be opaque.

    With `luminance` the colours may differ (ITU-R BT.601).
    """
    n_colours = pixels.shape[2] - alpha
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    grey = np.ascontiguousarray(pixels[..., 0])
    for place, band in enumerate(bands(pixels)):
        if luminance and n_colours == 3:
            mixed = band[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            start = place * max(_BAND_PIXELS // pixels.shape[1], 1)
            grey[start : start + len(band)] = mixed.round() if grey.dtype.kind in "iu" else mixed
        elif any((band[..., 0] != band[..., k]).any() for k in range(1, n_colours)):
            raise InputError(f"{path} must be grey; {what}. {_TO_GRAY}")
        if alpha and (band[..., -1] != opaque).any():
            raise InputError(f"{path} must be grey without transparency; it has an alpha channel. {_TO_GRAY}")
    return grey


def _grey_of_palette(path: Path, colours: NDArray[Any], as_label: bool, luminance: bool) -> NDArray[Any]:
    """Return the greys of (row, column, RGB) pixels; of two colours of a label, 255 for the brighter and 0."""
    if as_label:
        brightness = colours @ np.array([299, 587, 114], np.uint32)
        low, high = brightness.min(), brightness.max()
        if low < high and ((brightness == low) | (brightness == high)).all():
            return np.where(brightness == high, np.uint8(255), np.uint8(0))
    return _grey_of_samples(path, colours, "it has a colour palette", alpha=False, luminance=luminance)


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of stored pixels as a viewer shows them; `orientation` as in EXIF and TIFF, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # viewers show a file with damaged EXIF all the same
        return int(image.getexif().get(274, 1))
    return 1


def _choose(path: Path, n_images: int, page: int | None) -> int:
    """Return the place of the requested image among `n_images`."""
    if page is None and n_images > 1:
        raise InputError(
            f"{path} must contain one image; it contains {n_images} pages. Save one of them as a file, for example by "
            "tifffile.imwrite(name, tifffile.imread(stack, key=0)); in Python, give page=0."
        )
    if not n_images:
        raise InputError(f"{path} must contain an image; it has no pages. {_COPY_AGAIN}")
    if not 0 <= (page or 0) < n_images:
        allowed = "be 0 for a file of one image" if n_images == 1 else f"lie in 0 to {n_images - 1}"
        raise UsageError(f"page must {allowed}; got page={page} for {path}.")
    return page or 0


@contextmanager
def _opened_by_pillow(path: Path, kind: str) -> Iterator[Image.Image]:
    """Yield an image of plausible size, not yet decoded."""
    Image.init()
    # Image.open would refuse more than 179 million pixels; wafer images have more, and these are the user's own files.
    with path.open("rb") as file, Image.OPEN[kind][0](file, str(path)) as image:
        bits = {"1": 1, "P": 1, "L": 8}.get(image.mode, 32)
        _require_plausible(path, image.height, image.width, bits, bounded=kind in _BOUNDED)
        yield image


def _read_by_pillow(path: Path, kind: str, as_label: bool, luminance: bool) -> NDArray[Any]:
    with _opened_by_pillow(path, kind) as image:
        mode, turn = image.mode, _orientation(image)
        if mode == "1" and not as_label:
            raise _one_bit(path)
        image.load()
        if mode in _GRAY_MODES or mode == "1":
            pixels = np.asarray(image.convert("L") if mode == "1" else image)
            return _turned(pixels.astype(_GRAY_MODES.get(mode, np.uint8), copy=False), turn)
        if mode == "I" and kind == "PPM":
            return np.asarray(image).astype(np.uint16)
        if mode not in ("RGB", "RGBA", "LA", "P", "PA"):
            raise InputError(f"{path} must be grey; it is a colour image ({mode}). {_TO_GRAY}")
        alpha = mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        pixels = np.asarray(image if mode == "LA" else image.convert("RGBA" if alpha else "RGB"))
    if mode == "P" and not alpha:
        return _turned(_grey_of_palette(path, pixels, as_label, luminance), turn)
    if kind == "PNG" and mode in ("RGB", "RGBA") and _start(path)[24] == 16:  # of which Pillow keeps 8 bits
        pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    what = f"it is a colour image ({mode})"
    return _turned(_grey_of_samples(path, pixels, what, alpha=alpha, luminance=luminance), turn)


def _one_bit(path: Path) -> InputError:
    return InputError(f"{path} must contain grey values; it is a 1-bit image. {_TO_GRAY}")


def _read_tiff(path: Path, page: int | None, memory_map: bool, as_label: bool, luminance: bool) -> NDArray[Any]:
    with tifffile.TiffFile(path) as tiff:
        chosen, place = _choose_frame(path, tiff, page, mapped=memory_map)
        photometric, turn = getattr(chosen.photometric, "name", "unknown"), _tiff_orientation(chosen)
        raw_colour = photometric == "YCBCR" and getattr(chosen.compression, "name", "") != "JPEG"
        if photometric not in _PHOTOMETRICS or raw_colour:
            raise InputError(f"{path} must be grey; its pixels are {photometric}. {_TO_GRAY}")
        if len(chosen.shape) != 2 + (chosen.samplesperpixel > 1):
            raise InputError(
                f"{path} must contain a two-dimensional image; it contains {_extent(chosen.shape)} pixels."
            )
        if chosen.bitspersample == 1 and not as_label:
            raise _one_bit(path)
        inverted, single = photometric == "MINISWHITE", chosen.samplesperpixel == 1
        if chosen.is_memmappable and single and (place or (memory_map and not inverted)):
            dtype = np.dtype(chosen.dtype).newbyteorder(tiff.byteorder)
            offset, shape = chosen.dataoffsets[0] + place * chosen.nbytes, (chosen.imagelength, chosen.imagewidth)
            mapped = np.memmap(path, dtype, "r", offset=offset, shape=shape)
            pixels = mapped if memory_map else np.array(mapped)
        else:
            pixels = np.asarray(chosen.asarray())
        if not single:
            pixels = np.moveaxis(pixels, chosen.axes.index("S"), -1)
            what = f"it is a colour image ({chosen.samplesperpixel} samples a pixel)"
            pixels = _grey_of_samples(path, pixels, what, alpha=any(chosen.extrasamples), luminance=luminance)
        if photometric == "PALETTE":
            colours = (chosen.colormap.T >> 8).astype(np.uint8)
            pixels = _grey_of_palette(path, colours[pixels], as_label, luminance)
    if inverted:
        pixels = ~pixels if pixels.dtype.kind in "bu" else -pixels
    return _turned(pixels, turn)


def _tiff_orientation(page: Any) -> int:
    return int(page.tags.valueof(274, 1))


def _choose_frame(path: Path, tiff: tifffile.TiffFile, page: int | None, *, mapped: bool) -> tuple[Any, int]:
    """Return the TIFF page of an image, and the image's place in it: large ImageJ stacks have one page for all."""
    frames = _frames(path, tiff)
    number, place = frames[_choose(path, len(frames), page)]
    chosen: Any = tiff.pages[number]
    _require_complete(path, chosen, mapped=mapped)
    return chosen, place


def _frames(path: Path, tiff: tifffile.TiffFile) -> tuple[tuple[int, int], ...]:
    status = path.stat()
    return _listed_frames(path, tiff.filehandle.size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _listed_frames(path: Path, size: int, _changed: int) -> tuple[tuple[int, int], ...]:
    """Return (page, place in the page) of every image of a TIFF, without thumbnails and pyramid levels."""
    with tifffile.TiffFile(path) as tiff:
        _require_chain(path, tiff, size)
        pages: list[Any] = list(tiff.pages)
        chosen = [number for number, page in enumerate(pages) if not page.is_reduced] or list(range(len(pages)))
        if len(pages) == 1 and (tiff.is_imagej or tiff.is_shaped) and pages[0].is_memmappable:
            n_stored = (size - pages[0].dataoffsets[0]) // max(pages[0].nbytes, 1)
            n = min(math.prod(tiff.series[0].shape) // pages[0].size, n_stored) if n_stored > 1 else 1
            return tuple((0, place) for place in range(n))
        return tuple((number, 0) for number in chosen)


def _require_chain(path: Path, tiff: tifffile.TiffFile, size: int) -> None:
    """Refuse a TIFF whose chain of pages has a loop: each page gives the offset of the next, 0 the end."""
    form, seen = tiff.tiff, {0}
    offset = tiff.pages.first.offset
    while offset not in seen and offset < size:
        seen.add(offset)
        tiff.filehandle.seek(offset)
        n_tags = struct.unpack(form.tagnoformat, tiff.filehandle.read(form.tagnosize))[0]
        tiff.filehandle.seek(offset + form.tagnosize + n_tags * form.tagsize)
        following = tiff.filehandle.read(form.offsetsize)
        offset = struct.unpack(form.offsetformat, following)[0] if len(following) == form.offsetsize else 0
    if offset and offset in seen:
        raise InputError(f"{path} is a damaged TIFF file: its chain of pages has a loop. {_COPY_AGAIN}")


def _require_complete(path: Path, page: Any, *, mapped: bool) -> None:
    """Refuse a file that ends before the pixels it announces; some decoders would fill the rest with zeros."""
    height, width, bits = page.imagelength, page.imagewidth, page.bitspersample * page.samplesperpixel
    bounded = getattr(page.compression, "name", "") in _BOUNDED
    _require_plausible(path, height, width, bits, bounded=bounded, mapped=mapped and page.is_memmappable)
    size = path.stat().st_size
    if not page.dataoffsets or 0 in page.databytecounts:
        raise InputError(f"{path} is a truncated or damaged TIFF file (pixels are missing). {_COPY_AGAIN}")
    needed = max(start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if needed > size:
        raise InputError(f"{path} is a truncated TIFF file ({size} of at least {needed} bytes). {_COPY_AGAIN}")


@contextmanager
def _opened_array(path: Path, kind: str) -> Iterator[Any]:
    """Yield the array of a NumPy, MRC or zarr file, of which nothing has been read yet."""
    if kind == "NumPy":
        try:
            numbers = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "Python objects" not in str(error):
                raise
            raise InputError(
                f"{path} must contain numbers; it contains Python objects. Save it as uint8 or float."
            ) from None
        yield numbers
    elif kind == "MRC":
        import mrcfile

        with mrcfile.mmap(path, mode="r") as file:
            stamp, flags = np.frombuffer(file.header.tobytes(), "<u4", 2, 152)
            unsigned = file.data.dtype == np.int8 and stamp == 1146047817 and not flags & 1  # IMOD's own bytes
            yield file.data.view(np.uint8) if unsigned else file.data
    else:
        import zarr

        opened: Any = zarr.open(path, mode="r")
        while isinstance(opened, zarr.Group):  # OME-Zarr: the first level of its pyramid has all pixels
            opened = opened[min(opened.keys(), key=lambda name: natural_key(Path(name)))]
        yield opened


def _n_planes(path: Path, array: Any) -> int:
    if array.ndim < 2:
        raise InputError(f"{path} must contain an image (row, column); it contains an array of {_extent(array.shape)}.")
    return 1 if _is_colour(array) else math.prod(array.shape[:-2])


def _read_array(path: Path, kind: str, page: int | None, memory_map: bool, luminance: bool) -> NDArray[Any]:
    with _opened_array(path, kind) as array:
        place = _choose(path, _n_planes(path, array), page)
        height, width = array.shape[:2] if _is_colour(array) else array.shape[-2:]
        _require_plausible(path, height, width, 8 * array.dtype.itemsize, bounded=False, mapped=memory_map)
        if _is_colour(array):
            alpha, what = array.shape[2] != 3, "it is a colour image"
            return _grey_of_samples(path, np.asarray(array[:]), what, alpha=alpha, luminance=luminance)
        plane = array[np.unravel_index(place, array.shape[:-2])] if array.ndim > 2 else array[:]
        return np.asanyarray(plane) if memory_map else np.array(plane)
