"""Which of the 49 frequencies serves attention best on its own? The statistics of that experiment.

FcaNet trained one network for each frequency (h, w), 0 <= h, w < 7, and kept the sixteen best: FANet's Table 1, in
order of merit. Repeated on other data, with S seeds each, the experiment gives accuracies a_fs. Three questions:

    do frequencies differ at all?     reliability = 1 - MS_residual / MS_frequency of a two-way table; seeds are blocks
    does Table 1 hold the best?       advantage   = mean of a over the listed frequencies - mean over the others
    does its order carry over?        Spearman's rank correlation of Table 1's order with a, over the listed ones only

    a              [frequency, seed]   accuracies
    reliability    the share of the variance of the seed means that is no seed noise, 0 where all of it may be
                   (Cronbach's alpha, which is the mean over all split halves; below 0 is chance and set to 0)
    noise ceiling  sqrt(reliability): the largest correlation that noisy means can be expected to have with any order

Only sixteen of the 49 have a rank, so no correlation over all 49 is taken. A p value is the share of random
rearrangements that reach the measured value at least, the measured one included; one-sided, since the paper says which
way. Where the ceiling lies below the correlation that would be significant, the experiment is too noisy to tell.

Source: Qin et al. 2021 (FcaNet), section 4.2; Sun et al. 2021 (FANet), section 4.3, Table 1. Cronbach, "Coefficient
alpha and the internal structure of tests", Psychometrika 16 (1951) 297-334.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy import stats

from emseg.errors import UsageError
from emseg.frequency.dct import PARTS, TOP16

Frequency = tuple[int, int]
Accuracy = Float64[np.ndarray, "frequency seed"]

N_REARRANGEMENTS = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Tested:
    """A statistic with the share `p` of random rearrangements that reach it, over a sample of `n`."""

    value: float
    p: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its confidence interval (Student's t) over `n` pairs."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The two ends."""
        return self.low, self.high


def frequency_grid(step: int = 1) -> tuple[Frequency, ...]:
    """Return the pairs (h, w) with h and w in 0, step, 2 step, ... below 7, row by row."""
    if not 1 <= step < PARTS:
        raise UsageError(f"`step` must be from 1, all 49 frequencies, to {PARTS - 1}; got {step}.")
    axis = range(0, PARTS, step)
    return tuple((h, w) for h in axis for w in axis)


def table1_ranks(frequencies: Sequence[Frequency]) -> NDArray[np.int64]:
    """Return the place of each frequency in Table 1, 1 for the best, and 0 for those it does not list."""
    return np.array([TOP16.index(pair) + 1 if pair in TOP16 else 0 for pair in frequencies], dtype=np.int64)


def order_correlation(frequencies: Sequence[Frequency], accuracy: Accuracy, *, seed: int) -> Tested:
    """Return Spearman's correlation of Table 1's order with the mean accuracy, over the frequencies that it lists.

    1 where a better place always means a better accuracy.
    """
    ranks = table1_ranks(frequencies)
    listed = ranks > 0
    merit, means = _standard_ranks(-ranks[listed]), _standard_ranks(accuracy[listed].mean(axis=1))
    return _rearranged(lambda orders: merit[orders] @ means, len(means), seed)


def listed_advantage(frequencies: Sequence[Frequency], accuracy: Accuracy, *, seed: int) -> Tested:
    """Return by how much the frequencies of Table 1 are more accurate than the others, mean minus mean."""
    listed = table1_ranks(frequencies) > 0
    if listed.all() or not listed.any():
        raise UsageError("the frequencies must hold some that Table 1 lists and some that it does not.")
    means = accuracy.mean(axis=1)
    weights = np.where(listed, 1 / listed.sum(), -1 / (~listed).sum())
    return _rearranged(lambda orders: weights[orders] @ means, len(means), seed)


def reliability(accuracy: Accuracy) -> float:
    """Return the share of the variance of the frequencies' seed means that is no seed noise, from 0 to 1."""
    n_frequencies, n_seeds = accuracy.shape
    if n_frequencies < 2 or n_seeds < 2:
        raise UsageError(f"reliability needs at least 2 frequencies and 2 seeds; got {n_frequencies} and {n_seeds}.")
    rows, columns = accuracy.mean(axis=1, keepdims=True), accuracy.mean(axis=0, keepdims=True)
    residual = accuracy - rows - columns + accuracy.mean()
    between = n_seeds * rows.var(ddof=1)
    within = np.square(residual).sum() / ((n_frequencies - 1) * (n_seeds - 1))
    return float(np.clip(1 - within / between, 0, 1)) if between > 0 else 0.0


