"""Figures of the annotation rounds: where a round is wrong, and what scores make of the same F1."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from chapters.urisc_competition.rounds import ScoredRound
from chapters.urisc_competition.rounds_reporting import SHOWN_SCORES
from emseg.figures import COLOURS, PAGE_WIDTH_IN, add_scale_bar
from emseg.membrane.scoring.pixels import COLOURS as CODE_COLOURS
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_POSITIVE, map_errors

_MARKERS = ("o", "s", "^", "D", "v")
_BAR_COLOURS = ("black", "grey", "vermilion", "orange", "blue")


def plot_rounds(
    image: NDArray[Any],
    truth: NDArray[np.bool_],
    annotations: Mapping[str, NDArray[np.bool_]],
    pixel_size_nm: float,
    tolerance_px: float,
) -> Figure:
    """Draw a quarter of an image and, beside it, the error map of each annotation: the quarter of the most errors."""
    window = _worst_quarter(truth, next(iter(annotations.values())))
    figure, axes = plt.subplots(
        1, 1 + len(annotations), figsize=(PAGE_WIDTH_IN, 0.5 + PAGE_WIDTH_IN / (1 + len(annotations)))
    )
    axes[0].imshow(image[window], cmap="gray", vmin=0, vmax=255)
    axes[0].set_title("the image")
    for ax, (name, annotation) in zip(axes[1:], annotations.items(), strict=True):
        ax.imshow(error_picture(truth, annotation, tolerance_px)[window])
        ax.set_title(name)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set(visible=True, color=COLOURS["grey"])
        add_scale_bar(ax, image[window].shape[1], pixel_size_nm)
    named = {TRUE_POSITIVE: "membrane", FALSE_NEGATIVE: "missed", FALSE_POSITIVE: "false"}
    near = {FALSE_NEGATIVE + NEAR: "missed, near", FALSE_POSITIVE + NEAR: "false, near"}
    handles = [Patch(color=_share(CODE_COLOURS[code]), label=name) for code, name in (named | near).items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def error_picture(truth: NDArray[np.bool_], annotation: NDArray[np.bool_], tolerance_px: float) -> NDArray[np.uint8]:
    """Return an error map as colours [height, width, 3]: false red, missed blue, pale within the tolerance."""
    table = np.zeros((8, 3), np.uint8)
    for code, colour in CODE_COLOURS.items():
        table[code] = colour
    return table[map_errors(truth, annotation, tolerance_px).codes]


def plot_scores(rounds: Sequence[ScoredRound]) -> Figure:
    """Draw the scores of rounds, a row for each score, so that rounds of one F1 can be told apart by the others."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 2.9))
    rows = np.arange(len(SHOWN_SCORES))[::-1]
    for place, one in enumerate(rounds):
        values = np.array([[scores.row()[name] for scores in one.scores] for name in SHOWN_SCORES])
        shift = 0.3 * (0.5 - (place + 0.5) / len(rounds)) * 2
        colour, marker = COLOURS[_BAR_COLOURS[place % 5]], _MARKERS[place % 5]
        ax.errorbar(
            values.mean(axis=1),
            rows + shift,
            xerr=values.std(axis=1, ddof=1) if values.shape[1] > 1 else None,
            fmt=marker,
            color=colour,
            ms=5,
            lw=1.0,
            label=one.name,
        )
    ax.set_yticks(rows, list(SHOWN_SCORES.values()))
    ax.set_xlabel("score against the final round (1 is best)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_xlim(left=max(ax.get_xlim()[0], 0.0), right=1.01)
    ax.grid(axis="x", lw=0.4)
    return figure


def _worst_quarter(truth: NDArray[np.bool_], annotation: NDArray[np.bool_]) -> tuple[slice, slice]:
    height, width = (side // 2 for side in truth.shape)
    windows = [
        (slice(top, top + height), slice(left, left + width))
        for top in (0, truth.shape[0] - height)
        for left in (0, truth.shape[1] - width)
    ]
    return max(windows, key=lambda window: int(np.count_nonzero(truth[window] != annotation[window])))


def _share(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
