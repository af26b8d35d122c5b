"""The figures of the chapter on transfer: what pretraining is shown, how it went, what came of it."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chapters.urisc_transfer.transfer_experiment import Transfer
from chapters.urisc_transfer.transfer_reporting import METRIC_LABELS, NOT_RUN, pretraining_label
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.membrane.dataset.images import UnlabelledImage
from emseg.membrane.pretraining import PretrainedEncoder, PretrainingPlan
from emseg.membrane.pretraining.moco import Views
from emseg.membrane.pretraining.pretrain_encoder import NONE

_COLOURS = ("grey", "blue", "orange", "green")
_SEED_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_views(
    images: Sequence[UnlabelledImage], plan: PretrainingPlan, *, pixel_size_nm: float | None, n: int = 5
) -> Figure:
    """Draw the first patches of a pretraining, and below each its two views."""
    views = Views(images, plan)
    figure, grid = plt.subplots(3, n, figsize=(PAGE_WIDTH_IN, 3 * PAGE_WIDTH_IN / n + 0.3), squeeze=False)
    for draw, axes in enumerate(grid.T):
        show_image(axes[0], views.patch(draw), pixel_size_nm if draw == 0 else None, grey_range=(0, 255))
        for axis, view in zip(axes[1:], views.pair(draw).numpy()[:, 0], strict=True):
            show_image(axis, view, grey_range=(-1, 1))
    for axis, title in zip(grid[:, 0], ("patch", "one view", "another view"), strict=True):
        axis.set_title(title, loc="left")
    return figure


def plot_pretraining(pretrained: Mapping[int, PretrainedEncoder]) -> Figure:
    """Draw loss, accuracy and spread of each pretraining by step, with what guessing and collapse would give.

    The steps before the queue is full of keys are left out: random directions are told from keys at a glance.
    """
    panels = (
        ("loss", "contrastive loss", "collapsed"),
        ("accuracy", "share of own keys found", "guessing"),
        ("spread", "spread of embeddings", "collapsed"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.6))
    for axis, (name, label, reference) in zip(axes, panels, strict=True):
        axis.set_title(label)
        axis.set_xlabel("step")
        if not pretrained:
            _say(axis, "not run here")
            continue
        for number, (seed, one) in enumerate(pretrained.items()):
            colour = list(COLOURS.values())[number % len(COLOURS)]
            first = min(one.plan.queue // one.plan.batch_size, one.plan.n_steps - 2)
            smooth = _running_mean(one.curves[name][first:], max(1, one.plan.n_steps // 10))
            axis.plot(one.curves["step"][first:], smooth, color=colour, lw=1.2, label=f"seed {seed}")
        queue = next(iter(pretrained.values())).plan.queue
        level = {"loss": math.log(1 + queue), "accuracy": 1 / (1 + queue), "spread": 0.0}[name]
        axis.axhline(level, color=COLOURS["grey"], lw=1, ls="--")
        axis.annotate(
            reference,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, -9 if name == "accuracy" else 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color=COLOURS["grey"],
        )
        low, high = axis.get_ylim()
        low, high = min(low, level), max(high, level)
        axis.set_ylim(low - 0.02 * (high - low), high + 0.12 * (high - low))
    if pretrained:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def plot_transfer(transfer: Transfer, metric: str = "membrane_f1") -> Figure:
    """Draw the score by the number of labelled images, every seed and the means; beside it the paired differences."""
    label = METRIC_LABELS[metric]
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.2))
    left.set_ylabel(f"{label}, test images")
    right.set_ylabel(f"difference of {label}")
    right.axhline(0, color="black", lw=0.8)
    places = {fraction: place for place, fraction in enumerate(transfer.fractions)}
    for axis in (left, right):
        axis.set_xlabel("labelled images")
        axis.set_xticks(list(places.values()), [str(transfer.n_labelled(fraction)) for fraction in places])
        axis.set_xlim(-0.5, max(1, len(places)) - 0.5)
        if not places:
            _say(axis, NOT_RUN)
    names = transfer.pretrainings
    for number, name in enumerate(names):
        shift, colour = 0.14 * (number - (len(names) - 1) / 2), COLOURS[_COLOURS[number % len(_COLOURS)]]
        means = []
        for fraction, place in places.items():
            scores = transfer.scores(name, fraction, metric)
            _dots(left, place + shift, scores, colour)
            means.append(fmean(scores.values()) if scores else math.nan)
        left.plot(np.array(list(places.values())) + shift, means, "-", color=colour, label=pretraining_label(name))
        if name != NONE:
            _gains(right, transfer, name, places, shift, colour, metric)
    if places:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _gains(
    axis: Axes, transfer: Transfer, name: str, places: Mapping[float, int], shift: float, colour: str, metric: str
) -> None:
    """Draw the differences of each seed, their mean and its interval."""
    for fraction, place in places.items():
        ours, none = transfer.scores(name, fraction, metric), transfer.scores(NONE, fraction, metric)
        _dots(axis, place + shift - 0.06, {seed: ours[seed] - none[seed] for seed in ours.keys() & none.keys()}, colour)
        gain = transfer.gain(name, fraction, metric)
        if gain is None:
            axis.text(place, 0, NOT_RUN, ha="center", va="bottom", fontsize=7, style="italic", color=COLOURS["grey"])
            continue
        if gain.interval is not None:
            axis.vlines(place + shift + 0.06, *gain.interval, color="black", lw=2)
        axis.plot([place + shift + 0.06], [gain.value], "D", ms=5, color="black")


def _dots(axis: Axes, place: float, values: Mapping[int, float], colour: str) -> None:
    for seed, value in values.items():
        marker = _SEED_MARKERS[seed % len(_SEED_MARKERS)]
        axis.plot([place], [value], marker, ms=4.5, mew=0, color=colour, alpha=0.8)


def _say(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", style="italic", color=COLOURS["grey"])
    axis.set_yticks([])


def _running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return the mean over the last `width` values at every place."""
    return [fmean(values[max(0, place + 1 - width) : place + 1]) for place in range(len(values))]
