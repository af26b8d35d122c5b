"""Five sharpness ("image definition") indices of a micrograph, as raw sums, per pixel and per square micrometre.

For an image f of M x N pixels with mean mu (Shi et al. 2022, "Image Definition Criteria"; as commonly written)

    Brenner    sum (f(x+k, y) - f(x, y))^2                      k = 2; the paper's "adjacent" also allows k = 1
    SMD2       sum |f(x, y) - f(x+1, y)| |f(x, y) - f(x, y+1)|
    Variance   sum (f - mu)^2
    Vollath F5 sum f(x, y) f(x+1, y) - M N mu^2                 the paper's
    centred    sum (f(x, y) - mu)(f(x+1, y) - mu)               F5 without its edge term: its sum has M - 1 terms a line
                                                                and subtracts M
    Vollath F4 sum f(x, y) f(x+1, y) - sum f(x, y) f(x+2, y)

x is the column: differences run along the rows, or down the columns with `axis="y"`; comparing the two shows a blur
that has a direction. A sum has a term wherever its neighbours lie in the image. "Per pixel" divides by the number of
pixels M N for every index, not by the number of terms, so that a ratio of raw sums is exactly the ratio of pixel counts
times the ratio per pixel. Images of different size, grey scaling or contrast cannot be compared by any of these; a
factor a on the grey scale is a factor a^2 on every index.

The image is walked in bands of about a million pixels, shared among threads and added in order, integers exactly, so
that the result does not depend on the number of threads. With F and L the sums of the first and last pixel of every
line,

    Brenner, gap k   = 2 sum f f - sum of squares of the first k and the last k pixels of every line - 2 sum f(x) f(x+k)
    Variance         = sum f f - (sum f)^2 / (M N)
    Vollath, centred = sum f(x) f(x+1) - mu (2 sum f - F - L) + (M - 1) N mu^2
    F5               = centred + N mu^2 - mu (F + L)
    F4               = (Brenner, gap 2, - Brenner, gap 1, + sum of squares of the second and the last but one) / 2

Floating-point images would lose digits in these differences; their sums are taken about the mean of each tile and
merged by the parallel-axis theorem (Chan, Golub and LeVeque 1983).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Real
from numpy.typing import NDArray

from emseg.checks import require_count, require_number, require_one_of
from emseg.errors import InputError, UsageError
from emseg.images import count_pages, read_gray, require_gray
from emseg.sharpness.sharpness_kernels import float_band_sums, integer_band_sums

Axis = Literal["x", "y"]
INDEX_LABELS = {
    "brenner_gap1": "Brenner, gap 1",
    "brenner_gap2": "Brenner, gap 2",
    "smd2": "SMD2",
    "variance": "Variance",
    "vollath": "Vollath F5",
    "vollath_centred": "Vollath F5, centred",
    "vollath_f4": "Vollath F4",
}
INDEX_NAMES = tuple(INDEX_LABELS)
BAND_PIXELS = 1 << 20
MINIMUM_BAND_ROWS = 8
MAXIMUM_THREADS = 8  # memory bandwidth is used up before that


@dataclass(frozen=True)
class Sharpness:
    """The raw sums of the indices over one image of `shape` (rows, columns), in squared grey levels."""

    shape: tuple[int, int]
    axis: Axis
    pixel_size_nm: float | None
    mean: float
    brenner_gap1: float
    brenner_gap2: float
    smd2: float
    variance: float
    vollath: float
    vollath_centred: float
    vollath_f4: float

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the image."""
        return self.shape[0] * self.shape[1]

    @property
    def area_um2(self) -> float:
        """Area of the image in square micrometres; raises UsageError when the pixel size is not known."""
        if self.pixel_size_nm is None:
            raise UsageError("a value per square micrometre needs the pixel size; got none. Give pixel_size_nm.")
        return self.n_pixels * self.pixel_size_nm**2 / 1e6

    def raw(self) -> dict[str, float]:
        """Return the raw sums by the name of the index, in squared grey levels."""
        return {name: float(getattr(self, name)) for name in INDEX_NAMES}

    def per_pixel(self) -> dict[str, float]:
        """Return each sum divided by the number of pixels: comparable between sizes at one pixel size."""
        return {name: total / self.n_pixels for name, total in self.raw().items()}

    def per_um2(self) -> dict[str, float]:
        """Return each sum divided by the area: the same for the same tissue, however it was cropped."""
        area_um2 = self.area_um2
        return {name: total / area_um2 for name, total in self.raw().items()}


