"""A synthetic electron micrograph with its ground truth: any window of an endless tissue, at any pixel size.

    picture = synthesize_tissue((1024, 1024), pixel_size_nm=2.18, seed=1)
    picture.image, picture.membrane, picture.cells, picture.organelles

The tissue is a function of the seed and of the place in nm. So the same seed at 2.18 and at 4 nm/px shows the same
cells, and a window of a large picture equals the same place drawn alone. Only shot noise belongs to pixels: it is
hashed from the pixel's number counted from the tissue's origin, round(origin_nm / pixel_size_nm) + index. The picture
is drawn in bands of rows, so memory is that of the result: 7 bytes a pixel.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emseg.checks import require_count, require_number
from emseg.errors import UsageError
from emseg.synthetic.tissue.tissue_design import (
    SMALLEST_CELL_IN_THICKNESSES,
    URISC_IMAGING,
    URISC_LIKE,
    URISC_PIXEL_SIZE_NM,
    Imaging,
    Tissue,
)
from emseg.synthetic.tissue.window import draw_window

GENERATOR_VERSION = 1  # raised whenever the same parameters give another picture; part of every fingerprint
MAX_SIDE = 32_768
PIXEL_SIZE_RANGE_NM = (0.25, 64.0)
MAX_ORIGIN_NM = 1e8
# Membrane of thickness t around cells of mean diameter D covers about c t / D of the plane; this c is the first guess.
FRACTION_LAW = 1.8
FRACTION_TOLERANCE = 0.03  # of the requested fraction, on a sampling grid of at most this many points:
SAMPLES = 65_536
LARGEST_CELL_NM = 50_000.0
TRUTH_ONLY = Imaging(point_spread_nm=0.0, dose_per_nm2=None, tilt_degrees=0.0, unevenness=0.0)


@dataclass(frozen=True, eq=False)
class Micrograph:
    """An image, its truth and what it was made from.

    `image` [height, width]: 0 to 255. `membrane`: True within half a thickness of a boundary between two cells;
    membranes of organelles do not count. `cells`: 0 on membrane, else 1 to `n_cells`, one number a cell. `organelles`:
    0 none, 1 mitochondrion, 2 vesicle, 3 endoplasmic reticulum. `cell_keys` [n_cells + 1]: a number that identifies the
    same cell in every window and at every pixel size; `cell_keys[0]` is 0.
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
        """Return the fraction of pixels that are membrane."""
        return float(self.membrane.mean())

    @property
    def n_cells(self) -> int:
        """Return how many cells show at least one pixel."""
        return len(self.cell_keys) - 1

    def fingerprint(self) -> str:
        """Return the name of this picture for a run record; see `fingerprint`."""
        given = {name: getattr(self, name) for name in ("pixel_size_nm", "seed", "tissue", "imaging", "origin_nm")}
        return fingerprint(self.image.shape, **given)


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
    """Return the micrograph of a window: `shape` (rows, columns) pixels, starting at `origin_nm` (y, x).

    With `membrane_fraction`, the tissue's cell diameter is first chosen so that membrane covers that fraction of this
    very window (see `tissue_with_membrane_fraction`); the result has the tissue used. Pixels larger than the membrane's
    thickness leave gaps in the mask. Raises `UsageError` for arguments out of range.
    """
    size, origin = _checked(shape, pixel_size_nm, seed, tissue, imaging, origin_nm)
    pixel_size_nm, seed = float(pixel_size_nm), int(seed)
    if membrane_fraction is not None:
        tissue = tissue_with_membrane_fraction(
            membrane_fraction, tissue, shape=size, pixel_size_nm=pixel_size_nm, seed=seed, origin_nm=origin
        )
    drawn = draw_window(size, pixel_size_nm, seed, tissue, imaging, origin)
    return Micrograph(*drawn, pixel_size_nm, origin, seed, tissue, imaging)


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
        "tissue": asdict(tissue),
        "imaging": asdict(imaging),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return f"synthetic-tissue-{GENERATOR_VERSION}:{digest[:16]}"


