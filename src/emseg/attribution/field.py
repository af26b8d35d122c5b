"""The size of an attribution field in nanometres: area above a threshold, area and radius that hold a share.

With w [row, column] the map of one target and h the pixel size,

    S_k       = #{p : w_p / max |w| > k} h^2        the paper's area; sign "positive"
    A_share   = h^2 times the fewest pixels whose |w| add up to `share` of sum |w|
    r_share   = h times the radius of the disc about the target that holds `share` of sum |w|

sign "negative" takes -w and "absolute" |w| for w. Without normalisation, k is in the unit of the map (logits).

S_k depends on one pixel, the largest: a map with a sharper peak has a smaller area, with the same tails. A_share and
r_share do not. Areas may be compared where pixel size, threshold, sign and normalisation are the same; A_share and
r_share wherever maps reach as far as their network looks.

Source: Shi et al. 2022, "Size of attribution field", k = 0.01. Deviation: none in S_k; the paper leaves the sign open,
the authors' code divides by max |w|.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError, suggest

Sign = Literal["positive", "negative", "absolute"]
Normalisation = Literal["max", "none"]
PixelSize = float | tuple[float, float]
PAPER_THRESHOLD = 0.01


class HasMaps(Protocol):
    """Anything that holds maps [target, row, column], such as an `Attribution`."""

    @property
    def maps(self) -> NDArray[Any]:
        """Signed maps."""


def field_area(
    attribution: HasMaps | NDArray[Any],
    threshold: float,
    pixel_size_nm: PixelSize,
    sign: Sign = "positive",
    normalise: Normalisation = "max",
) -> Float64[np.ndarray, " target"]:
    """Return S_k of each map in nm^2.

    Maps are [target, row, column], or an object that holds them. A map that is zero everywhere has an area of 0.
    Raises `UsageError` for a threshold at or below zero, pixels that are not square, an unknown sign or normalisation;
    `InputError` for maps that are not finite.
    """
    return np.asarray(field_areas(attribution, (threshold,), pixel_size_nm, sign, normalise)[:, 0])


def field_areas(
    attribution: HasMaps | NDArray[Any],
    thresholds: Sequence[float],
    pixel_size_nm: PixelSize,
    sign: Sign = "positive",
    normalise: Normalisation = "max",
) -> Float64[np.ndarray, "target threshold"]:
    """Return S_k in nm^2 of each map at each threshold; arguments and errors are those of `field_area`."""
    pixel_area_nm2 = square_pixel_size_nm(pixel_size_nm) ** 2
    limits = _checked_thresholds(thresholds, normalise)
    maps = _maps(attribution)
    areas = np.empty((len(maps), len(limits)))
    for area, one in zip(areas, maps, strict=True):
        values = signed(one, sign)
        scale = float(np.abs(one).max()) if normalise == "max" else 1.0
        area[:] = [np.count_nonzero(values > limit * scale) for limit in limits]
    return areas * pixel_area_nm2


def area_holding(
    attribution: HasMaps | NDArray[Any], share: float, pixel_size_nm: PixelSize
) -> Float64[np.ndarray, " target"]:
    """Return A_share in nm^2: the smallest area that holds `share` of the absolute attribution; NaN for a zero map."""
    pixel_area_nm2 = square_pixel_size_nm(pixel_size_nm) ** 2
    _check_share(share)
    areas = []
    for one in _maps(attribution):
        sums = np.cumsum(np.sort(np.abs(one, dtype=np.float64), axis=None)[::-1])
        areas.append(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)) + 1 if sums[-1] > 0 else np.nan)
    return np.asarray(areas, dtype=np.float64) * pixel_area_nm2


def radius_holding(
    attribution: HasMaps | NDArray[Any], targets: Any, share: float, pixel_size_nm: PixelSize
) -> Float64[np.ndarray, " target"]:
    """Return r_share in nm: the radius about each target that holds `share` of the absolute attribution.

    `targets` [target, 2] are (row, column). A disc of radius r holds the pixels whose centres lie within r. NaN for a
    map that is zero everywhere.
    """
    size_nm = square_pixel_size_nm(pixel_size_nm)
    _check_share(share)
    maps = _maps(attribution)
    places = np.asarray(targets)
    if places.shape != (len(maps), 2):
        raise UsageError(f"`targets` must be [target, 2], one for each of {len(maps)} maps; got shape {places.shape}.")
    rows, columns = (np.arange(side, dtype=np.int64) for side in maps.shape[1:])
    radii = []
    for one, (row, column) in zip(maps, places, strict=True):
        squared = (rows[:, None] - int(row)) ** 2 + (columns[None, :] - int(column)) ** 2
        sums = np.cumsum(np.bincount(squared.ravel(), weights=np.abs(one, dtype=np.float64).ravel()))
        reached = np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)) if sums[-1] > 0 else np.nan
        radii.append(np.sqrt(reached))
    return np.asarray(radii, dtype=np.float64) * size_nm


def signed(values: NDArray[Any], sign: Sign) -> NDArray[Any]:
    """Return the attributions that count, as positive numbers."""
    if sign == "positive":
        return values
    if sign == "negative":
        return np.asarray(np.negative(values))
    if sign == "absolute":
        return np.asarray(np.abs(values))
    raise UsageError(f"`sign` must be one of {', '.join(get_args(Sign))}; got {sign!r}.{suggest(sign, get_args(Sign))}")


def square_pixel_size_nm(pixel_size_nm: PixelSize) -> float:
    """Return the side of a square pixel; raise for one that is not positive, or for unequal sides."""
    sides = pixel_size_nm if isinstance(pixel_size_nm, tuple | list) else (pixel_size_nm, pixel_size_nm)
    if len(sides) != 2 or not all(np.isfinite(side) and side > 0 for side in sides):
        raise UsageError(f"`pixel_size_nm` must be positive, one number or (row, column); got {pixel_size_nm!r}.")
    if sides[0] != sides[1]:
        raise UsageError(
            f"a field's area and radius need square pixels; got {sides[0]:g} x {sides[1]:g} nm (row x column). "
            "Resample the image to equal pixel sizes before it is attributed."
        )
    return float(sides[0])


def _checked_thresholds(thresholds: Sequence[float], normalise: str) -> list[float]:
    if normalise not in get_args(Normalisation):
        raise UsageError(f"`normalise` must be one of {', '.join(get_args(Normalisation))}; got {normalise!r}.")
    for threshold in thresholds:
        if not (np.isfinite(threshold) and threshold > 0):
            raise UsageError(
                f"a field's threshold must be above 0; got {threshold}. At 0 every pixel counts that is not exactly "
                f"zero, noise of the arithmetic included; the paper takes {PAPER_THRESHOLD}."
            )
        if normalise == "max" and threshold >= 1:
            raise UsageError(f"a threshold on maps divided by their maximum must be below 1; got {threshold}.")
    return [float(threshold) for threshold in thresholds]


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f"`share` must lie between 0 and 1; got {share}. Half is 0.5.")


def _maps(attribution: HasMaps | NDArray[Any]) -> NDArray[Any]:
    maps = np.asarray(attribution if isinstance(attribution, np.ndarray) else getattr(attribution, "maps", attribution))
    if maps.ndim != 3 or 0 in maps.shape:
        raise UsageError(f"maps must be [target, row, column], at least one; got shape {maps.shape}. Add the axis.")
    if not np.isfinite(maps).all():
        raise InputError("maps must be finite; some pixels are NaN or infinite. Check the network's gradients.")
    return maps
