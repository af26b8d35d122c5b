"""Confidence intervals that several parts of the library share: paired differences over seeds, and percentiles.

Two networks trained with the same seed share their initialization and their draws, so what makes a seed easy or hard
cancels in their difference. Over S seeds the differences d have the mean and the interval of Student's t:

    mean(d) +- t(1 - alpha / 2, S - 1) sd(d) / sqrt(S)        alpha = 0.05, sd with S - 1

An interval that includes 0 does not show that the two are equal, only that these seeds cannot distinguish them.

A fraction k / n has Wilson's interval. A quantile q of n values has that between two of them: their ranks are the 2.5
and the 97.5 % point of the number of values below the quantile, binomial with n and q (David and Nagaraja, Order
Statistics, 2003, section 7.1); it needs no assumption about the values' distribution.

With fewer than three seeds no interval is given: Student's t with one degree of freedom is 12.7, and such an interval
is uninformative about the number.

The percentile interval is the central 95 % of resampled scores (Efron and Tibshirani 1993, chapter 13).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from emseg.errors import UsageError

CONFIDENCE = 0.95
MIN_REPLICATES = 3


@dataclass(frozen=True)
class SeedDifference:
    """The mean of paired differences over `n` seeds; the interval of fewer than three is None."""

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Estimate:
    """A value from `n` cases, None where there are none, with its 95 % interval where one is defined."""

    value: float | None
    interval: tuple[float, float] | None
    n: int


def fraction_estimate(k: int, n: int) -> Estimate:
    """Return k / n with Wilson's interval."""
    if not 0 <= k <= n:
        raise UsageError(f"a fraction k / n needs 0 <= k <= n; got k={k}, n={n}.")
    if n == 0:
        return Estimate(None, None, 0)
    interval = stats.binomtest(k, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(k / n, (float(interval.low), float(interval.high)), n)


def quantile_estimate(values: NDArray[Any], q: float) -> Estimate:
    """Return the quantile `q` of finite values; no interval where they are too few for one on both sides."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        return Estimate(None, None, 0)
    low = int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, q)) - 1
    high = int(stats.binom.ppf((1 + CONFIDENCE) / 2, n, q))
    interval = (float(ordered[low]), float(ordered[high])) if low >= 0 and high < n else None
    return Estimate(float(np.quantile(ordered, q)), interval, n)


def difference_over_seeds(pairs: Sequence[tuple[float, float]]) -> SeedDifference:
    """Return the mean of a - b over pairs (a, b), a pair a seed, with its 95 % interval."""
    if not pairs:
        raise UsageError("a difference over seeds needs at least one pair of scores; got none.")
    gaps = np.array([a - b for a, b in pairs], dtype=np.float64)
    if not np.isfinite(gaps).all():
        raise UsageError(f"each seed needs both scores, finite; got {list(pairs)}. Leave out undefined scores' seeds.")
    mean = float(gaps.mean())
    if len(gaps) < MIN_REPLICATES:
        return SeedDifference(mean, None, len(gaps))
    half = student_half_width(float(gaps.std(ddof=1)), len(gaps))
    return SeedDifference(mean, (mean - half, mean + half), len(gaps))


def student_half_width(spread: float, n: int) -> float:
    """Return half of the 95 % interval of a mean of n values with the standard deviation `spread`; n is at least 2."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * spread / np.sqrt(n))


def metric_interval(metric: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the 95 % interval of a record's metric: the recorded one, else Student's from `spread` and `n`.

    None for n below 3, and without either.
    """
    if metric["n"] < MIN_REPLICATES:
        return None
    if metric.get("interval") is not None:
        low, high = metric["interval"]
        return low, high
    if metric.get("spread") is None:
        return None
    half = student_half_width(metric["spread"], metric["n"])
    return metric["value"] - half, metric["value"] + half


def percentile_interval(values: NDArray[Any]) -> tuple[float, float] | None:
    """Return the central 95 % of the finite values; None where fewer than two are finite."""
    defined = values[np.isfinite(values)]
    if len(defined) < 2:
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