def tissue_with_membrane_fraction(
    fraction: float,
    tissue: Tissue,
    *,
    shape: tuple[int, int],
    pixel_size_nm: float,
    seed: int,
    origin_nm: tuple[float, float] = (0.0, 0.0),
) -> Tissue:
    """Return `tissue` with the cell diameter at which this window has `fraction` of membrane, to 3 % of `fraction`.

    The fraction is measured on a grid of at most 65,536 points; that of the whole window may differ by a little more.
    Windows of one tissue differ (U-RISC: 5.10 +- 2 %), so the diameter is that of this window only. Raises `UsageError`
    when no cell diameter from three membrane thicknesses to 50 um reaches the fraction.
    """
    from scipy.optimize import brentq

    require_number("membrane_fraction", fraction, least=1e-4, most=0.95)
    step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / SAMPLES)))
    coarse = (math.ceil(shape[0] / step), math.ceil(shape[1] / step))
    smallest = max(SMALLEST_CELL_IN_THICKNESSES * tissue.membrane_thickness_nm, 50.0)
    seen: dict[float, float] = {}

    def excess(log_diameter: float) -> float:
        diameter = float(np.clip(math.exp(log_diameter), smallest, LARGEST_CELL_NM))
        if diameter not in seen:
            candidate = replace(tissue, cell_diameter_nm=diameter)
            drawn = draw_window(coarse, pixel_size_nm * step, seed, candidate, TRUTH_ONLY, origin_nm)
            seen[diameter] = float(drawn[1].mean())
        value = seen[diameter] - fraction
        return 0.0 if abs(value) <= FRACTION_TOLERANCE * fraction else value  # close enough counts as the root

    # Look from the guess towards larger cells where there is too much membrane, else smaller, for a change of sign.
    low, high = math.log(smallest), math.log(LARGEST_CELL_NM)
    x = float(np.clip(math.log(FRACTION_LAW * tissue.membrane_thickness_nm / fraction), low, high))
    previous, stride = x, math.copysign(math.log(1.25), excess(x))
    while excess(x) * stride > 0.0 and x != (high if stride > 0.0 else low):
        previous, x = x, float(np.clip(x + stride, low, high))
    if excess(x) * excess(previous) <= 0.0:
        x = x if excess(x) == 0.0 else brentq(excess, previous, x, xtol=1e-4)
    if excess(x) != 0.0:
        raise UsageError(
            f"`membrane_fraction` must be within reach of this window; got {fraction:g}, while cells from "
            f"{min(seen):.0f} to {max(seen):.0f} nm across give {min(seen.values()):.3f} to {max(seen.values()):.3f}. "
            f"Change the membrane's thickness (now {tissue.membrane_thickness_nm:g} nm) or the window."
        )
    return replace(tissue, cell_diameter_nm=float(np.clip(math.exp(x), smallest, LARGEST_CELL_NM)))


def _checked(
    shape: Sequence[int],
    pixel_size_nm: float,
    seed: int,
    tissue: Tissue,
    imaging: Imaging,
    origin_nm: Sequence[float],
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return shape and origin as plain pairs, or raise for anything out of range."""
    pairs: tuple[tuple[str, Any, str], ...] = (
        ("shape", shape, "whole numbers (rows, columns)"), ("origin_nm", origin_nm, "numbers (y, x)")
    )  # fmt: skip
    for name, pair, wanted in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UsageError(f"`{name}` must be two {wanted}; got {pair!r}.")
    height, width = (require_count("shape", side) for side in shape)
    if max(height, width) > MAX_SIDE:
        raise UsageError(
            f"`shape` must not exceed {MAX_SIDE} pixels a side; got {shape!r}. Draw windows of it with `origin_nm`."
        )
    least, most = PIXEL_SIZE_RANGE_NM
    require_number("pixel_size_nm", pixel_size_nm, least=least, most=most, unit="nm")
    require_count("seed", seed, 0, 2**63 - 1)
    for name, value, kind in (("tissue", tissue, Tissue), ("imaging", imaging, Imaging)):
        if type(value) is not kind:
            raise UsageError(f"`{name}` must be of type {kind.__name__}; got {type(value).__name__}.")
    least, most = -MAX_ORIGIN_NM, MAX_ORIGIN_NM
    y_nm, x_nm = (require_number("origin_nm", value, least=least, most=most, unit="nm") for value in origin_nm)
    return (height, width), (y_nm, x_nm)
