"""Scores of instance segmentation drawn: confusion of classes, precision and recall, bars beside the paper's, losses.

Scores and shares are in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from chapters.fanet_training.confusion import ConfusionMatrix
from chapters.fanet_training.detection_figures import class_colour
from emseg.errors import UsageError, suggest
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.wafer.scores import METRIC_LABELS, DetectionScores

NOT_RUN = "not run"
PAPER = "the paper"
_PAPER_COLOUR = "#B0B0B0"
_SOURCE_COLOURS = ("blue", "orange", "green", "purple", "sky")


@dataclass(frozen=True)
class ScoreBar:
    """One bar: a score of `method` in percent, from `source` ("the paper", "ours, synthetic, 3 seeds").

    `value` None is a cell that was not run.
    """

    method: str
    source: str
    value: float | None
    interval: tuple[float, float] | None = None


def plot_confusion(matrix: ConfusionMatrix) -> Figure:
    """Draw the counts, coloured by their share of the row: of what a section is, how much is found as what."""
    counts = matrix.counts.astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    shares[-1, -1] = np.nan
    size = 0.62 * len(counts) + 1.6
    figure, ax = plt.subplots(figsize=(min(size + 1.6, PAGE_WIDTH_IN), size))
    shown = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(counts.shape):
        if (row, column) != (len(counts) - 1, len(counts) - 1):
            colour = "white" if shares[row, column] > 55 else "black"
            ax.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour)
    ends = len(counts) - 1.5
    ax.axhline(ends, color=COLOURS["grey"], lw=0.8)
    ax.axvline(ends, color=COLOURS["grey"], lw=0.8)
    ax.set_xticks(range(len(counts)), matrix.column_names, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(counts)), matrix.row_names)
    ax.set_xlabel(f"found as (score {matrix.score:g} or more)")
    ax.set_ylabel(f"is (mask IoU {matrix.iou:g} or more)")
    ax.spines[:].set_visible(False)
    figure.colorbar(shown, ax=ax, label="share of the row (%)", shrink=0.8)
    return figure


def plot_precision_recall(scores: DetectionScores, ious: Sequence[float] = (0.5, 0.75)) -> Figure:
    """Draw interpolated precision against recall, a line a class, a panel an IoU threshold, with average precision."""
    figure, axes = plt.subplots(1, len(ious), figsize=(PAGE_WIDTH_IN, 3.6), sharey=True, squeeze=False)
    for ax, iou in zip(axes[0], ious, strict=True):
        for label, name in enumerate(scores.class_names):
            curve = 100 * scores.precision_at(name, iou)
            if np.isfinite(curve).all():
                text = f"{name}, AP {curve.mean():.1f} %"
                ax.plot(100 * scores.recalls, curve, color=class_colour(label), label=text)
        ax.set_title(f"mask IoU {iou:.2f} or more")
        ax.set_xlabel("recall (%)")
        ax.set_xlim(0, 101)
        ax.set_ylim(0, 103)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes[0, 0].set_ylabel("precision (%)")
    return figure


def plot_score_bars(bars: Sequence[ScoreBar], metric: str = "ap") -> Figure:
    """Draw a metric of several methods as bars, those of one method together, a colour a source, intervals as whiskers.

    The paper's bars are grey; a cell without a value says "not run".
    """
    if not bars:
        raise UsageError("a figure of scores needs at least one bar; got none. Give a row of the paper or of a run.")
    if metric not in METRIC_LABELS:
        known = ", ".join(METRIC_LABELS)
        raise UsageError(f"`metric` must be one of {known}; got {metric!r}.{suggest(metric, METRIC_LABELS)}")
    methods = list(dict.fromkeys(bar.method for bar in bars))
    sources = list(dict.fromkeys(bar.source for bar in bars))
    ours = [source for source in sources if source != PAPER]
    colours = {source: COLOURS[_SOURCE_COLOURS[k % len(_SOURCE_COLOURS)]] for k, source in enumerate(ours)}
    colours[PAPER] = _PAPER_COLOUR
    thickness = 0.8 / len(sources)
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.17 * len(methods) * max(len(sources), 2) + 1.1))
    for bar in bars:
        place = methods.index(bar.method) + (sources.index(bar.source) - (len(sources) - 1) / 2) * thickness
        if bar.value is None:
            ax.text(0.5, place, NOT_RUN, va="center", fontsize=6.5, color=COLOURS["grey"], style="italic")
            continue
        ax.barh(place, bar.value, height=0.92 * thickness, color=colours[bar.source])
        if bar.interval is not None:
            ax.hlines(place, *bar.interval, color="black", lw=1.0)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"mask {METRIC_LABELS[metric]} (%)")
    ax.grid(axis="x", color="#DDDDDD", lw=0.6)
    ax.set_axisbelow(True)
    handles = [Patch(color=colours[source], label=source) for source in sources]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3))
    return figure


def plot_training(losses: Mapping[str, tuple[ArrayLike, ArrayLike]], *, window: int = 25) -> Figure:
    """Draw losses by training step, on a logarithmic axis: each value pale, their moving mean in full colour.

    `losses` gives (steps, values) by name, `window` how many values a mean is over.
    """
    if not losses:
        raise UsageError("a training figure needs at least one loss; got none.")
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.2))
    for number, (name, curve) in enumerate(losses.items()):
        steps, values = (np.asarray(part, dtype=np.float64) for part in curve)
        if steps.ndim != 1 or steps.shape != values.shape or not len(steps):
            raise UsageError(f"each loss needs one value a step; {name!r} has {values.size} for {steps.size} steps.")
        colour = list(COLOURS.values())[number % len(COLOURS)]
        ax.plot(steps, values, color=colour, lw=0.6, alpha=0.3)
        ax.plot(steps, moving_mean(values, window), color=colour, label=name)
    ax.set_xlabel("training step")
    ax.set_ylabel(f"loss, mean over {window} values")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_yscale("log")  # the first steps' losses are many times those of all the others
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def moving_mean(values: ArrayLike, window: int) -> Float64[np.ndarray, "value"]:
    """Return the mean over `window` values about each (one more before than after where even), fewer at the ends."""
    if window < 1:
        raise UsageError(f"`window` must be at least 1; got {window}.")
    given = np.asarray(values, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(given)])
    centres = np.arange(len(given))
    first = np.maximum(centres - window // 2, 0)
    last = np.minimum(centres + (window - 1) // 2 + 1, len(given))
    return np.asarray((sums[last] - sums[first]) / (last - first))
