"""The figures of the data chapter: a wafer with an enlarged part, situations, classes, sizes, and what was seen.

Pictures have a bar in micrometres where the side of a pixel is known, in pixels where it is not.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from chapters.wafer_dataset.dataset_statistics import LARGE_SIDE_PX, SMALL_SIDE_PX, TileStatistics
from chapters.wafer_dataset.leak_statistics import expected_leak
from chapters.wafer_dataset.wafer_scenes import Scene, Window, sections_by_class, window_about
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, round_length_nm
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer import SyntheticWafer
from emseg.wafer.section_figures import class_colours, draw_outlines
from emseg.wafer.splits import PixelLeak
from emseg.wafer.tiles import TilePlace

SITUATION_TITLES = {
    "knife": "(a) after a knife change",
    "fold": "(b) fold, stuck to good",
    "damaged": "(c) damaged",
    "dust": "(d) dust",
    "stuck": "(e) stuck together",
}
SPLIT_COLOURS = {"crops": "vermilion", "region": "sky", "wafer": "green"}
ROI_SHARE = 0.4  # of a section's side

Image = UInt8[np.ndarray, "row column"]


def plot_wafer_zoom(image: Image, sections: WaferSections, window: Window) -> Figure:
    """Draw (a) a whole wafer, (b) a window of it with the outlines of its sections and regions to image.

    Each good section has a region, a rectangle about its centre that is turned with it; where the classes are not told
    apart, every section has one.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.8))
    _show(left, image, Window(0, 0, max(image.shape)), None, bar=False)
    left.add_patch(
        Rectangle((window.column, window.row), window.side, window.side, fill=False, ec=COLOURS["sky"], lw=2.0)
    )
    size = sections.pixel_size_um
    wide = f"{sections.width} px" if size is None else f"{sections.width * size / 1000:.1f} mm"
    left.set_title(f"(a) {wide} wide", loc="left")
    _show(right, image, window, sections.pixel_size_um)
    outlines = [(section.polygon, section.label) for section in sections.sections]
    draw_outlines(right, outlines, sections.class_names, width=1.1)
    wanted = [section for section in sections.sections if section.label == sections.class_names[0]]
    regions = [region for section in wanted if (region := _region(section)) is not None]
    if regions:
        drawn = PolyCollection(regions, facecolors="none", edgecolors="red", linewidths=1.4)
        right.add_collection(drawn, autolim=False)
    right.set_title("(b)", loc="left")
    colours = class_colours(sections.class_names)
    handles = [Line2D([], [], color=colours[name], label=name) for name in sections.class_names]
    handles += [Line2D([], [], color="red", label="region to image")] if regions else []
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def plot_scenes(wafers: Sequence[SyntheticWafer], scenes: Mapping[str, Scene]) -> Figure:
    """Draw the situations of the paper's Fig. 2 that were found, with outlines of all sections that are not good."""
    figure, grid = plt.subplots(2, 3, figsize=(PAGE_WIDTH_IN, 5.0))
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (situation, title) in zip(grid.flat, SITUATION_TITLES.items(), strict=False):
        ax.set_title(title, loc="left")
        if situation not in scenes:
            ax.text(0.5, 0.5, "not on these wafers", ha="center", va="center", transform=ax.transAxes)
            continue
        scene = scenes[situation]
        truth = wafers[scene.wafer].truth
        _show(ax, wafers[scene.wafer].image, scene.window, truth.pixel_size_um)
        outlines = [(one.polygon, one.label) for one in truth.sections if one.label != truth.class_names[0]]
        draw_outlines(ax, outlines, truth.class_names, width=1.1)
    names = wafers[0].truth.class_names
    colours = class_colours(names)
    handles = [Line2D([], [], color=colours[name], label=name) for name in names[1:]]
    handles.append(Line2D([], [], ls="none", label=f"{names[0]}: no outline"))
    grid.flat[-1].legend(handles=handles, loc="center")
    return figure


