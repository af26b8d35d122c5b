"""The figures of the chapter on attribution fields: maps beside what they explain, areas, radii, factors, checks.

Attributions are drawn as in the paper's Figure 8: blue where a pixel speaks for membrane, red where it speaks against,
white at zero. The colour scale is linear up to a tenth of the largest value, or the single largest pixel would leave
all others white.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from chapters.attribution_fields.factors import PAPER_AREAS_NM2, PAPER_RATIO, Factor
from chapters.attribution_fields.field_checks import Window, window_about
from chapters.attribution_fields.field_survey import ConditionFields, ImageFields
from chapters.attribution_fields.path_profile import path_scores
from emseg.attribution.attribution import Attribution
from emseg.attribution.captum_methods import METHOD_LABELS
from emseg.attribution.field_statistics import Estimate, bootstrap_mean
from emseg.attribution.pixel_classes import CLASS_LABELS, PIXEL_CLASSES, PixelClass
from emseg.attribution.sanity import Cascade, Curve
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image

CLASS_COLOURS = {
    "correct_membrane": COLOURS["green"],
    "false_positive": COLOURS["orange"],
    "false_negative": COLOURS["purple"],
    "correct_background": COLOURS["sky"],
}
_CONDITION_COLOURS = (COLOURS["blue"], COLOURS["sky"], COLOURS["vermilion"])
_MARKERS = ("o", "s", "^", "D")
_SATURATION = 0.1  # share of the largest |w| at which the colour is full


def show_field(
    ax: Axes, one: NDArray[Any], pixel_size_nm: float, *, target: Sequence[int], half_px: int, title: str = ""
) -> None:
    """Draw a map about its target, `half_px` to each side, blue for positive and red for negative."""
    window, (row, column) = _window(one, target, half_px)
    top = max(float(np.abs(window).max()) * _SATURATION, np.finfo(float).tiny)
    show_image(ax, np.zeros(window.shape), pixel_size_nm, title=title)
    ax.imshow(window, cmap="RdBu", vmin=-top, vmax=top, zorder=0.5)
    ax.plot(column, row, marker="+", color="black", markersize=7, markeredgewidth=1.0)


def _window(values: NDArray[Any], target: Sequence[int], half_px: int) -> tuple[NDArray[Any], tuple[int, int]]:
    row, column = int(target[0]), int(target[1])
    top, left = max(0, row - half_px), max(0, column - half_px)
    return values[top : row + half_px + 1, left : column + half_px + 1], (row - top, column - left)


def plot_path(fields: ConditionFields, number: int = 0) -> Figure:
    """Draw an image on its way from grey to itself, and the score of one pixel along the way."""
    one = _image_with(fields, "correct_membrane", number)
    target = one.sample.targets[one.sample.of("correct_membrane")[0]]
    half = half_width(fields)
    steps = np.linspace(0, 1, 41)
    seen = window_about(fields, one, target)
    scores = path_scores(fields.network, seen.image, seen.target[0], steps)
    figure, axes = plt.subplots(1, 5, figsize=(PAGE_WIDTH_IN, 1.75), width_ratios=(1, 1, 1, 1, 1.7))
    for ax, alpha in zip(axes, (0.0, 0.33, 0.67, 1.0), strict=False):
        window, place = _window(one.scaled * alpha, target, half)
        show_image(ax, window, fields.pixel_size_nm, title=f"α = {alpha:g}", grey_range=(-1.0, 1.0))
        ax.plot(place[1], place[0], marker="+", color=CLASS_COLOURS["correct_membrane"], markersize=8)
    axes[4].plot(steps, scores, color=COLOURS["blue"])
    axes[4].set_xlabel("α, from baseline to image")
    axes[4].set_ylabel("score (logit)")
    return figure


def plot_examples(surveys: Sequence[ConditionFields]) -> Figure:
    """Draw, for each condition, image, prediction and truth, and below the fields of three pixels (Figure 8)."""
    names = PIXEL_CLASSES[:3]
    figure, grid = plt.subplots(2 * len(surveys), 3, figsize=(PAGE_WIDTH_IN * 0.86, 4.6 * len(surveys)))
    for number, fields in enumerate(surveys):
        one = max(fields.images, key=lambda image: sum(bool(len(image.sample.of(name))) for name in names))
        upper, lower = grid[2 * number], grid[2 * number + 1]
        panels = (
            (one.image, (0.0, 255.0), fields.condition.label),
            (one.probability, (0.0, 1.0), "probability of membrane"),
            (one.membrane, (0.0, 1.0), "truth"),
        )
        for ax, (panel, grey_range, title) in zip(upper, panels, strict=True):
            show_image(ax, panel.astype(float), fields.pixel_size_nm, title=title, grey_range=grey_range)
        for ax, name in zip(lower, names, strict=True):
            places = one.sample.of(name)
            if not len(places):
                ax.set_axis_off()
                ax.text(0.5, 0.5, f"no {CLASS_LABELS[name]}", ha="center", transform=ax.transAxes)
                continue
            target = one.sample.targets[places[0]]
            for picture in upper:
                picture.add_patch(
                    Circle(
                        (target[1], target[0]),
                        one.image.shape[1] / 40,
                        fill=False,
                        edgecolor=CLASS_COLOURS[name],
                        lw=1.8,
                    )
                )
            show_field(
                ax,
                one.attribution.maps[places[0]],
                fields.pixel_size_nm,
                target=target,
                half_px=half_width(fields),
                title=CLASS_LABELS[name],
            )
            ax.set_axis_on()
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(True)
                spine.set_color(CLASS_COLOURS[name])
                spine.set_linewidth(2.5)
    return figure


def plot_areas(
    surveys: Sequence[ConditionFields], thresholds: Sequence[float], *, n_resamples: int, seed: int
) -> Figure:
    """Draw S_k against k with intervals, and S_0.01 of each class of pixels (Figure 7B)."""
    rng = np.random.default_rng([seed, 3])
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.3))
    for fields, colour, marker in zip(surveys, _CONDITION_COLOURS, _MARKERS, strict=False):
        curves = [bootstrap_mean(fields.areas(k), n_resamples=n_resamples, generator=rng) for k in thresholds]
        left.plot(
            thresholds,
            [one.value for one in curves],
            color=colour,
            marker=marker,
            markersize=4,
            label=fields.condition.label,
        )
        left.fill_between(
            thresholds,
            [max(one.low, 1.0) for one in curves],
            [max(one.high, 1.0) for one in curves],
            color=colour,
            alpha=0.2,
            lw=0,
        )
    for area, name in zip(PAPER_AREAS_NM2, ("U-RISC", "ISBI 2012"), strict=True):
        left.plot([0.01], [area], marker="*", color="black", markersize=8, linestyle="none")
        left.annotate(f"paper, {name}", (0.01, area), xytext=(6, -3), textcoords="offset points", fontsize=7)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("threshold k (share of the map's maximum)")
    left.set_ylabel("area of the field $S_k$ (nm²)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for i, (fields, colour, marker) in enumerate(zip(surveys, _CONDITION_COLOURS, _MARKERS, strict=False)):
        for place, name in enumerate(PIXEL_CLASSES):
            if any(len(one.sample.of(name)) for one in fields.images):
                mean = bootstrap_mean(fields.areas(pixel_class=name), n_resamples=n_resamples, generator=rng)
                _error_bar(right, place + 0.2 * (i - (len(surveys) - 1) / 2), mean, colour, marker)
    right.set_xticks(range(len(PIXEL_CLASSES)), [CLASS_LABELS[name].replace(" ", "\n") for name in PIXEL_CLASSES])
    right.set_ylabel("$S_{0.01}$ (nm²)")
    right.set_ylim(bottom=0)
    return figure


def _error_bar(ax: Axes, place: float, mean: Estimate, colour: str, marker: str) -> None:
    distances = [[max(0.0, mean.value - mean.low)], [max(0.0, mean.high - mean.value)]]
    ax.errorbar([place], [mean.value], yerr=distances, fmt=marker, color=colour, markersize=5, linewidth=1.2)


def plot_radii(surveys: Sequence[ConditionFields]) -> Figure:
    """Draw the share of the attribution within a radius, in px and in nm; triangles: how far the network sees."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.1), sharey=True)
    for fields, colour in zip(surveys, _CONDITION_COLOURS, strict=False):
        curve = _mean_share(fields)
        for ax, unit in zip(axes, (1.0, fields.pixel_size_nm), strict=True):
            ax.plot(np.arange(len(curve)) * unit, curve, color=colour, label=fields.condition.label)
            if fields.receptive_field.reach is not None:
                ax.plot(
                    [fields.receptive_field.reach * unit], [1.0], marker="v", color=colour, markersize=6, clip_on=False
                )
    for ax, name in zip(axes, ("pixels", "nm"), strict=True):
        ax.set_xlabel(f"radius about the target ({name})")
        ax.set_xlim(left=0)
    axes[0].set_ylabel("share of the absolute attribution")
    axes[0].set_ylim(0, 1.02)
    axes[0].legend(loc="lower right")
    return figure


