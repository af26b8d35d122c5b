"""Tiles with what was found on them: predictions beside the truth, and the gallery of the worst errors.

Images are tiles (row, column) by image id, with a scale bar where their pixel size is known. Outlines run through the
centres of a mask's outermost pixels. What needs no image is in `detection_score_figures`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.wafer.scores import FAILURE_KINDS, Failure
from emseg.wafer.scores.coco_masks import (
    Detection,
    DetectionsSource,
    Region,
    TruthSource,
    decoded,
    read_detections,
    read_truth,
)

Images = Mapping[int, NDArray[Any]]

CLASS_COLOURS = ("green", "orange", "sky", "vermilion", "purple", "blue")
_BACKED = (matplotlib.patheffects.withStroke(linewidth=2.6, foreground="black"),)  # seen on dark and on bright tissue


def plot_predictions(
    truth: TruthSource,
    detections: DetectionsSource,
    images: Images,
    *,
    score: float = 0.5,
    pixel_size_um: float | None = None,
) -> Figure:
    """Draw tiles twice, a row each: the sections of the truth, and those found at or above `score` with their scores.

    Crowds, which do not count, are dotted.
    """
    known = read_truth(truth)
    found = [one for one in read_detections(detections, known) if one.score >= score]
    places = _places(images, known.image_ids)
    figure, grid = plt.subplots(len(places), 2, figsize=(PAGE_WIDTH_IN, 3.4 * len(places) + 0.3), squeeze=False)
    for row, (place, axes) in enumerate(zip(places, grid, strict=True)):
        image = images[known.image_ids[place]]
        titles = ("truth", f"found, score {score:g} or more") if row == 0 else (None, None)
        for ax, title in zip(axes, titles, strict=True):
            show_image(ax, image, _nm(pixel_size_um) if ax is axes[0] else None, title=title)
        for region in known.regions:
            if region.image == place:
                colour = class_colour(region.label)
                draw_outline(axes[0], decoded(region.rle), colour, linestyle=":" if region.is_crowd else "-")
        for one in found:
            if one.image == place:
                mask = decoded(one.rle)
                draw_outline(axes[1], mask, class_colour(one.label))
                _write_in(axes[1], mask, f"{one.score:.2f}")
    handles = [Patch(fill=False, ec=class_colour(k), lw=2, label=name) for k, name in enumerate(known.class_names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def plot_failures(
    errors: Sequence[Failure],
    truth: TruthSource,
    detections: DetectionsSource,
    images: Images,
    *,
    n_each: int = 4,
    score: float = 0.5,
    pixel_size_um: float | None = None,
) -> Figure:
    """Draw the first `n_each` errors of each kind, a row a kind, all at one magnification, with what lies around them.

    A white frame stands about each error. Errors in images that are not among `images` are passed over.
    """
    known = read_truth(truth)
    found = [one for one in read_detections(detections, known) if one.score >= score]
    place_of = {known.image_ids[place]: place for place in _places(images, known.image_ids)}
    rows = {kind: [one for one in errors if one.kind == kind and one.image_id in images] for kind in FAILURE_KINDS}
    rows = {kind: chosen[:n_each] for kind, chosen in rows.items() if chosen}
    if not rows:
        raise UsageError("a failure gallery needs at least one error in the images given; got none. Give other images.")
    side = int(1.5 * max(max(one.box[2:]) for chosen in rows.values() for one in chosen)) + 8
    figure, grid = plt.subplots(
        len(rows), n_each, figsize=(PAGE_WIDTH_IN, 2.05 * len(rows) + 0.3), squeeze=False, layout="constrained"
    )
    for axes, (kind, chosen) in zip(grid, rows.items(), strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, error in zip(axes, chosen, strict=False):
            image = images[error.image_id]
            window = _window(error, image.shape[:2], side)
            show_image(ax, image[window], _nm(pixel_size_um) if ax is axes[0] else None, grey_range=_range(image))
            ax.set_title(_caption(error), fontsize=8)
            place = place_of[error.image_id]
            items: list[tuple[Region | Detection, str, str]] = [
                *((one, "green", "-") for one in known.regions if one.image == place and not one.is_crowd),
                *((one, "vermilion", "--") for one in found if one.image == place),
            ]
            for item, colour, line in items:
                draw_outline(ax, decoded(item.rle)[window], COLOURS[colour], linestyle=line)
            _frame(ax, error, window)
        axes[0].text(-0.06, 0.5, kind, transform=axes[0].transAxes, rotation=90, ha="right", va="center")
    handles = [
        Line2D([], [], color=COLOURS["green"], label="truth"),
        Line2D([], [], color=COLOURS["vermilion"], linestyle="--", label=f"found, score {score:g} or more"),
        Patch(fc="white", ec="black", label="the error"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def class_colour(label: int) -> str:
    """Return the colour of a class by its place."""
    return COLOURS[CLASS_COLOURS[label % len(CLASS_COLOURS)]]


def draw_outline(ax: Axes, mask: Bool[np.ndarray, "row column"], colour: str, *, linestyle: str = "-") -> None:
    """Draw the outer outlines of a mask; nothing where it is empty."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        ax.add_patch(Polygon(contour[:, 0], fill=False, ec=colour, lw=1.4, ls=linestyle, path_effects=list(_BACKED)))


def _write_in(ax: Axes, mask: Bool[np.ndarray, "row column"], text: str) -> None:
    rows, columns = np.nonzero(mask)
    if len(rows):
        ax.text(
            columns.mean(),
            rows.mean(),
            text,
            ha="center",
            va="center",
            fontsize=6.5,
            color="black",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.75},
        )


def _places(images: Images, known: Sequence[int]) -> list[int]:
    if not images:
        raise UsageError("a figure of tiles needs at least one image; got none.")
    unknown = [id for id in images if id not in known]
    if unknown:
        raise UsageError(f"the images must be of the truth; image {unknown[0]} is not. Key them by their image id.")
    return [known.index(id) for id in images]


def _caption(error: Failure) -> str:
    found = f"{error.label} {error.score:.2f}" if error.score is not None else ""
    return {
        "missed": f"{error.truth_label}",
        "wrong class": f"{error.truth_label},\nfound as {found}",
        "poor outline": f"{found},\nIoU {error.iou:.2f}",
        "false alarm": found,
    }[error.kind]


def _window(error: Failure, shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    """Return the square of `side` pixels about an error, moved into the image, or all of a smaller image."""
    slices = []
    for start, length, size in zip(error.box[:2], error.box[2:], shape, strict=True):
        first = int(np.clip(start + length / 2 - side / 2, 0, max(size - side, 0)))
        slices.append(slice(first, min(first + side, size)))
    return slices[0], slices[1]


def _frame(ax: Axes, error: Failure, window: tuple[slice, slice], margin: float = 3.0) -> None:
    """Draw a white frame about an error, a little larger than its box, kept within the panel."""
    row, column, height, width = error.box
    n_rows, n_columns = (one.stop - one.start for one in window)
    top, left = max(row - window[0].start - margin, 0), max(column - window[1].start - margin, 0)
    bottom = min(row - window[0].start + height + margin, n_rows) - 1
    right = min(column - window[1].start + width + margin, n_columns) - 1
    ax.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, ec="white", lw=0.8, path_effects=list(_BACKED))
    )


def _range(image: NDArray[Any]) -> tuple[float, float]:
    return float(image.min()), float(image.max())


def _nm(pixel_size_um: float | None) -> float | None:
    return None if pixel_size_um is None else 1000 * pixel_size_um
