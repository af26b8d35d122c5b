"""Predictions drawn: image, truth, probability and errors side by side, and the places where most is wrong.

Colours of the errors are those of `emseg.membrane.scoring.pixels`: membrane found is grey, membrane invented
vermilion, membrane missed blue; pale where the other's membrane is within the tolerance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from chapters.urisc_baselines.membrane_experiment import Outcome
from emseg.errors import UsageError
from emseg.figures import PAGE_WIDTH_IN, show_image
from emseg.membrane.dataset import MembraneImage
from emseg.membrane.scoring import map_errors, membrane_at
from emseg.membrane.scoring.pixels import COLOURS, FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_POSITIVE
from emseg.membrane.training.membrane_prediction import middle

LARGEST_PX = 768  # of an image that is shown: its middle
_LABELS = {
    TRUE_POSITIVE: "membrane found",
    FALSE_POSITIVE: "membrane that is none",
    FALSE_NEGATIVE: "membrane missed",
    FALSE_POSITIVE + NEAR: "none, but near",
    FALSE_NEGATIVE + NEAR: "missed, but near",
}


@dataclass(frozen=True, eq=False)
class Example:
    """A window of a test image with its truth, the prediction (0 to 255) and the error codes at the threshold."""

    name: str
    image: UInt8[np.ndarray, "row column"]
    membrane: Bool[np.ndarray, "row column"]
    levels: UInt8[np.ndarray, "row column"]
    codes: UInt8[np.ndarray, "row column"]


@dataclass(frozen=True, eq=False)
class Place:
    """A window of an example where much is wrong; `share` of its pixels are wrong and not near."""

    example: Example
    rows: slice
    columns: slice
    share: float


def examples(outcome: Outcome, part: str = "test", *, tolerance_px: float = 3.0) -> tuple[Example, ...]:
    """Return the middle of every image of a part, worst F1 first."""
    scores = outcome.parts[part]
    order = sorted(range(len(scores.images)), key=lambda place: scores.scores[place].membrane.f1)
    return tuple(
        _example(scores.images[place], scores.levels(place), outcome.threshold, tolerance_px) for place in order
    )


def plot_predictions(shown: Sequence[Example], pixel_size_nm: float | None) -> Figure:
    """Draw the best and the worst example: image, truth, probability (black is membrane) and errors."""
    if not shown:
        raise UsageError("a figure of predictions needs at least one example; got none.")
    chosen = [shown[-1], shown[0]] if len(shown) > 1 else [shown[0]]
    height = 0.25 * PAGE_WIDTH_IN + 0.05
    figure, grid = plt.subplots(len(chosen), 4, figsize=(PAGE_WIDTH_IN, height * len(chosen) + 0.5), squeeze=False)
    titles = ("image", "truth", "probability", "errors")
    for number, (row, one) in enumerate(zip(grid, chosen, strict=True)):
        show_image(row[0], one.image, pixel_size_nm, grey_range=(0, 255))
        show_image(row[1], ~one.membrane, grey_range=(0, 1))
        show_image(row[2], 255 - one.levels, grey_range=(0, 255))
        _show_codes(row[3], one.codes)
        for ax, title in zip(row, titles, strict=True):
            _frame(ax)
            if not number:
                ax.set_title(title)
        row[0].set_ylabel(f"{'best' if number == 0 and len(chosen) > 1 else 'worst'}: {one.name}")
    _legend(figure)
    return figure


def worst_places(shown: Sequence[Example], *, n: int = 8, side: int = 96) -> tuple[Place, ...]:
    """Return the `n` windows, no two of which overlap, with the largest share of wrong pixels that are not near."""
    found: list[Place] = []
    for one in shown:
        found += _places(one, side, n)
    return tuple(sorted(found, key=lambda place: -place.share)[:n])


def plot_worst(places: Sequence[Place], pixel_size_nm: float | None = None, *, n_columns: int = 4) -> Figure:
    """Draw places as pairs, one above the other: the image, and what is wrong there; without places, say so."""
    if not places:
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.8))
        ax.set_axis_off()
        ax.text(0.5, 0.5, "No pixel is wrong beyond the tolerance.", ha="center", va="center")
        return figure
    n_rows = -(-len(places) // n_columns)
    figure, grid = plt.subplots(
        2 * n_rows, n_columns, figsize=(PAGE_WIDTH_IN, n_rows * (0.5 * PAGE_WIDTH_IN + 0.3) + 0.4), squeeze=False
    )
    for ax in grid.flat:
        ax.set_axis_off()
    for number, place in enumerate(places):
        row, column = divmod(number, n_columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        window = place.rows, place.columns
        show_image(upper, place.example.image[window], pixel_size_nm if column == 0 else None, grey_range=(0, 255))
        upper.set_title(f"{place.example.name}: {100 * place.share:.0f} %", fontsize=8)
        _show_codes(lower, place.example.codes[window])
        for ax in (upper, lower):
            _frame(ax)
    _legend(figure)
    return figure


def _example(image: MembraneImage, levels: NDArray[np.uint8], threshold: float, tolerance_px: float) -> Example:
    window = middle(image, LARGEST_PX)
    membrane, levels = image.read_membrane(window), np.ascontiguousarray(levels[window])
    codes = map_errors(membrane, membrane_at(levels, threshold), tolerance_px).codes
    return Example(image.name, image.read(window), membrane, levels, codes)


def _places(one: Example, side: int, n: int) -> Iterator[Place]:
    side = min(side, *one.codes.shape)
    wrong = (one.codes == FALSE_POSITIVE) | (one.codes == FALSE_NEGATIVE)
    shares = uniform_filter(wrong.astype(np.float64), side, mode="constant")
    before, after = side // 2, side - side // 2
    height, width = wrong.shape
    shares[:before], shares[height - after + 1 :] = -1, -1
    shares[:, :before], shares[:, width - after + 1 :] = -1, -1
    for _ in range(n):
        row, column = np.unravel_index(int(np.argmax(shares)), shares.shape)
        share = float(shares[row, column])
        if share <= 0:
            return
        top, left = int(row) - before, int(column) - before
        yield Place(one, slice(top, top + side), slice(left, left + side), share)
        shares[max(0, top - after + 1) : top + side + before, max(0, left - after + 1) : left + side + before] = -1


def _show_codes(ax: Axes, codes: NDArray[np.uint8]) -> None:
    palette = np.array([COLOURS.get(code, (255, 255, 255)) for code in range(8)], dtype=np.uint8)
    ax.imshow(palette[codes])


def _frame(ax: Axes) -> None:
    ax.set_axis_on()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.6)


def _legend(figure: Figure) -> None:
    handles = [
        Patch(fc=np.array(COLOURS[code]) / 255, ec="black", lw=0.4, label=label) for code, label in _LABELS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)
