"""Pictures of wafers and of tiles with the outlines of their sections, a colour for each class.

A wafer larger than the picture is averaged down first; coordinates stay those of the wafer.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from emseg.checks import require_count
from emseg.errors import InputError
from emseg.figures import COLOURS, add_scale_bar
from emseg.images import read_gray
from emseg.sections import WaferSections
from emseg.wafer.formats.benchmark_folder import Benchmark
from emseg.wafer.splits import TRAIN
from emseg.wafer.tiles import require_same_size

WAFER_WIDTH_IN, TILE_WIDTH_IN = 10.0, 2.4
LONGEST_SIDE_PX = 3000
CLASS_COLOURS = ("green", "orange", "sky", "vermilion", "purple", "blue")
_MANY = 150  # sections; more of them get thinner lines

Outline = Float64[np.ndarray, "vertex 2"]


def class_colours(class_names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each class, in their order; a seventh class begins again."""
    return {name: COLOURS[CLASS_COLOURS[place % len(CLASS_COLOURS)]] for place, name in enumerate(class_names)}


def draw_outlines(
    ax: Axes, outlines: Sequence[tuple[Outline, str]], class_names: Sequence[str], *, width: float, dotted: bool = False
) -> None:
    """Draw outlines (row, column) with their classes, lines `width` points wide."""
    colours = class_colours(class_names)
    for name in class_names:
        points = [outline[:, ::-1] for outline, label in outlines if label == name]
        style = ":" if dotted else "-"
        ax.add_collection(
            PolyCollection(points, facecolors="none", edgecolors=colours[name], linewidths=width, linestyles=style),
            autolim=False,
        )


def plot_wafer(image: NDArray[Any], sections: WaferSections, *, width_in: float = WAFER_WIDTH_IN) -> Figure:
    """Return a picture of a whole wafer with its sections, a legend that counts them and a scale bar if possible."""
    require_same_size(image.shape, sections)
    figure, ax = plt.subplots(figsize=(width_in, width_in * sections.height / sections.width + 0.5))
    _draw_image(ax, image)
    outlines = [(part, section.label) for section in sections.sections for part in section.parts]
    draw_outlines(ax, outlines, sections.class_names, width=0.6 if len(sections.sections) > _MANY else 1.2)
    if sections.pixel_size_um is not None:
        add_scale_bar(ax, sections.width, 1000 * sections.pixel_size_um)
    counts = {name: sections.count(name) for name in sections.class_names}
    _add_legend(figure, counts, crowds=0)
    return figure


def plot_tiles(
    benchmark: Benchmark, split: str, which: str = TRAIN, *, n_tiles: int = 12, n_columns: int = 4, seed: int = 0
) -> Figure:
    """Return a picture of `n_tiles` tiles drawn at random, with their sections; crowds are dotted."""
    require_count("n_tiles", n_tiles)
    require_count("n_columns", n_columns)
    coco = benchmark.read(split, which)
    folder: Path = getattr(benchmark.split(split), f"{which}_images")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(coco.images))[:n_tiles])
    n_columns = min(n_columns, len(chosen))
    n_rows = math.ceil(len(chosen) / n_columns)
    size = (TILE_WIDTH_IN * n_columns, TILE_WIDTH_IN * n_rows + 0.5)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    counts = dict.fromkeys(coco.class_names, 0)
    crowds = 0
    for ax in grid.flat[len(chosen) :]:
        ax.set_axis_off()
    for ax, place in zip(grid.flat, chosen, strict=False):
        image = coco.images[place]
        pixels = read_gray(folder / image.file_name)
        if pixels.shape != (image.height, image.width):
            came = " x ".join(map(str, pixels.shape))
            raise InputError(
                f"{image.file_name} must be {image.height} x {image.width} px, as in {coco.path}; got {came}."
            )
        _draw_image(ax, pixels)
        found = coco.of_image(image)
        for dotted in (False, True):
            shown = [(part, one.label) for one in found if one.crowd == dotted for part in one.parts]
            draw_outlines(ax, shown, coco.class_names, width=1.0, dotted=dotted)
        for one in found:
            counts[one.label] += not one.crowd
            crowds += one.crowd
    if benchmark.pixel_size_um is not None:
        add_scale_bar(grid[0, 0], coco.images[chosen[0]].width, 1000 * benchmark.pixel_size_um)
    _add_legend(figure, counts, crowds)
    return figure


def _draw_image(ax: Axes, image: NDArray[Any]) -> None:
    height, width = image.shape
    factor = max(height, width) / LONGEST_SIDE_PX
    if factor > 1:
        size = (max(round(width / factor), 1), max(round(height / factor), 1))
        image = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    ax.imshow(image, cmap="gray", extent=(0, width, height, 0), interpolation="antialiased")
    ax.set_axis_off()


def _add_legend(figure: Figure, counts: dict[str, int], crowds: int) -> None:
    colours = class_colours(tuple(counts))
    handles = [Line2D([], [], color=colours[name], label=f"{name} ({count})") for name, count in counts.items()]
    if crowds:
        handles.append(Line2D([], [], color=COLOURS["grey"], linestyle=":", label=f"too little visible ({crowds})"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
