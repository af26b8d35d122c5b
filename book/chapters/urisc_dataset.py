"""The chapter `urisc_dataset`: what a set of micrographs contains, as a table, figures and metrics.

    membrane fraction p = membrane pixels / pixels, per image
    imbalance = (1 - p) / p, background pixels for each pixel of membrane
    F1 of calling everything membrane = 2 p / (1 + p)

Images are read in bands, so a set may be larger than memory. `line_width_px` explains how the width is measured.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.membrane.dataset import MembraneImage, MembraneSet, Window, grey_of_membrane
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import format_number

BAND_ROWS = 2048
_THIN_PX = 6.0
_PAPER_SETS = ("U-RISC", "ISBI 2012")
_KIND_COLOURS = {"synthetic": "blue", "real": "vermilion", "licensed": "purple"}


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """A set in numbers; `fractions` and `widths_px` have an entry for each labelled image of its three parts."""

    name: str
    kind: str
    pixel_size_nm: float | None
    n_images: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    fractions: NDArray[np.float64]
    widths_px: NDArray[np.float64]

    @property
    def fraction(self) -> float:
        """Mean membrane fraction over labelled images."""
        return float(self.fractions.mean())

    @property
    def fraction_sd(self) -> float:
        """Its standard deviation over images (n - 1); NaN for one image."""
        return float(self.fractions.std(ddof=1)) if len(self.fractions) > 1 else math.nan

    @property
    def imbalance(self) -> float:
        """Background pixels for each pixel of membrane, at the mean fraction; infinite without membrane."""
        return (1 - self.fraction) / self.fraction if self.fraction else math.inf

    @property
    def f1_of_all_membrane(self) -> float:
        """Mean F1 of a prediction that calls every pixel membrane."""
        return float((2 * self.fractions / (1 + self.fractions)).mean())

    @property
    def f1_of_all_background(self) -> float:
        """Mean F1 of the background class for a prediction that calls every pixel background."""
        return float((2 * (1 - self.fractions) / (2 - self.fractions)).mean())

    @property
    def width_px(self) -> float:
        """Mean width of the lines in px, over images that have any."""
        known = self.widths_px[np.isfinite(self.widths_px)]
        return float(known.mean()) if len(known) else math.nan


def set_statistics(opened: MembraneSet) -> SetStatistics:
    """Return the statistics of a set; raise `InputError` if none of its images is labelled."""
    images = [image for part in opened.parts.values() for image in part]
    measured = np.array([measure_membrane(image) for image in images if image.labelled])
    if not len(measured):
        raise InputError(f"{opened.name} has no labelled image, so nothing can be counted. Add labels.")
    counts = tuple(len(part) for part in opened.parts.values())
    sizes = tuple(sorted({(image.height, image.width) for image in images}))
    return SetStatistics(opened.name, opened.kind, opened.pixel_size_nm, counts, sizes, measured[:, 0], measured[:, 1])


def measure_membrane(image: MembraneImage) -> tuple[float, float]:
    """Return the membrane fraction of an image and the mean width of its lines in px, NaN without any."""
    starts = range(0, image.height, BAND_ROWS)
    windows = [(slice(start, min(start + BAND_ROWS, image.height)), slice(0, image.width)) for start in starts]
    packed = [np.packbits(image.read_membrane(window), axis=1) for window in windows]  # to be read three times

    def bands() -> Iterator[NDArray[np.bool_]]:
        return (np.unpackbits(band, axis=1, count=image.width).astype(np.bool_) for band in packed)

    n = sum(int(np.count_nonzero(band)) for band in bands())
    return n / (image.height * image.width), _width(bands, n)


def line_width_px(membrane: NDArray[np.bool_]) -> float:
    """Return the mean width of the lines of a mask, in px; NaN without any.

    Across a line of w px, w even, the distance to the background rises from 1 to w/2 and falls again, w/4 + 1/2 on
    average; so w = 4 (mean - 1/2). For odd w that is 1/w too much, so lines that seem thinner than 6 px are measured
    again on pixels of half the side.
    """
    return _width(lambda: iter([membrane]), int(np.count_nonzero(membrane)))


def _width(bands: Callable[[], Iterator[NDArray[np.bool_]]], n: int) -> float:
    if not n:
        return math.nan
    width = 4.0 * (sum(_distance_sum(band) for band in bands()) / n - 0.5)
    if width >= _THIN_PX:
        return width
    halved = (np.repeat(np.repeat(band, 2, axis=0), 2, axis=1) for band in bands())
    return 2.0 * (sum(_distance_sum(band) for band in halved) / (4 * n) - 0.5)


def _distance_sum(membrane: NDArray[np.bool_]) -> float:
    distance = cv2.distanceTransform(membrane.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.asarray(distance).sum(dtype=np.float64))


def statistics_table(sets: Sequence[SetStatistics]) -> DisplayTable:
    """Return Figure 2 of the paper as a table: our sets, and in the last two columns the paper's values."""
    labels = (
        "Data", "Images: train, validation, test", "Size, px", "Pixel size, nm", "Side of an image, µm",
        "Membrane, % of pixels", "Lines, px wide", "Lines, nm wide", "Background pixels to one of membrane",
        "F1 of calling everything membrane",
    )  # fmt: skip
    columns = [_column(one) for one in sets] + [_paper_column(name) for name in _PAPER_SETS]
    return DisplayTable(
        caption="The sets in numbers, means ± standard deviations over images. Last two columns: what the paper says.",
        header=("", *(one.name for one in sets), *(f"paper: {name}" for name in _PAPER_SETS)),
        rows=tuple(tuple(map(Shown, row)) for row in zip(labels, *columns, strict=True)),
        css_class="emseg-metrics",
        row_ids=tuple(f"set-{number}" for number in range(len(labels))),
    )