@dataclass(frozen=True)
class Measurement:
    """One image of a survey: its indices, or the reason why it has none."""

    path: Path
    page: int | None
    sharpness: Sharpness | None
    problem: str | None

    @property
    def name(self) -> str:
        """The path, and the page for a file that contains several."""
        return str(self.path) if self.page is None else f"{self.path}#{self.page}"


def sharpness(
    image: Any, pixel_size_nm: float | None = None, *, axis: str = "x", n_threads: int | None = None
) -> Sharpness:
    """Return all indices of a grey image (row, column), read once and never copied whole.

    uint8 and uint16 are summed exactly; every other real type in float64. Any memory layout and byte order will do,
    memory-mapped files too. `n_threads` (default: the available processors, 8 at most) does not change the result.
    Raises InputError for an image that has no such index (see `emseg.images.require_gray`; at least 2 x 3 pixels),
    UsageError for a wrong option.
    """
    require_one_of("axis", axis, ("x", "y"))
    if n_threads is not None:
        require_count("n_threads", n_threads)
    if pixel_size_nm is not None:
        require_number("pixel_size_nm", pixel_size_nm, above=0, unit="nm")
    image = require_gray(image, check_finite=False)
    height, width = image.shape
    along, across = (width, height) if axis == "x" else (height, width)
    if along < 3 or across < 2:
        needed = "2 rows and 3 columns" if axis == "x" else "3 rows and 2 columns"
        raise InputError(
            f"the sharpness indices need at least {needed}; got {height} x {width} (rows x columns). "
            "Use a larger image."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite is reported below
        sums = _index_sums(image, axis=1 if axis == "x" else 0, n_threads=n_threads)
    if not np.isfinite(list(sums.values())).all():
        require_gray(image)
        raise InputError("the squares of the grey values exceed float64; divide the image by its largest value first.")
    return Sharpness(shape=(height, width), axis="x" if axis == "x" else "y", pixel_size_nm=pixel_size_nm, **sums)


def available_threads() -> int:
    """Return the default number of threads: the processors available to this process, 8 at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MAXIMUM_THREADS)


def survey(
    paths: Sequence[Path],
    *,
    pixel_size_nm: float | None = None,
    axis: Axis = "x",
    n_workers: int = 1,
    on_file: Callable[[], object] = lambda: None,
) -> Iterator[Measurement]:
    """Yield a measurement for each image of the files, in their order; `on_file` is called after each file.

    A file that cannot be measured is reported in its place, with the reason. A TIFF of several pages gives one
    measurement a page. At most `n_workers` files are in memory at a time.
    """
    if n_workers == 1:  # page by page, so that an interrupted survey of a stack keeps what it has
        for path in paths:
            yield from _measure_pages(path, pixel_size_nm, axis, None)
            on_file()
        return
    pool = ThreadPoolExecutor(n_workers)
    try:
        for measured in pool.map(lambda path: list(_measure_pages(path, pixel_size_nm, axis, 1)), paths):
            yield from measured
            on_file()
    finally:
        pool.shutdown(cancel_futures=True)


def _measure_pages(path: Path, pixel_size_nm: float | None, axis: Axis, n_threads: int | None) -> Iterator[Measurement]:
    try:
        n_pages = count_pages(path)
    except InputError as error:
        yield Measurement(path, None, None, str(error))
        return
    for page in range(n_pages):
        prefix, measured, problem = "", None, None
        try:
            image = read_gray(path, page=page, memory_map=True)
            prefix = f"{path}: "
            measured = sharpness(image, pixel_size_nm, axis=axis, n_threads=n_threads)
        except InputError as error:
            problem = f"{prefix}{error}"
        yield Measurement(path, page if n_pages > 1 else None, measured, problem)


def _index_sums(image: Real[np.ndarray, "row column"], *, axis: int, n_threads: int | None) -> dict[str, float]:
    """Return the mean and the raw sums, differences taken along `axis` (0 down, 1 along the rows)."""
    if image.flags.f_contiguous and not image.flags.c_contiguous:  # walk memory in its own order
        image, axis = image.T, 1 - axis
    native = image.dtype.newbyteorder("=")
    if native in (np.uint8, np.uint16):
        return _exact(image, _walk(image, native, integer_band_sums, axis, n_threads), axis)
    working = native if native == np.float32 else np.dtype(np.float64)
    tiles = np.concatenate(list(_walk(image, working, float_band_sums, axis, n_threads)))
    return _merged(image, tiles, axis)


def _walk(
    image: NDArray[Any], dtype: np.dtype[Any], kernel: Callable[..., NDArray[Any]], axis: int, n_threads: int | None
) -> Iterator[NDArray[Any]]:
    """Yield the kernel's sums of band after band, in order."""
    height, width = image.shape
    n_rows = max(BAND_PIXELS // width, MINIMUM_BAND_ROWS)

    def measure(start: int) -> NDArray[Any]:
        band = np.ascontiguousarray(image[start : start + n_rows + 2], dtype=dtype)  # no copy of a native band
        return kernel(band, min(n_rows, height - start), axis)

    starts = range(0, height, n_rows)
    workers = min(available_threads() if n_threads is None else n_threads, len(starts))
    if workers <= 1:
        yield from map(measure, starts)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(measure, starts)


def _lines(image: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Pixel `index` of every line, as int64 or float64."""
    ends = image[index] if axis == 0 else image[:, index]  # np.take would copy a strided image whole
    return ends.astype(np.int64 if ends.dtype.kind == "u" else np.float64)


def _exact(image: NDArray[Any], bands: Iterator[NDArray[Any]], axis: int) -> dict[str, float]:
    total, ff, fg, fh, smd2 = (sum(map(int, parts)) for parts in zip(*bands, strict=True))
    length, n_lines = image.shape[axis], image.shape[1 - axis]
    n_pixels = length * n_lines
    ends = {index: _lines(image, axis, index) for index in (0, 1, -2, -1)}
    squares = {index: int((values * values).sum()) for index, values in ends.items()}
    first_and_last = int(ends[0].sum()) + int(ends[-1].sum())
    centred = n_pixels * n_pixels * fg - n_pixels * total * (2 * total - first_and_last)
    centred += (length - 1) * n_lines * total * total
    return {
        "mean": total / n_pixels,
        "brenner_gap1": float(2 * ff - squares[0] - squares[-1] - 2 * fg),
        "brenner_gap2": float(2 * ff - sum(squares.values()) - 2 * fh),
        "smd2": float(smd2),
        "variance": (n_pixels * ff - total * total) / n_pixels,
        "vollath": (n_pixels * fg - total * total) / n_pixels,
        "vollath_centred": centred / (n_pixels * n_pixels),
        "vollath_f4": float(fg - fh),
    }


def _merged(image: NDArray[Any], tiles: NDArray[np.float64], axis: int) -> dict[str, float]:
    pixels, means, squares, pairs, products, here, there, gap1, gap2, smd2 = tiles.T
    mean = float(means[0] + np.sum(pixels * (means - means[0])) / np.sum(pixels))
    shift = means - mean
    centred = float(np.sum(products + shift * (here + there) + pairs * shift * shift))
    ends = np.sum(_lines(image, axis, 0) - mean) + np.sum(_lines(image, axis, -1) - mean)
    sums = {"brenner_gap1": gap1, "brenner_gap2": gap2, "smd2": smd2, "variance": squares + pixels * shift * shift}
    return {
        "mean": mean,
        **{name: float(np.sum(values)) for name, values in sums.items()},
        "vollath": float(centred - image.shape[1 - axis] * mean * mean - mean * ends),
        "vollath_centred": centred,
        "vollath_f4": float(
            (np.sum(gap2) - np.sum(gap1) + sum(np.sum(_lines(image, axis, i) ** 2) for i in (1, -2))) / 2
        ),
    }
