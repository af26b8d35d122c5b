"""The size of an attribution field in nanometres: area above a threshold, area and radius that contain a fraction.

With w [row, column] the map of one target and h the pixel size,

    S_k       = #{p : w_p / max |w| > k} h^2        the paper's area; sign "positive"
    A_share   = h^2 times the fewest pixels whose |w| add up to `share` of sum |w|
    r_share   = h times the radius of the disc about the target that contains `share` of sum |w|

sign "negative" takes -w and "absolute" |w| for w. Without normalisation, k is in the unit of the map (logits). S_k
depends on one pixel, the largest: a map with a sharper peak has a smaller area, with the same tails. A_share and
r_share do not. Areas may be compared where pixel size, threshold, sign and normalisation are the same.

The mean of such values over targets needs an interval, and targets are in images: pixels of one image share tissue,
stain and network. With values v_ij of target j in image i,

    hierarchical bootstrap   draw images with replacement, then as many targets from each drawn image, take the mean;
                             the interval contains the middle 95 % of the means
    permutation test         without a difference every way to assign the images to the two sets is equally likely; p is
                             the fraction of the assignments whose difference of means of images is at least as large as
                             the one seen (all of them where there are at most `MOST_ASSIGNMENTS`, else a sample)

With few images the smallest possible p is large: two sets of three images can be assigned in 20 ways, two of which are
extreme, so that p is never below 0.1. `Difference.smallest_p` gives it.

Sources: Shi et al. 2022, "Size of attribution field", k = 0.01; Saravanan, Berman, Sober 2020, "Application of the
hierarchical bootstrap to multi-level data in neuroscience". Deviations: none in S_k (the paper does not define the
sign, the authors' code divides by max |w|).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.checks import require_number, require_one_of
from emseg.errors import InputError, UsageError

Sign = Literal["positive", "negative", "absolute"]
Normalisation = Literal["max", "none"]
PAPER_THRESHOLD = 0.01
MOST_ASSIGNMENTS = 20_000
LEVEL = 0.95
_SLACK = 1 - 1e-12  # so that rounding of a sum does not ask for one pixel more
_ROUNDING = 1e-9
_BLOCK = 2_000_000  # draws held at a time


def field_area(
    attribution: Any, threshold: float, pixel_size_nm: Any, sign: str = "positive", normalise: str = "max"
) -> Float64[np.ndarray, " target"]:
    """Return S_k of each map in nm^2.

    Maps are [target, row, column], or an object that contains them as `maps`. A map that is zero everywhere has an
    area of 0. Raises `UsageError` for a threshold at or below zero, pixels that are not square, an unknown sign or
    normalisation; `InputError` for maps that are not finite.
    """
    return np.asarray(field_areas(attribution, (threshold,), pixel_size_nm, sign, normalise)[:, 0])


def field_areas(
    attribution: Any, thresholds: Sequence[float], pixel_size_nm: Any, sign: str = "positive", normalise: str = "max"
) -> Float64[np.ndarray, "target threshold"]:
    """Return S_k in nm^2 of each map at each threshold; arguments and errors are those of `field_area`."""
    size_nm = square_pixel_size_nm(pixel_size_nm)
    require_one_of("normalise", normalise, get_args(Normalisation))
    require_one_of("sign", sign, get_args(Sign))
    for threshold in thresholds:
        if not (np.isfinite(threshold) and threshold > 0):
            raise UsageError(
                f"a field's threshold must be above 0; got {threshold}. At 0 every pixel counts that is not exactly "
                f"zero, noise of the arithmetic included; the paper takes {PAPER_THRESHOLD}."
            )
        if normalise == "max" and threshold >= 1:
            raise UsageError(f"a threshold on maps divided by their maximum must be below 1; got {threshold}.")
    areas = []
    for one in _maps(attribution):
        values = {"positive": one, "negative": -one, "absolute": np.abs(one)}[sign]
        scale = float(np.abs(one).max()) if normalise == "max" else 1.0
        areas.append([np.count_nonzero(values > float(limit) * scale) for limit in thresholds])
    return np.asarray(areas, dtype=np.float64) * size_nm**2


def area_holding(attribution: Any, share: float, pixel_size_nm: Any) -> Float64[np.ndarray, " target"]:
    """Return A_share in nm^2, the smallest area that contains `share` of |attribution|; NaN for a zero map."""
    size_nm = square_pixel_size_nm(pixel_size_nm)
    require_number("share", share, above=0, below=1)
    areas = []
    for one in _maps(attribution):
        sums = np.cumsum(np.sort(np.abs(one, dtype=np.float64), axis=None)[::-1])
        areas.append(np.searchsorted(sums, share * sums[-1] * _SLACK) + 1 if sums[-1] > 0 else np.nan)
    return np.asarray(areas, dtype=np.float64) * size_nm**2


def radius_holding(attribution: Any, targets: Any, share: float, pixel_size_nm: Any) -> Float64[np.ndarray, " target"]:
    """Return r_share in nm: the radius about each target that contains `share` of the absolute attribution.

    `targets` [target, 2] are (row, column). A disc of radius r contains the pixels whose centres are within r. NaN for
    a map that is zero everywhere.
    """
    size_nm = square_pixel_size_nm(pixel_size_nm)
    require_number("share", share, above=0, below=1)
    maps, places = _maps(attribution), np.asarray(targets)
    if places.shape != (len(maps), 2):
        raise UsageError(f"`targets` must be [target, 2], one for each of {len(maps)} maps; got shape {places.shape}.")
    rows, columns = (np.arange(side, dtype=np.int64) for side in maps.shape[1:])
    radii = []
    for one, (row, column) in zip(maps, places, strict=True):
        squared = (rows[:, None] - int(row)) ** 2 + (columns[None, :] - int(column)) ** 2
        sums = np.cumsum(np.bincount(squared.ravel(), weights=np.abs(one, dtype=np.float64).ravel()))
        radii.append(np.sqrt(np.searchsorted(sums, share * sums[-1] * _SLACK)) if sums[-1] > 0 else np.nan)
    return np.asarray(radii, dtype=np.float64) * size_nm


def square_pixel_size_nm(pixel_size_nm: Any) -> float:
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


def _maps(attribution: Any) -> NDArray[Any]:
    maps = np.asarray(getattr(attribution, "maps", attribution))
    if maps.ndim != 3 or 0 in maps.shape:
        raise UsageError(f"maps must be [target, row, column], at least one; got shape {maps.shape}. Add the axis.")
    if not np.isfinite(maps).all():
        raise InputError("maps must be finite; some pixels are NaN or infinite. Check the network's gradients.")
    return maps


@dataclass(frozen=True)
class Grouped:
    """Values [target] and the image [target] that each belongs to, by any whole number."""

    values: NDArray[np.float64]
    images: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.shape != self.images.shape or not len(self.values):
            raise UsageError(
                "values and images must be two lists of one length, at least one; got shapes "
                f"{self.values.shape} and {self.images.shape}."
            )
        if not np.isfinite(self.values).all():
            raise UsageError("values must be finite; leave targets out whose area is undefined.")

    @classmethod
    def of(cls, values: Any, images: Any) -> "Grouped":
        """Return values and images given as any sequences."""
        return cls(np.asarray(values, dtype=np.float64), np.asarray(images, dtype=np.int64))

    @property
    def by_image(self) -> list[NDArray[np.float64]]:
        """The values of each image."""
        return [self.values[self.images == image] for image in np.unique(self.images)]

    @property
    def n_images(self) -> int:
        """How many images there are."""
        return len(np.unique(self.images))


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that resampling gives it; `n` targets in `n_images` images."""

    value: float
    low: float
    high: float
    n: int
    n_images: int

    def holds(self, value: float) -> bool:
        """Whether the interval contains `value`."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """Two sets compared: ratio of means (first over second), p of the permutation test and the smallest p it allows."""

    ratio: Estimate
    p_value: float
    smallest_p: float
    n_images: tuple[int, int]


def bootstrap_mean(values: Grouped, *, n_resamples: int = 2000, generator: np.random.Generator) -> Estimate:
    """Return the mean over targets with its hierarchical bootstrap interval.

    Every image must contain at least one target; where targets per image differ, an image weighs by its targets. Of a
    single image only the targets are drawn: the interval then does not cover other images.
    """
    _check_resamples(n_resamples)
    (means,) = _resampled_means(values.images, (values.values,), n_resamples, generator)
    return _estimate(float(values.values.mean()), means, len(values.values), values.n_images)


def bootstrap_ratio(
    first: Grouped, second: Grouped, *, paired: bool = False, n_resamples: int = 2000, generator: np.random.Generator
) -> Estimate:
    """Return mean of `first` over mean of `second` with its hierarchical bootstrap interval.

    `paired`: both contain the same targets in the same order, so the same targets are drawn for both. Raises
    `UsageError` where a pair does not fit, or the second mean is not positive.
    """
    _check_resamples(n_resamples)
    if not second.values.mean() > 0:
        raise UsageError("a ratio of means needs a positive second mean; all areas are zero. Lower the threshold.")
    if paired:
        if not np.array_equal(first.images, second.images):
            raise UsageError("paired values must belong to the same targets of the same images in the same order.")
        tops, bottoms = _resampled_means(first.images, (first.values, second.values), n_resamples, generator)
    else:
        (tops,) = _resampled_means(first.images, (first.values,), n_resamples, generator)
        (bottoms,) = _resampled_means(second.images, (second.values,), n_resamples, generator)
    defined = bottoms > 0  # a draw of nothing but empty fields has no ratio
    ratios = tops[defined] / bottoms[defined]
    value = float(first.values.mean() / second.values.mean())
    return _estimate(value, ratios, min(len(first.values), len(second.values)), min(first.n_images, second.n_images))


def compare_sets(
    first: Grouped, second: Grouped, *, n_resamples: int = 2000, generator: np.random.Generator
) -> Difference:
    """Return the ratio of the two means with its interval, and the two-sided p of a permutation of images."""
    ratio = bootstrap_ratio(first, second, n_resamples=n_resamples, generator=generator)
    a = np.array([one.mean() for one in first.by_image])
    b = np.array([one.mean() for one in second.by_image])
    pooled = np.concatenate([a, b])
    n_assignments = math.comb(len(pooled), len(a))
    if n_assignments <= MOST_ASSIGNMENTS:
        chosen = np.array(list(combinations(range(len(pooled)), len(a))))
    else:
        chosen = np.stack([generator.permutation(len(pooled))[: len(a)] for _ in range(MOST_ASSIGNMENTS)])
    sums = pooled[chosen].sum(axis=1)
    differences = np.abs(sums / len(a) - (pooled.sum() - sums) / len(b))
    seen = abs(a.mean() - b.mean())
    extreme = int(np.count_nonzero(differences >= seen * (1 - _ROUNDING)))
    if n_assignments <= MOST_ASSIGNMENTS:
        smallest = (2 if len(a) == len(b) else 1) / n_assignments
        return Difference(ratio, extreme / n_assignments, smallest, (len(a), len(b)))
    # The assignment that was seen counts among the sampled ones, so that p is never 0.
    return Difference(ratio, (extreme + 1) / (MOST_ASSIGNMENTS + 1), 1 / (MOST_ASSIGNMENTS + 1), (len(a), len(b)))


def _resampled_means(
    images: NDArray[np.int64],
    columns: tuple[NDArray[np.float64], ...],
    n_resamples: int,
    generator: np.random.Generator,
) -> list[NDArray[np.float64]]:
    """Return the mean of each column in each resample: images drawn first, then as many targets as each one has."""
    groups = [np.flatnonzero(images == image) for image in np.unique(images)]
    sizes = np.array([len(group) for group in groups])
    members = np.zeros((len(groups), sizes.max()), dtype=np.int64)
    for row, group in zip(members, groups, strict=True):
        row[: len(group)] = group
    means = [np.empty(n_resamples) for _ in columns]
    block = max(1, _BLOCK // members.size)
    for start in range(0, n_resamples, block):
        part = slice(start, min(start + block, n_resamples))
        drawn = generator.integers(len(groups), size=(part.stop - part.start, len(groups)))
        n_targets = sizes[drawn][..., None]
        place = (generator.random((*drawn.shape, members.shape[1])) * n_targets).astype(np.int64)
        targets = members[drawn[..., None], place]
        counts = np.arange(members.shape[1]) < n_targets
        for mean, column in zip(means, columns, strict=True):
            mean[part] = (column[targets] * counts).sum(axis=(1, 2)) / counts.sum(axis=(1, 2))
    return means


def _estimate(value: float, draws: NDArray[np.float64], n: int, n_images: int) -> Estimate:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, float(low), float(high), n, n_images)


def _check_resamples(n_resamples: int) -> None:
    if n_resamples < 100:
        raise UsageError(f"a bootstrap interval needs at least 100 resamples; got {n_resamples}. The usual is 2000.")