def _column(one: SetStatistics) -> list[str]:
    nm = math.nan if one.pixel_size_nm is None else one.pixel_size_nm
    return [
        one.kind,
        ", ".join(map(str, one.n_images)),
        _sizes(one.sizes),
        _number(nm),
        _number(one.sizes[0][0] * nm / 1000),
        _percent(one.fraction, one.fraction_sd),
        _number(one.width_px),
        _number(one.width_px * nm),
        _number(one.imbalance),
        _number(one.f1_of_all_membrane),
    ]


def _paper_column(name: str) -> list[str]:
    reported = load_reported("urisc")

    def values(quantity: str) -> list[float]:
        rows = select_reported(reported, quantity, dataset=name)
        return [row.value for row in rows if row.value is not None and not row.about("track")]

    (n_images,), (nm,), sides = values("n_images"), values("pixel_size"), values("image_side")
    fraction, sd = paper_fraction(name)
    return [
        "licensed" if name == "U-RISC" else "real",
        f"{n_images:,.0f} together",
        _sizes([(int(sides[0]), int(sides[-1]))]),
        _number(nm),
        _number(sides[0] * nm / 1000),
        _percent(fraction, sd),
        "not stated",
        "not stated",
        _number((1 - fraction) / fraction),
        _number(2 * fraction / (1 + fraction)),
    ]


def paper_fraction(dataset: str) -> tuple[float, float]:
    """Return the membrane fraction that the paper gives for "U-RISC" or "ISBI 2012", and its standard deviation."""
    row = next(iter(select_reported(load_reported("urisc"), "membrane_fraction", dataset=dataset)))
    if row.value is None or row.sd is None:
        raise InputError(f"the paper's membrane fraction of {dataset} must be a number with its deviation.")
    return row.value / 100, row.sd / 100


def report_set(run: Run, prefix: str, one: SetStatistics) -> None:
    """Record the statistics of a set in a run; metric names begin with `prefix`."""
    sd = None if math.isnan(one.fraction_sd) else one.fraction_sd
    width_nm = math.nan if one.pixel_size_nm is None else one.width_px * one.pixel_size_nm
    for name, value, label, more in (
        ("membrane_fraction", one.fraction, "Membrane fraction", {"spread": sd}),
        ("f1_of_all_membrane", one.f1_of_all_membrane, "F1 of all membrane", {}),
        ("f1_of_all_background", one.f1_of_all_background, "F1 of all background", {}),
        ("imbalance", one.imbalance, "Background to membrane", {}),
        ("line_width_px", one.width_px, "Width of lines", {"unit": "px"}),
        ("line_width_nm", width_nm, "Width of lines", {"unit": "nm"}),
    ):
        if math.isfinite(value):
            options: dict[str, Any] = more
            run.metric(f"{prefix}_{name}", value, n=len(one.fractions), label=f"{label}, {one.name}", **options)


