"""How sure a mean area is, and whether two sets of areas differ: targets lie in images, so images are drawn first.

Pixels of one image share tissue, stain and network; they are no independent sample. With values v_ij of target j in
image i:

    hierarchical bootstrap   draw images with replacement, then as many targets from each drawn image, take the mean;
                             the interval holds the middle 95 % of the means
    permutation test         under no difference every way to deal the images to the two sets is equally likely; p is
                             the share of the dealings whose difference of means of images is at least as large as the
                             one seen (all dealings where there are at most `MOST_DEALINGS`, else a sample)

With few images the smallest p that can be had is large: two sets of three images can be dealt in 20 ways, two of which
are extreme, so that p is never below 0.1. `Difference.smallest_p` says so.

Source: Saravanan, Berman, Sober 2020, "Application of the hierarchical bootstrap to multi-level data in neuroscience".
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError

MOST_DEALINGS = 20_000
LEVEL = 0.95
_ROUNDING = 1e-9
_BLOCK = 2_000_000  # draws held at a time


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
        """Whether the interval holds `value`."""
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

    Every image must hold at least one target; where targets per image differ, an image weighs by its targets. Of a
    single image only the targets are drawn: the interval then says nothing about other images.
    """
    _check_resamples(n_resamples)
    (means,) = _resampled_means(values.images, (values.values,), n_resamples, generator)
    return _estimate(float(values.values.mean()), means, len(values.values), values.n_images)


def bootstrap_ratio(
    first: Grouped, second: Grouped, *, paired: bool = False, n_resamples: int = 2000, generator: np.random.Generator
) -> Estimate:
    """Return mean of `first` over mean of `second` with its hierarchical bootstrap interval.

    `paired`: both hold the same targets in the same order, so the same targets are drawn for both. Raises `UsageError`
    where a pair does not fit, or the second mean is not positive.
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
    n_dealings = math.comb(len(pooled), len(a))
    if n_dealings <= MOST_DEALINGS:
        chosen = np.array(list(combinations(range(len(pooled)), len(a))))
    else:
        chosen = np.stack([generator.permutation(len(pooled))[: len(a)] for _ in range(MOST_DEALINGS)])
    sums = pooled[chosen].sum(axis=1)
    differences = np.abs(sums / len(a) - (pooled.sum() - sums) / len(b))
    seen = abs(a.mean() - b.mean())
    extreme = int(np.count_nonzero(differences >= seen * (1 - _ROUNDING)))
    if n_dealings <= MOST_DEALINGS:
        smallest = (2 if len(a) == len(b) else 1) / n_dealings
        return Difference(ratio, extreme / n_dealings, smallest, (len(a), len(b)))
    # The dealing that was seen counts among the sampled ones, so that p is never 0.
    return Difference(ratio, (extreme + 1) / (MOST_DEALINGS + 1), 1 / (MOST_DEALINGS + 1), (len(a), len(b)))


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
