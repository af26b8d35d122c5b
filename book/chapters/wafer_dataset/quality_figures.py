"""The figures of the experiments on section quality: crops, the heat map of single frequencies, the attentions."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from chapters.channel_attention.single_frequency import Accuracy, Frequency, table1_ranks
from chapters.wafer_dataset.quality_experiment import LABELS
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.frequency.dct import PARTS
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES, CropSet

SEED_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_crops(crops: CropSet, n_each: int = 5) -> Figure:
    """Draw the first crops of each class, a row a class."""
    n_classes = len(SECTION_CLASSES)
    figure, grid = plt.subplots(n_classes, n_each, figsize=(PAGE_WIDTH_IN, 1.38 * n_classes + 0.2), squeeze=False)
    for label, axes in enumerate(grid):
        for axis, image in zip(axes, crops.images[crops.labels == label], strict=False):
            show_image(axis, image, crops.pixel_size_nm if axis is grid[-1, 0] else None, grey_range=(0, 255))
        axes[0].set_title(SECTION_CLASSES[label], loc="left")
    return figure


def plot_heat_map(frequencies: Sequence[Frequency], accuracy: Accuracy) -> Figure:
    """Draw accuracy minus that of (0, 0) for each frequency, the spread over seeds beside it; untried cells stay white.

    Framed and numbered: the frequencies of Table 1 and their places in it.
    """
    means = accuracy.mean(axis=1)
    points = 100 * (means - means[list(frequencies).index((0, 0))])
    spread = 100 * accuracy.std(axis=1, ddof=1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.7), sharey=True)
    bound = float(np.abs(points).max()) or 1.0
    most = max(bound, float(spread.max()))
    panels = (
        (left, points, "accuracy minus that of (0,0)", "points", {"cmap": "RdBu", "vmin": -bound, "vmax": bound}),
        (right, spread, "spread over seeds", "points", {"cmap": "YlOrBr", "vmin": 0.0, "vmax": most}),
    )
    for axis, values, title, unit, look in panels:
        plane = np.full((PARTS, PARTS), np.nan)
        for (h, w), value in zip(frequencies, values, strict=True):
            plane[h, w] = value
        shown = axis.imshow(plane, **look)
        for (h, w), value in zip(frequencies, values, strict=True):
            dark = abs(value) > 0.65 * float(values.max() if axis is right else bound)
            text = f"{value:+.1f}" if axis is left else f"{value:.1f}"
            axis.text(
                w,
                h,
                text.replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
        _frame_listed(axis)
        axis.set_title(title)
        axis.set_xlabel("w (across)")
        axis.spines[:].set_visible(False)
        figure.colorbar(shown, ax=axis, label=unit, shrink=0.75)
    left.set_ylabel("h (down)")
    return figure


def _frame_listed(axis: Axes) -> None:
    every = [(h, w) for h in range(PARTS) for w in range(PARTS)]
    for (h, w), rank in zip(every, table1_ranks(every), strict=True):
        if rank:
            axis.add_patch(Rectangle((w - 0.46, h - 0.46), 0.92, 0.92, fill=False, edgecolor="black", lw=0.9))
            axis.text(w - 0.42, h - 0.26, str(rank), fontsize=5, color="black")


def plot_order(frequencies: Sequence[Frequency], accuracy: Accuracy) -> Figure:
    """Draw accuracy against the place in Table 1, each seed and the mean; frequencies without a place at the right."""
    ranks = table1_ranks(frequencies)
    places = np.where(ranks > 0, ranks, 18 + 4 * _spread_out(ranks == 0)).astype(np.float64)
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.2))
    axis.axvspan(17, 23, color=COLOURS["grey"], alpha=0.10, lw=0)
    for number, values in enumerate(accuracy.T):
        axis.plot(
            places, 100 * values, SEED_MARKERS[number % len(SEED_MARKERS)], ms=3.5, color=COLOURS["sky"], alpha=0.8
        )
    axis.plot(places, 100 * accuracy.mean(axis=1), "_", ms=13, mew=2, color=COLOURS["blue"], label="mean over seeds")
    for listed, ends in ((ranks > 0, (0.5, 16.5)), (ranks == 0, (17.3, 22.7))):
        label = "mean of the group" if ends[0] < 1 else ""
        axis.hlines(100 * accuracy[listed].mean(), *ends, color=COLOURS["vermilion"], lw=1.2, label=label)
    axis.set_xticks([1, 4, 8, 12, 16, 20], labels=["1", "4", "8", "12", "16", "not listed"])
    axis.set_xlabel("place in Table 1")
    axis.set_ylabel("held-out accuracy (%)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _spread_out(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return places from 0 to 1 for the chosen, in order."""
    place = np.cumsum(chosen) - 1.0
    return np.asarray(place / max(1.0, place.max()))


def plot_comparison(compared: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the accuracy of each attention, a line for each seed, with the means."""
    names = list(compared)
    values = 100 * np.array([compared[name] for name in names])
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.2))
    rows = np.arange(len(names))
    for number, column in enumerate(values.T):
        marker = SEED_MARKERS[number % len(SEED_MARKERS)]
        axis.plot(column, rows, "-" + marker, ms=4, lw=0.7, color=COLOURS["grey"], alpha=0.7, label=f"seed {number}")
    axis.plot(values.mean(axis=1), rows, "|", ms=18, mew=2.5, color=COLOURS["vermilion"], ls="none", label="mean")
    axis.set_yticks(rows, labels=[LABELS[name] for name in names])
    axis.invert_yaxis()
    axis.set_xlabel("held-out accuracy (%)")
    axis.grid(axis="x", color="#DDDDDD", lw=0.6)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