def _mean_share(fields: ConditionFields) -> NDArray[np.float64]:
    """Return the mean share of |w| within 0, 1, 2 ... pixels of the target, over correct membrane pixels."""
    shares = []
    for one in fields.images:
        for place in one.sample.of("correct_membrane"):
            row, column = one.sample.targets[place]
            weight = np.abs(one.attribution.maps[place], dtype=np.float64)
            rows, columns = np.ogrid[: weight.shape[0], : weight.shape[1]]
            distance = np.ceil(np.hypot(rows - row, columns - column)).astype(np.int64)
            sums = np.cumsum(np.bincount(distance.ravel(), weights=weight.ravel()))
            shares.append(np.pad(sums, (0, max(weight.shape) * 2 - len(sums)), mode="edge") / max(sums[-1], 1e-300))
    shortest = min(len(one) for one in shares)
    mean = np.mean([one[:shortest] for one in shares], axis=0)
    last = int(np.argmax(mean > 1 - 1e-6)) or shortest
    return np.asarray(mean[: last + 1])


def plot_factors(factors: Sequence[Factor], names: tuple[str, str]) -> Figure:
    """Draw, for each choice, the ratio of the two conditions' areas with its interval, and the paper's."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 0.6 + 0.27 * len(factors)), sharey=True)
    places = np.arange(len(factors))
    for ax, estimates, title in (
        (axes[0], [one.effect for one in factors], f"effect on $S$ of\n{names[0]}"),
        (axes[1], [one.ratio for one in factors], f"$S$ ratio: {names[0]}\nover {names[1]}"),
    ):
        for place, one in zip(places, estimates, strict=True):
            low, high = max(one.low, 1e-3), max(one.high, 1e-3)
            ax.plot([low, high], [place, place], color=COLOURS["blue"], linewidth=1.4)
            ax.plot([max(one.value, 1e-3)], [place], marker="o", color=COLOURS["blue"], markersize=4.5)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.axvline(1, color=COLOURS["grey"], linewidth=0.8)
        ax.set_xlabel(title)
    axes[1].axvline(PAPER_RATIO, color=COLOURS["vermilion"], linewidth=1.0, linestyle="--")
    axes[1].text(PAPER_RATIO, -0.9, "paper", color=COLOURS["vermilion"], fontsize=8, ha="center")
    axes[0].set_yticks(places, [one.label for one in factors])
    axes[0].set_ylim(len(factors) - 0.4, -1.0)
    return figure


def plot_methods(window: Window, maps: Mapping[str, Attribution], pixel_size_nm: float) -> Figure:
    """Draw one pixel's map by every method, on a scale of its own, beside the image."""
    n = len(maps) + 1
    rows = -(-n // 4)
    figure, grid = plt.subplots(rows, 4, figsize=(PAGE_WIDTH_IN, 1.95 * rows), squeeze=False)
    target, half = window.target[0], max(window.image.shape)
    show_image(grid[0, 0], window.image, pixel_size_nm, title="image", grey_range=(-1.0, 1.0))
    grid[0, 0].plot(target[1], target[0], marker="+", color=CLASS_COLOURS["correct_membrane"], markersize=8)
    for ax, (name, found) in zip(grid.flat[1:], maps.items(), strict=False):
        show_field(ax, found.maps[0], pixel_size_nm, target=target, half_px=half, title=METHOD_LABELS[name])
    for ax in grid.flat[n:]:
        ax.set_axis_off()
    return figure


def plot_sanity(cascade: Cascade, curves: Mapping[str, tuple[Curve, Curve]]) -> Figure:
    """Draw the rank correlation against the layers randomised, and deletion and insertion by method."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.7))
    for values, colour, name in ((cascade.correlation, "blue", "absolute"), (cascade.signed, "vermilion", "signed")):
        left.plot(cascade.n_layers, values.mean(axis=1), marker="o", markersize=4, color=COLOURS[colour], label=name)
        left.fill_between(
            cascade.n_layers, values.min(axis=1), values.max(axis=1), color=COLOURS[colour], alpha=0.2, lw=0
        )
    left.legend()
    left.set_xlabel("layers randomised, last first")
    left.set_ylabel("rank correlation")
    left.set_ylim(-0.35, 1.05)
    for (name, pair), colour in zip(curves.items(), ("blue", "orange", "grey"), strict=False):
        for ax, curve in zip((middle, right), pair, strict=True):
            ax.plot(
                100 * curve.shares,
                curve.scores.mean(axis=0),
                color=COLOURS[colour],
                label=name,
                marker=".",
                markersize=3,
            )
    for ax, title in ((middle, "deleted (% of pixels)"), (right, "inserted (% of pixels)")):
        ax.set_xscale("symlog", linthresh=0.1)
        ax.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        ax.set_xlabel(title)
        ax.set_ylabel("score (logit)")
    figure.legend(*middle.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def half_width(fields: ConditionFields) -> int:
    """Half the side of a drawn window: the network's reach, or a quarter of the image where that is smaller."""
    side = min(fields.images[0].image.shape)
    return int(max(8, min(fields.receptive_field.reach or side, side // 4)))


def _image_with(fields: ConditionFields, name: PixelClass, number: int) -> ImageFields:
    having = [one for one in fields.images if len(one.sample.of(name))]
    return (having or list(fields.images))[number % max(1, len(having))]