def plot_classes(wafers: Sequence[SyntheticWafer], n_each: int = 2) -> Figure:
    """Draw sections of each class, a column a class; `n_each` rows for each wafer, under the name of its tissue."""
    names = wafers[0].truth.class_names
    n_rows = n_each * len(wafers)
    figure, grid = plt.subplots(n_rows, len(names), figsize=(PAGE_WIDTH_IN, 1.72 * n_rows + 0.2), squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for number, wafer in enumerate(wafers):
        chosen = sections_by_class(wafer.truth, n_each)
        rows = grid[number * n_each : (number + 1) * n_each]
        side = 1.35 * wafer.design.section_length_px
        for column, name in enumerate(names):
            for ax, place in zip(rows[:, column], chosen[name], strict=False):
                center = wafer.truth.sections[place].center
                window = window_about(center, side, wafer.truth.height, wafer.truth.width)
                _show(ax, wafer.image, window, wafer.truth.pixel_size_um, bar=column == 0 and ax is rows[-1, 0])
            if number == 0:
                grid[0, column].set_title(name)
        tissue = {"scn": "SCN", "zebrafish": "zebrafish"}[wafer.design.tissue]
        for ax in rows[:, 0]:
            ax.text(-0.06, 0.5, tissue, transform=ax.transAxes, rotation=90, ha="right", va="center")
    return figure


def plot_sizes(sets: Mapping[str, TileStatistics]) -> Figure:
    """Draw how large the sections on each set of tiles are, stacked by class, with COCO's borders."""
    n_columns = min(len(sets), 2)
    n_rows = math.ceil(len(sets) / n_columns)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=(PAGE_WIDTH_IN, 2.7 * n_rows + 0.3), squeeze=False)
    longest = max(float(one.sides_px.max()) for one in sets.values())
    shortest = min(float(one.sides_px.min()) for one in sets.values())
    edges = np.geomspace(min(shortest, 16.0), max(longest, 128.0), 41)
    names = tuple(dict.fromkeys(name for one in sets.values() for name in one.class_names))
    colours = class_colours(names)
    for ax in grid.flat[len(sets) :]:
        ax.set_axis_off()
    for ax, (title, one) in zip(grid.flat, sets.items(), strict=False):
        groups = [one.sides_px[np.array(one.labels) == name] for name in names]
        ax.hist(groups, bins=list(edges), stacked=True, color=[colours[name] for name in names])
        for border in (SMALL_SIDE_PX, LARGE_SIDE_PX):
            ax.axvline(border, color="black", lw=1.0, ls="--")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_title(title, loc="left")
        ax.set_xlabel("side of a square of the section's area (px)")
        _write_sizes(ax, (edges[0], edges[-1]))
    for ax in grid[:, 0]:
        ax.set_ylabel("sections")
    handles = [Patch(color=colours[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def typical_place(leak: PixelLeak) -> int:
    """Return which validation tile's leak is nearest to the mean; of several the first."""
    return int(np.argmin(np.abs(leak.shares - leak.mean)))


def plot_seen(image: Image, tile: TilePlace, train: Sequence[TilePlace], share: float) -> Figure:
    """Draw a validation tile, and beside it where the training tiles around it lie, with their pixels of it shaded."""
    if image.shape != (tile.height, tile.width):
        raise UsageError(f"the image must be the tile's; got {image.shape} for {tile.height} x {tile.width} px.")
    near = [
        other
        for other in train
        if other.wafer == tile.wafer
        and abs(other.row - tile.row) < max(tile.height, other.height)
        and abs(other.column - tile.column) < max(tile.width, other.width)
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.8))
    for ax in (left, right):
        extent = (tile.column, tile.column + tile.width, tile.row + tile.height, tile.row)
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
        ax.set_axis_off()
    left.set_title("validation tile", loc="left")
    _add_bar(left, tile.column, tile.row + tile.height, tile.width, None)
    seen = np.zeros(image.shape, dtype=bool)
    for other in near:
        rows = slice(max(other.row - tile.row, 0), max(other.row + other.height - tile.row, 0))
        columns = slice(max(other.column - tile.column, 0), max(other.column + other.width - tile.column, 0))
        seen[rows, columns] = True
        right.add_patch(
            Rectangle((other.column, other.row), other.width, other.height, fill=False, ec=COLOURS["orange"], lw=1.2)
        )
    shade = np.zeros((*image.shape, 4))
    shade[seen] = (*(int(COLOURS["orange"][k : k + 2], 16) / 255 for k in (1, 3, 5)), 0.5)
    right.imshow(shade, extent=extent)
    right.add_patch(Rectangle((tile.column, tile.row), tile.width, tile.height, fill=False, ec=COLOURS["blue"], lw=2.0))
    margin = 0.35 * tile.width
    right.set_xlim(tile.column - margin, tile.column + tile.width + margin)
    right.set_ylim(tile.row + tile.height + margin, tile.row - margin)
    right.set_title(f"{share:.0%} of it was trained on", loc="left")
    handles = [
        Line2D([], [], color=COLOURS["blue"], label="validation tile"),
        Line2D([], [], color=COLOURS["orange"], label="training tiles"),
        Patch(color=COLOURS["orange"], alpha=0.5, label="trained on"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def plot_leak(
    leaks: Mapping[str, PixelLeak], by_overlap: Mapping[float, PixelLeak], train_share: float, overlap: float
) -> Figure:
    """Draw the leak of a benchmark's splits over validation tiles, and how it grows with the tiles' overlap.

    `by_overlap` holds random splits of planned wafers; the line is `expected_leak` and `overlap` is the paper's.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.3))
    most = max(float(leak.shares.max()) for leak in leaks.values())
    left.hist(
        [100 * leak.shares for leak in leaks.values()],
        bins=list(np.linspace(0.0, 100 * max(most, 0.05), 13)),
        weights=[np.full(len(leak.shares), 100 / len(leak.shares)) for leak in leaks.values()],
        color=[COLOURS[SPLIT_COLOURS[split]] for split in leaks],
        label=[f"split by {split}: mean {leak.mean:.1%}" for split, leak in leaks.items()],
    )
    left.set_xlabel("pixels of a validation tile that were trained on (%)")
    left.set_ylabel("validation tiles (%)")
    left.legend(loc="upper right")
    overlaps = sorted(by_overlap)
    line = np.linspace(0.0, min(max(overlaps), 0.5), 101)
    right.plot(
        100 * line,
        [100 * expected_leak(float(one), train_share) for one in line],
        color=COLOURS["grey"],
        lw=1.2,
        label="tile with eight neighbours",
    )
    quartiles = np.array([np.quantile(by_overlap[one].shares, (0.25, 0.75)) for one in overlaps]).T
    places = [100 * one for one in overlaps]
    right.vlines(
        places, *(100 * quartiles), color=COLOURS["vermilion"], lw=3.5, alpha=0.4, label="middle half of the tiles"
    )
    means = [100 * by_overlap[one].mean for one in overlaps]
    right.plot(places, means, "o", ms=5, color=COLOURS["vermilion"], label="mean of whole wafers")
    right.axvline(100 * overlap, color="black", lw=0.8, ls=":")
    right.text(100 * overlap + 0.5, 0.02, "the paper's", transform=right.get_xaxis_transform(), fontsize=8)
    right.set_ylim(0, 100)
    right.set_xlabel("overlap of neighbouring tiles (% of a side)")
    right.set_ylabel("pixels trained on (%)")
    right.legend(loc="upper left")
    return figure


def _show(ax: Axes, image: Image, window: Window, pixel_size_um: float | None, *, bar: bool = True) -> None:
    """Draw a window of an image in the wafer's own coordinates."""
    pixels = window.of(image)
    height, width = pixels.shape
    low, high = np.percentile(image[:: max(image.shape[0] // 512, 1), :: max(image.shape[1] // 512, 1)], (0.5, 99.5))
    extent = (window.column, window.column + width, window.row + height, window.row)
    ax.imshow(pixels, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="antialiased")
    ax.set_xlim(extent[:2])
    ax.set_ylim(extent[2:])
    ax.set_axis_off()
    if bar:
        _add_bar(ax, window.column, window.row + height, width, pixel_size_um)


def _add_bar(ax: Axes, left: float, bottom: float, width: float, pixel_size_um: float | None) -> None:
    """Draw a bar of a round length at the bottom left of a picture that begins at column `left`."""
    length = round_length_nm(0.25 * width * (pixel_size_um or 1.0))
    length_px = length / (pixel_size_um or 1.0)
    height, margin = width / 80, width / 25
    ax.add_patch(
        Rectangle((left + margin, bottom - margin - height), length_px, height, fc="white", ec="black", lw=0.6)
    )
    ax.text(
        left + margin + length_px / 2,
        bottom - margin - 1.8 * height,
        f"{length:g} {'px' if pixel_size_um is None else 'µm'}",
        ha="center",
        va="bottom",
        fontsize=7,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
    )


def _region(section: Section) -> Float64[np.ndarray, "4 2"] | None:
    """Return the corners (x, y) of the region to image, None where the section's angle is not known."""
    if section.angle_deg is None:
        return None
    along = np.array([math.cos(math.radians(section.angle_deg)), math.sin(math.radians(section.angle_deg))])
    across = np.array([-along[1], along[0]])
    offsets = section.polygon - section.center
    half = [0.5 * ROI_SHARE * float(np.ptp(offsets @ axis)) for axis in (along, across)]
    corners = [a * half[0] * along + b * half[1] * across for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    return (np.array(corners) + section.center)[:, ::-1]


def _write_sizes(ax: Axes, limits: tuple[float, float]) -> None:
    """Write small, medium and large above the parts of the axis."""
    ax.set_xlim(limits)
    ax.margins(y=0.15)
    borders = (limits[0], SMALL_SIDE_PX, LARGE_SIDE_PX, limits[1])
    for name, low, high in zip(("small", "medium", "large"), borders, borders[1:], strict=False):
        ax.text(math.sqrt(low * high), 1.0, name, transform=ax.get_xaxis_transform(), ha="center", va="top", fontsize=8)
