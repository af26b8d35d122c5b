"""Figures of detections: two detectors, the ranked list that AP is computed from, sections found, and errors.

Average precision is explained on `SECTIONS` and `DETECTIONS`, an example of our making: rectangles x, y, width, height
in px, the detections in the order of their `SCORES`.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import emseg.wafer.scores.coco_masks as masks
from chapters.drawing.diagrams import arrow, block, canvas, note, operator
from chapters.drawing.interactive import Interactive, slider
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.wafer.scores import FAILURE_KINDS, Failure
from emseg.wafer.section_figures import CLASS_COLOURS

SECTIONS = np.array(((8, 14, 50, 28), (8, 62, 50, 28), (72, 12, 40, 30), (74, 66, 36, 24)), dtype=np.float64)
DETECTIONS = np.array(
    ((10, 15, 49, 27), (75, 67, 36, 25), (16, 19, 44, 26), (84, 18, 34, 34), (5, 66, 48, 26)), dtype=np.float64
)
SCORES = np.array((0.98, 0.91, 0.80, 0.66, 0.41))
_BACKED = (matplotlib.patheffects.withStroke(linewidth=2.6, foreground="black"),)  # seen on dark and on bright tissue

Images = Mapping[int, NDArray[Any]]


def plot_detectors() -> Figure:
    """Draw Mask R-CNN and Mask Scoring R-CNN, a row each, with the sizes of their maps."""
    ax = canvas(PAGE_WIDTH_IN, 3.5)
    for y, name, scoring in ((2.6, "Mask R-CNN", False), (0.85, "Mask Scoring R-CNN", True)):
        note(ax, 0.08, y + 0.74, name, ha="left", weight="bold")
        places = {"tile": 0.32, "ResNet with\nattention": 1.15, "feature\npyramid": 2.12, "region\nproposals": 3.0}
        parts = [block(ax, x, y, text, colour="grey" if text == "tile" else "blue") for text, x in places.items()]
        parts.append(block(ax, 3.86, y, "RoI\nalign", colour="blue"))
        for before, after in pairwise(parts):
            arrow(ax, before.right, after.left)
        boxes = block(ax, 5.12, y + 0.42, "class and box", colour="green")
        mask = block(ax, 5.12, y - 0.42, "mask", colour="green", width=boxes.width)
        for head, shape in ((boxes, "7 × 7"), (mask, "14 × 14")):
            corner = (4.2, head.y)
            arrow(ax, parts[-1].right, (4.2, y), corner, head.left)
            note(ax, 4.44, head.y + 0.1, shape, size=6.5)
        if scoring:
            fit = block(ax, 6.08, y - 0.42, "mask IoU", colour="orange")
            arrow(ax, mask.right, fit.left)
            arrow(ax, (4.2, y), (6.08, y), fit.top)
            note(ax, 5.2, y + 0.07, "features", size=6.5)
            times = operator(ax, 6.62, y + 0.42, "×")
            arrow(ax, fit.right, (6.62, fit.y), times.bottom)
            arrow(ax, boxes.right, times.left)
            arrow(ax, times.right, (6.95, times.y))
        else:
            arrow(ax, boxes.right, (6.95, boxes.y))
            arrow(ax, mask.right, (6.95, mask.y))
            note(ax, 6.4, mask.y + 0.1, "28 × 28", size=6.5)
        note(ax, 6.8, y + 0.62, "score", size=7)
    return ax.figure  # type: ignore[return-value]


def ranked_list(iou: Float64[np.ndarray, "detection section"], is_right: Bool[np.ndarray, " detection"]) -> Interactive:
    """Return the example with a slider that admits one detection after another, and precision against recall so far."""
    ranks = np.arange(1, len(SCORES) + 1)
    recall, precision = np.cumsum(is_right) / len(SECTIONS), np.cumsum(is_right) / ranks
    frames, labels, alts = [], [], []
    for n in range(len(SCORES) + 1):
        figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.9))
        for box in SECTIONS:
            left.add_patch(Rectangle(box[:2], *box[2:], fc="#CFCFCF", ec="none"))
        for box, score, overlap, right_one in zip(DETECTIONS[:n], SCORES, iou.max(axis=1), is_right, strict=False):
            colour = COLOURS["green" if right_one else "vermilion"]
            left.add_patch(Rectangle(box[:2], *box[2:], fill=False, ec=colour, lw=1.8, ls="-" if right_one else "--"))
            at, va = (box[1] - 1, "bottom") if right_one else (box[1] + box[3] + 1, "top")
            left.text(box[0], at, f"score {score:.2f}, IoU {overlap:.2f}", va=va, fontsize=7, color=colour)
        left.set(xlim=(0, 122), ylim=(100, 4), aspect="equal")
        left.set_axis_off()
        best = np.maximum.accumulate(precision[:n][::-1])[::-1]
        grid = np.linspace(0, 1, 101)
        curve = np.append(best, 0.0)[np.searchsorted(recall[:n], grid)]
        right.fill_between(grid, curve, color=COLOURS["sky"], alpha=0.35, lw=0, step="pre")
        right.plot(recall[:n], precision[:n], "o-", ms=4, color=COLOURS["blue"])
        right.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
        right.set_title(f"AP {100 * curve.mean():.1f} %", loc="left")
        frames.append(figure)
        labels.append("none" if n == 0 else f"score {SCORES[n - 1]:.2f} or more")
        found = "No detection" if n == 0 else f"{n} detections, {is_right[:n].sum()} of them correct"
        alts.append(f"{found}, on four sections; at the right precision against recall, AP {100 * curve.mean():.1f} %.")
    return slider(frames, labels, name="Detections admitted", alts=alts, start=len(SCORES))


def coco_ap50(
    sections: Float64[np.ndarray, "section 4"],
    detections: Float64[np.ndarray, "detection 4"],
    scores: Float64[np.ndarray, " detection"],
) -> float:
    """Return pycocotools' AP at an IoU of 0.50 or more for rectangles of one class in one image, 0 to 1."""
    known = [{"bbox": list(box), "area": float(box[2] * box[3]), "iscrowd": 0} for box in sections]
    found = [{"bbox": list(box), "score": float(score)} for box, score in zip(detections, scores, strict=True)]
    shared = {"image_id": 1, "category_id": 1}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [one | shared | {"id": number} for number, one in enumerate(known, start=1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([one | shared for one in found]), "bbox")
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            step()
    return float(evaluation.stats[1])


def plot_predictions(
    truth: masks.TruthSource,
    detections: masks.DetectionsSource,
    images: Images,
    *,
    score: float = 0.5,
    pixel_size_um: float | None = None,
) -> Figure:
    """Draw tiles twice, a row each: the sections of the truth, and those found at or above `score` with their scores.

    `images` gives tiles (row, column) by image id. Crowds, which do not count, are dotted.
    """
    known, found = _selected(truth, detections, score)
    figure, grid = plt.subplots(len(images), 2, figsize=(PAGE_WIDTH_IN, 3.4 * len(images) + 0.3), squeeze=False)
    for ax, title in zip(grid[0], ("truth", f"found, score {score:g} or more"), strict=True):
        ax.set_title(title)
    for (id, image), axes in zip(images.items(), grid, strict=True):
        place = known.image_ids.index(id)
        show_image(axes[0], image, pixel_size_um and 1000 * pixel_size_um)
        show_image(axes[1], image)
        for region in known.regions:
            if region.image == place:
                style = ":" if region.is_crowd else "-"
                draw_outline(axes[0], masks.decoded(region.rle), class_colour(region.label), linestyle=style)
        for one in found:
            rows, columns = np.nonzero(mask := masks.decoded(one.rle))
            if one.image == place and len(rows):
                draw_outline(axes[1], mask, class_colour(one.label))
                box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.75}
                middle = {"ha": "center", "va": "center", "fontsize": 6.5}
                axes[1].text(columns.mean(), rows.mean(), f"{one.score:.2f}", bbox=box, **middle)
    handles = [Patch(fill=False, ec=class_colour(k), lw=2, label=name) for k, name in enumerate(known.class_names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def plot_failures(
    errors: Sequence[Failure],
    truth: masks.TruthSource,
    detections: masks.DetectionsSource,
    images: Images,
    *,
    n_each: int = 4,
    score: float = 0.5,
    pixel_size_um: float | None = None,
) -> Figure:
    """Draw the first `n_each` errors of each kind, a row a kind, all at one magnification, with their surroundings.

    A white frame surrounds each error. Errors in images that are not among `images` are omitted; where none is left,
    which is a detector's best result, the figure states it.
    """
    known, found = _selected(truth, detections, score)
    nm = pixel_size_um and 1000 * pixel_size_um
    rows = {kind: [one for one in errors if one.kind == kind and one.image_id in images] for kind in FAILURE_KINDS}
    rows = {kind: chosen[:n_each] for kind, chosen in rows.items() if chosen}
    if not rows:
        figure = plt.figure(figsize=(PAGE_WIDTH_IN, 1.0))
        figure.text(0.5, 0.5, f"no error in {len(images)} tiles, score {score:g} or more", ha="center", va="center")
        return figure
    side = int(1.5 * max(max(one.box[2:]) for chosen in rows.values() for one in chosen)) + 8
    size = (PAGE_WIDTH_IN, 2.05 * len(rows) + 0.3)
    figure, grid = plt.subplots(len(rows), n_each, figsize=size, squeeze=False, layout="constrained")
    for axes, (kind, chosen) in zip(grid, rows.items(), strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, error in zip(axes, chosen, strict=False):
            image, place = images[error.image_id], known.image_ids.index(error.image_id)
            window = _window(error, image.shape, side)
            greys = float(image.min()), float(image.max())
            show_image(ax, image[window], nm if ax is axes[0] else None, grey_range=greys)
            ax.set_title(_caption(error), fontsize=8)
            outlines = [(one.rle, "green", "-") for one in known.regions if one.image == place and not one.is_crowd]
            outlines += [(one.rle, "vermilion", "--") for one in found if one.image == place]
            for rle, colour, line in outlines:
                draw_outline(ax, masks.decoded(rle)[window], COLOURS[colour], linestyle=line)
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
    """Return the colour of a class by its index."""
    return COLOURS[CLASS_COLOURS[label % len(CLASS_COLOURS)]]


def draw_outline(ax: Axes, mask: Bool[np.ndarray, "row column"], colour: str, *, linestyle: str = "-") -> None:
    """Draw the outer outlines of a mask, through the centres of its outermost pixels; nothing where it is empty."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        ax.add_patch(Polygon(contour[:, 0], fill=False, ec=colour, lw=1.4, ls=linestyle, path_effects=list(_BACKED)))


def _selected(
    truth: masks.TruthSource, detections: masks.DetectionsSource, score: float
) -> tuple[masks.Truth, list[masks.Detection]]:
    """Return the truth and the detections at or above a score."""
    known = masks.read_truth(truth)
    return known, [one for one in masks.read_detections(detections, known) if one.score >= score]


def _caption(error: Failure) -> str:
    found = f"{error.label} {error.score:.2f}" if error.score is not None else ""
    return {
        "missed": f"{error.truth_label}",
        "wrong class": f"{error.truth_label},\nfound as {found}",
        "poor outline": f"{found},\nIoU {error.iou:.2f}",
        "false alarm": found,
    }[error.kind]


def _window(error: Failure, shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    """The square of `side` pixels about an error, moved into the image, or all of a smaller image."""
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
    look: dict[str, Any] = {"fill": False, "ec": "white", "lw": 0.8, "path_effects": list(_BACKED)}
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, **look))
