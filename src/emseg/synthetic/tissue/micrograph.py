"""A synthetic electron micrograph with its ground truth: any window of an endless tissue, at any pixel size.

    picture = synthesize_tissue((1024, 1024), pixel_size_nm=2.18, seed=1)
    picture.image, picture.membrane, picture.cells, picture.organelles

The tissue is a function of the seed and of the place in nm. So the same seed at 2.18 and at 4 nm/px shows the same
cells, and a window of a large picture equals the same place drawn alone. Only shot noise belongs to pixels: it is
hashed from the pixel's number counted from the tissue's origin, round(origin_nm / pixel_size_nm) + index. The picture
is drawn in bands of rows, so memory is that of the result: 7 bytes a pixel.
"""

import dataclasses
import hashlib
import json
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.synthetic.tissue.fraction import tissue_with_membrane_fraction
from emseg.synthetic.tissue.parameters import (
    URISC_IMAGING,
    URISC_LIKE,
    URISC_PIXEL_SIZE_NM,
    Imaging,
    Tissue,
    require_number,
)
from emseg.synthetic.tissue.window import draw_window

# Raised whenever the same parameters give another picture; part of every fingerprint.
GENERATOR_VERSION = 1
MAX_SIDE = 32_768
PIXEL_SIZE_RANGE_NM = (0.25, 64.0)
MAX_ORIGIN_NM = 1e8


@dataclass(frozen=True, eq=False)
class Micrograph:
    """An image, its truth and what it was made from.

    `image` [height, width]: 0 to 255. `membrane`: True within half a thickness of a boundary between two cells;
    membranes of organelles are not meant. `cells`: 0 on membrane, else 1 to `n_cells`, one number a cell. `organelles`:
    0 none, 1 mitochondrion, 2 vesicle, 3 endoplasmic reticulum. `cell_keys` [n_cells + 1]: a number that names the same
    cell in every window and at every pixel size; `cell_keys[0]` is 0.
    """

    image: NDArray[np.uint8]
    membrane: NDArray[np.bool_]
    cells: NDArray[np.int32]
    organelles: NDArray[np.uint8]
    cell_keys: NDArray[np.int64]
    pixel_size_nm: float
    origin_nm: tuple[float, float]
    seed: int
    tissue: Tissue
    imaging: Imaging

    @property
    def membrane_fraction(self) -> float:
        """Return the share of pixels that are membrane."""
        return float(self.membrane.mean())

    @property
    def n_cells(self) -> int:
        """Return how many cells show at least one pixel."""
        return len(self.cell_keys) - 1

    def fingerprint(self) -> str:
        """Return the name of this picture for a run record; see `fingerprint`."""
        height, width = self.image.shape
        return fingerprint(
            (height, width),
            pixel_size_nm=self.pixel_size_nm,
            seed=self.seed,
            tissue=self.tissue,
            imaging=self.imaging,
            origin_nm=self.origin_nm,
        )


def synthesize_tissue(
    shape: Sequence[int],
    *,
    pixel_size_nm: float = URISC_PIXEL_SIZE_NM,
    seed: int,
    tissue: Tissue = URISC_LIKE,
    imaging: Imaging = URISC_IMAGING,
    origin_nm: Sequence[float] = (0.0, 0.0),
    membrane_fraction: float | None = None,
) -> Micrograph:
    """Return the micrograph of a window: `shape` (rows, columns) pixels from `origin_nm` (y, x) on.

    With `membrane_fraction`, the tissue's cell diameter is first chosen so that membrane covers that share of this very
    window, to 3 % of it on a sampling grid (see `tissue_with_membrane_fraction`); the tissue used is in the result.
    Pixels larger than the membrane's thickness leave gaps in the mask. Raises `UsageError` for arguments out of range.
    """
    size, origin = _checked(shape, pixel_size_nm, seed, tissue, imaging, origin_nm)
    pixel_size_nm, seed = float(pixel_size_nm), int(seed)
    if membrane_fraction is not None:
        tissue = tissue_with_membrane_fraction(
            membrane_fraction, tissue, shape=size, pixel_size_nm=pixel_size_nm, seed=seed, origin_nm=origin
        )
    drawing = draw_window(size, pixel_size_nm, seed, tissue, imaging, origin)
    return Micrograph(
        image=drawing.image,
        membrane=drawing.membrane,
        cells=drawing.cells,
        organelles=drawing.organelles,
        cell_keys=drawing.cell_keys,
        pixel_size_nm=pixel_size_nm,
        origin_nm=origin,
        seed=seed,
        tissue=tissue,
        imaging=imaging,
    )


def fingerprint(
    shape: Sequence[int],
    *,
    pixel_size_nm: float = URISC_PIXEL_SIZE_NM,
    seed: int,
    tissue: Tissue = URISC_LIKE,
    imaging: Imaging = URISC_IMAGING,
    origin_nm: Sequence[float] = (0.0, 0.0),
) -> str:
    """Return a short name for the picture these arguments give: "synthetic-tissue-1:" and 16 hexadecimal digits.

    It digests the arguments and the generator's version, not the pixels, whose last bit may differ between processors.
    """
    size, origin = _checked(shape, pixel_size_nm, seed, tissue, imaging, origin_nm)
    recipe = {
        "shape": size,
        "pixel_size_nm": float(pixel_size_nm),
        "seed": int(seed),
        "origin_nm": origin,
        "tissue": _plain(tissue),
        "imaging": _plain(imaging),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return f"synthetic-tissue-{GENERATOR_VERSION}:{digest[:16]}"


def _plain(parameters: Tissue | Imaging) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in dataclasses.asdict(parameters).items()}


def _checked(
    shape: Sequence[int],
    pixel_size_nm: float,
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    origin_nm: Sequence[float],
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return shape and origin as plain pairs, or raise for anything out of range."""
    sides = _pair("shape", shape, "two whole numbers (rows, columns)")
    height, width = (_whole("shape", side, "of whole numbers from 1", 1, 2**63) for side in sides)
    if max(height, width) > MAX_SIDE:
        raise UsageError(
            f"`shape` must not exceed {MAX_SIDE} pixels a side; got {shape!r}. Draw windows of it with `origin_nm`."
        )
    require_number("pixel_size_nm", pixel_size_nm, *PIXEL_SIZE_RANGE_NM, "nm")
    _whole("seed", seed, "a whole number from 0 to 2**63 - 1", 0, 2**63)
    for name, value, kind in (("tissue", tissue, Tissue), ("imaging", imaging, Imaging)):
        if type(value) is not kind:
            raise UsageError(f"`{name}` must be of type {kind.__name__}; got {type(value).__name__}.")
    y, x = _pair("origin_nm", origin_nm, "two numbers (y, x)")
    y_nm = require_number("origin_nm[0]", y, -MAX_ORIGIN_NM, MAX_ORIGIN_NM, "nm")
    x_nm = require_number("origin_nm[1]", x, -MAX_ORIGIN_NM, MAX_ORIGIN_NM, "nm")
    return (height, width), (y_nm, x_nm)


def _pair(name: str, value: object, wanted: str) -> tuple[object, object]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise UsageError(f"`{name}` must be {wanted}; got {value!r}.")
    return value[0], value[1]


def _whole(name: str, value: object, wanted: str, low: int, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) < end:
        raise UsageError(f"`{name}` must be {wanted}; got {value!r}.")
    return int(value)