def plot_sets(sets: Sequence[MembraneSet], side_um: float) -> Figure:
    """Draw the centre of one labelled image of each set, `side_um` wide, and its label: black is membrane."""
    figure, grid = plt.subplots(
        2, len(sets), figsize=(PAGE_WIDTH_IN, 2 * PAGE_WIDTH_IN / len(sets) + 0.2), squeeze=False
    )
    for axes, opened in zip(grid.T, sets, strict=True):
        image, nm = next(iter((*opened.labelled_test, *opened.validation, *opened.train))), opened.pixel_size_nm
        most = min(image.height, image.width)
        side = most if nm is None else min(round(1000 * side_um / nm), most)
        top, left = (image.height - side) // 2, (image.width - side) // 2
        _show_pair(axes, image, (slice(top, top + side), slice(left, left + side)), nm, opened.name, "")
    return figure


def plot_tracks(original: MembraneImage, reduced: MembraneImage, pixel_sizes_nm: tuple[float, float]) -> Figure:
    """Draw the same corner of one tissue before and after downsampling, image and label each."""
    side_nm = min(original.width * pixel_sizes_nm[0], reduced.width * pixel_sizes_nm[1])
    figure, axes = plt.subplots(1, 4, figsize=(PAGE_WIDTH_IN, 2.15))
    pairs = ((original, pixel_sizes_nm[0], "Track 1"), (reduced, pixel_sizes_nm[1], "Track 2"))
    for two, (image, nm, title) in zip((axes[:2], axes[2:]), pairs, strict=True):
        n = min(round(side_nm / nm), image.width, image.height)
        _show_pair(two, image, (slice(0, n), slice(0, n)), nm, f"{title}, {n} px", "label")
    return figure


def _show_pair(
    axes: Sequence[Axes], image: MembraneImage, window: Window, nm: float | None, title: str, label_title: str
) -> None:
    show_image(axes[0], image.read(window), nm, title=title, grey_range=(0.0, 255.0))
    label = grey_of_membrane(image.read_membrane(window))
    show_image(axes[1], label, nm, title=label_title, grey_range=(0.0, 255.0))
    height, width = label.shape
    frame = Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=COLOURS["grey"], lw=0.8)
    axes[1].add_patch(frame)


def plot_fractions(sets: Sequence[SetStatistics]) -> Figure:
    """Draw the membrane fraction of every labelled image, a column for each set, and the paper's two means."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.0))
    for name, colour in zip(_PAPER_SETS, ("purple", "vermilion"), strict=True):
        mean, sd = paper_fraction(name)
        ax.axhspan(mean - sd, mean + sd, color=COLOURS[colour], alpha=0.15, lw=0)
        ax.axhline(mean, color=COLOURS[colour], lw=1.0, ls="--")
        ax.text(len(sets) - 0.48, mean, f"paper,\n{name}", color=COLOURS[colour], va="center", fontsize=8)
    names = []
    for place, one in enumerate(sets):
        spread = np.linspace(-0.14, 0.14, len(one.fractions)) if len(one.fractions) > 1 else np.zeros(1)
        colour = COLOURS[_KIND_COLOURS[one.kind]]
        ax.plot(place + spread, one.fractions, "o", ms=4, mfc="none", color=colour)
        ax.plot([place - 0.25, place + 0.25], 2 * [one.fraction], color=colour, lw=2.2)
        names.append(one.name.replace(" ", "\n", 1) if one.kind in one.name else f"{one.name}\n({one.kind})")
    ax.set_xticks(range(len(sets)), names)
    ax.set_xlim(-0.5, len(sets) - 0.5)
    ax.set_ylim(bottom=0.0)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_ylabel("membrane, % of pixels")
    return figure


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{height:,} × {width:,}" for height, width in sizes)


def _number(value: float) -> str:
    return format_number(value, 3) if math.isfinite(value) else "unknown"


def _percent(fraction: float, sd: float) -> str:
    return f"{100 * fraction:.2f}" + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}")
