"""Four sharpness ("image definition") indices of a micrograph, as raw sums, per pixel and per square micrometre.

For an image f of M x N pixels with mean mu (Shi et al. 2022, "Image Definition Criteria"; as commonly written)

    Brenner    sum (f(x+k, y) - f(x, y))^2                      k = 2; the paper's "adjacent" also allows k = 1
    SMD2       sum |f(x, y) - f(x+1, y)| |f(x, y) - f(x, y+1)|
    Variance   sum (f - mu)^2
    Vollath    sum f(x, y) f(x+1, y) - M N mu^2

x is the column: differences run along the rows. `axis="y"` takes them down the columns instead; comparing the two shows
a blur that has a direction, such as astigmatism or drift. A sum has a term wherever its neighbours lie in the image.

"Per pixel" divides by the number of pixels M N for every index, not by the number of terms (which is smaller by 1/M,
2/M or 1/M + 1/N). So a ratio of raw sums is exactly the ratio of pixel counts times the ratio per pixel.

Vollath's sum has M - 1 terms a line and subtracts M: a flat image of grey c scores -N c^2, and adding a constant grey
changes the index. `vollath_centred` is the same index without that edge: sum (f(x, y) - mu)(f(x+1, y) - mu).

Images of different size, grey scaling or contrast cannot be compared by any of these; a factor a on the grey scale is
a factor a^2 on every index.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError
from emseg.images import require_gray
from emseg.sharpness.sums import index_sums

Axis = Literal["x", "y"]

INDEX_NAMES = ("brenner_gap1", "brenner_gap2", "smd2", "variance", "vollath", "vollath_centred")

INDEX_LABELS = {
    "brenner_gap1": "Brenner, gap 1",
    "brenner_gap2": "Brenner, gap 2",
    "smd2": "SMD2",
    "variance": "Variance",
    "vollath": "Vollath",
    "vollath_centred": "Vollath, centred",
}

MINIMUM_ACROSS = 2
MINIMUM_ALONG = 3
SQUARE_NM_PER_SQUARE_UM = 1e6


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

    def __post_init__(self) -> None:
        _require_pixel_size(self.pixel_size_nm)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the image."""
        return self.shape[0] * self.shape[1]

    @property
    def area_um2(self) -> float:
        """Area of the image in square micrometres; raises UsageError when the pixel size is not known."""
        if self.pixel_size_nm is None:
            raise UsageError("a value per square micrometre needs the pixel size; got none. Give pixel_size_nm.")
        return self.n_pixels * self.pixel_size_nm**2 / SQUARE_NM_PER_SQUARE_UM

    def raw(self) -> dict[str, float]:
        """Return the raw sums by the name of the index, in squared grey levels."""
        return {name: float(getattr(self, name)) for name in INDEX_NAMES}

    def per_pixel(self) -> dict[str, float]:
        """Return each sum divided by the number of pixels: comparable between sizes at one pixel size."""
        return {name: total / self.n_pixels for name, total in self.raw().items()}

    def per_um2(self) -> dict[str, float]:
        """Return each sum divided by the area: what the same tissue yields, whatever was cropped."""
        area_um2 = self.area_um2
        return {name: total / area_um2 for name, total in self.raw().items()}


def sharpness(
    image: NDArray[Any],
    pixel_size_nm: float | None = None,
    *,
    axis: Axis = "x",
    n_threads: int | None = None,
) -> Sharpness:
    """Return all indices of a two-dimensional grey image, read once and never copied whole.

    uint8 and uint16 are summed exactly; every other real type in float64. Any memory layout and byte order will do,
    memory-mapped files too. `n_threads` (default: the processors available, 8 at most) does not change the result.
    Raises InputError for an image that has no such index (see `emseg.images.require_gray`; at least 2 x 3 pixels),
    UsageError for a wrong option.
    """
    if axis not in get_args(Axis):
        raise UsageError(f"axis must be 'x' (along the rows) or 'y' (down the columns); got {axis!r}.")
    if n_threads is not None and n_threads < 1:
        raise UsageError(f"n_threads must be at least 1; got {n_threads}. Leave it out to use all processors.")
    _require_pixel_size(pixel_size_nm)
    image = require_gray(image, check_finite=False)
    _require_extent(image.shape, axis)
    with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite is named below
        sums = asdict(index_sums(image, axis=1 if axis == "x" else 0, n_threads=n_threads))
    if not np.isfinite(list(sums.values())).all():
        require_gray(image)
        raise InputError("the squares of the grey values exceed float64; divide the image by its largest value first.")
    return Sharpness(shape=(image.shape[0], image.shape[1]), axis=axis, pixel_size_nm=pixel_size_nm, **sums)


def _require_pixel_size(pixel_size_nm: float | None) -> None:
    if pixel_size_nm is not None and not 0 < pixel_size_nm < np.inf:
        raise UsageError(f"pixel_size_nm must be a positive length in nanometres; got {pixel_size_nm}.")


def _require_extent(shape: tuple[int, ...], axis: Axis) -> None:
    along, across = (shape[1], shape[0]) if axis == "x" else (shape[0], shape[1])
    if along < MINIMUM_ALONG or across < MINIMUM_ACROSS:
        needed = "2 rows and 3 columns" if axis == "x" else "3 rows and 2 columns"
        raise InputError(
            f"the sharpness indices need at least {needed}; got {shape[0]} x {shape[1]} (rows x columns). "
            "Use a larger image."
        )
