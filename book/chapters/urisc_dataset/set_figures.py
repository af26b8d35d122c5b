"""Figures of the data sets: images with their labels, membrane fractions, one tissue on two tracks."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from chapters.urisc_dataset.set_statistics import SetStatistics, paper_fraction
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.membrane.dataset import MembraneImage, Window, grey_of_membrane
from emseg.membrane.dataset.membrane_set import MembraneSet

_KIND_COLOURS = {"synthetic": "blue", "real": "vermilion", "licensed": "purple"}
_JITTER = 0.14


def plot_sets(sets: Sequence[MembraneSet], side_um: float) -> Figure:
    """Draw the centre of one labelled image of each set, `side_um` wide, and its label: black is membrane."""
    figure, grid = plt.subplots(
        2, len(sets), figsize=(PAGE_WIDTH_IN, 2 * PAGE_WIDTH_IN / len(sets) + 0.2), squeeze=False
    )
    for (upper, lower), opened in zip(grid.T, sets, strict=True):
        image = _labelled(opened)
        window = _centre(image, opened.pixel_size_nm, side_um)
        show_image(upper, image.read(window), opened.pixel_size_nm, title=opened.name, grey_range=(0.0, 255.0))
        label = grey_of_membrane(image.read_membrane(window))
        show_image(lower, label, opened.pixel_size_nm, grey_range=(0.0, 255.0))
        _frame(lower, label)
    return figure


def plot_fractions(sets: Sequence[SetStatistics]) -> Figure:
    """Draw the membrane fraction of every labelled image, a column for each set, and the paper's two means."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.0))
    for name, colour in (("U-RISC", "purple"), ("ISBI 2012", "vermilion")):
        mean, sd = paper_fraction(name)
        ax.axhspan(mean - sd, mean + sd, color=COLOURS[colour], alpha=0.15, lw=0)
        ax.axhline(mean, color=COLOURS[colour], lw=1.0, ls="--")
        ax.text(len(sets) - 0.48, mean, f"paper,\n{name}", color=COLOURS[colour], va="center", fontsize=8)
    for place, one in enumerate(sets):
        spread = np.linspace(-_JITTER, _JITTER, len(one.fractions)) if len(one.fractions) > 1 else np.zeros(1)
        colour = COLOURS[_KIND_COLOURS[one.kind]]
        ax.plot(place + spread, one.fractions, "o", ms=4, mfc="none", color=colour)
        ax.plot([place - 0.25, place + 0.25], 2 * [one.fraction], color=colour, lw=2.2)
    ax.set_xticks(range(len(sets)), [_with_kind(one) for one in sets])
    ax.set_xlim(-0.5, len(sets) - 0.5)
    ax.set_ylim(bottom=0.0)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_ylabel("membrane, % of pixels")
    return figure


def plot_tracks(original: MembraneImage, reduced: MembraneImage, pixel_sizes_nm: tuple[float, float]) -> Figure:
    """Draw the same corner of one tissue before and after downsampling, image and label each."""
    side_nm = min(original.width * pixel_sizes_nm[0], reduced.width * pixel_sizes_nm[1])
    figure, axes = plt.subplots(1, 4, figsize=(PAGE_WIDTH_IN, 2.15))
    pairs = ((original, pixel_sizes_nm[0], "Track 1"), (reduced, pixel_sizes_nm[1], "Track 2"))
    for (left, right), (image, pixel_nm, title) in zip((axes[:2], axes[2:]), pairs, strict=True):
        n = min(round(side_nm / pixel_nm), image.width, image.height)
        window = (slice(0, n), slice(0, n))
        show_image(left, image.read(window), pixel_nm, title=f"{title}, {n} px", grey_range=(0.0, 255.0))
        label = grey_of_membrane(image.read_membrane(window))
        show_image(right, label, pixel_nm, title="label", grey_range=(0.0, 255.0))
        _frame(right, label)
    return figure


def _labelled(opened: MembraneSet) -> MembraneImage:
    return next(iter((*opened.labelled_test, *opened.validation, *opened.train)))


def _centre(image: MembraneImage, pixel_size_nm: float | None, side_um: float) -> Window:
    most = min(image.height, image.width)
    side = most if pixel_size_nm is None else min(round(1000 * side_um / pixel_size_nm), most)
    top, left = (image.height - side) // 2, (image.width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _frame(ax: Axes, image: NDArray[Any]) -> None:
    height, width = image.shape
    frame = Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=COLOURS["grey"], lw=0.8)
    ax.add_patch(frame)


def _with_kind(one: SetStatistics) -> str:
    return one.name.replace(" ", "\n", 1) if one.kind in one.name else f"{one.name}\n({one.kind})"