def frequencies_differ(accuracy: Accuracy, *, seed: int) -> Tested:
    """Return the reliability, and how often accuracies shuffled within each seed reach it."""
    rng = np.random.default_rng(seed)
    measured = reliability(accuracy)
    shuffled = [reliability(rng.permuted(accuracy, axis=0)) for _ in range(N_REARRANGEMENTS // 10)]
    return Tested(measured, _share(np.array(shuffled), measured), accuracy.shape[0])


def significant_correlation(n: int, level: float = 0.05) -> float:
    """Return the smallest Spearman correlation over `n` ranks that is significant, one-sided, by Student's t; 1 at
    most.
    """
    if n < 3:
        return 1.0
    t = stats.t.ppf(1 - level, n - 2)
    return float(t / np.sqrt(n - 2 + t * t))


def mirror_gap(frequencies: Sequence[Frequency], accuracy: Accuracy) -> float:
    """Return the standard deviation of a - a' over pairs (h, w), (w, h) with h < w, by sqrt(2).

    Where the data look alike when rows and columns are exchanged, so must the accuracies, and the number is the noise
    of one mean.
    """
    means = dict(zip(frequencies, accuracy.mean(axis=1), strict=True))
    gaps = [means[h, w] - means[w, h] for h, w in frequencies if h < w and (w, h) in means]
    if not gaps:
        raise UsageError("no pair (h, w), (w, h) is among the frequencies.")
    return float(np.sqrt(np.mean(np.square(gaps)) / 2))


def mirror_ceiling(frequencies: Sequence[Frequency]) -> float:
    """Return how well an order that treats (h, w) and (w, h) alike can agree with Table 1's, by Spearman.

    The mean place of both stands for each; where one of the two has no place, the other keeps its own.
    """
    ranks = dict(zip(frequencies, table1_ranks(frequencies).tolist(), strict=True))
    listed = [pair for pair in frequencies if ranks[pair]]
    mirrored = [ranks.get((w, h)) or ranks[h, w] for h, w in listed]
    own = np.array([ranks[pair] for pair in listed], dtype=np.float64)
    return spearman(own, (own + np.array(mirrored)) / 2)


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one of the two is constant."""
    return float(_standard_ranks(a) @ _standard_ranks(b))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return the mean of a - b with its 95 % interval; the pairs are networks of one seed."""
    gaps = np.subtract(a, b)
    if gaps.ndim != 1 or len(gaps) < 2:
        raise UsageError(f"an interval needs at least 2 pairs; got {gaps.size}. Use more seeds.")
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Difference(float(gaps.mean()), float(gaps.mean() - half), float(gaps.mean() + half), len(gaps))


def effective_dimension(description: Float64[np.ndarray, "image channel"]) -> float:
    """Return how many independent numbers a description holds: (sum l)^2 / sum l^2 of its correlation matrix.

    `l` are the eigenvalues; 1 where all channels say the same, as many as channels where none tells of another.
    Channels that do not vary are left out.
    """
    varying = description[:, description.std(axis=0) > 0]
    if len(varying) < 2 or varying.shape[1] < 2:
        raise UsageError("an effective dimension needs at least 2 images and 2 channels that vary.")
    correlation = np.corrcoef(varying, rowvar=False)
    return float(np.trace(correlation) ** 2 / np.square(correlation).sum())


def _standard_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks with mean 0 and sum of squares 1, so that a product of two is Spearman's correlation."""
    ranks = stats.rankdata(values) - (len(values) + 1) / 2
    length = np.sqrt(ranks @ ranks)
    return np.asarray(ranks / length if length > 0 else ranks, dtype=np.float64)


def _rearranged(statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, seed: int) -> Tested:
    """Return the statistic of the order as it is; `statistic` takes orders [order, n] and gives a number for each."""
    as_it_is = np.arange(n)[None]
    measured = float(statistic(as_it_is)[0])
    orders = np.random.default_rng(seed).permuted(np.repeat(as_it_is, N_REARRANGEMENTS, axis=0), axis=1)
    return Tested(measured, _share(statistic(orders), measured), n)


def _share(rearranged: NDArray[np.float64], measured: float) -> float:
    return float((1 + (rearranged >= measured - 1e-12).sum()) / (1 + len(rearranged)))
