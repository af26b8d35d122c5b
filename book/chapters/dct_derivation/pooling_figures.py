"""Figures of the chapter "DCT derivation" on pooling: the staircase, its leakage spectrum, what each coefficient loses.

Each function takes values and returns a matplotlib figure of the book's text width; `emseg.figures.style` sets the
look.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from chapters.dct_derivation.pooling_loss import Stage
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.frequency.aliasing import leakage_spectrum, pixel_weights, staircase_basis
from emseg.frequency.dct import TOP16, dct_basis

STAGE_COLOURS = ("blue", "orange", "green", "vermilion")
STAGE_MARKERS = ("o", "s", "^", "D")


def plot_staircase(size: int, pooled_size: int, frequency: int) -> Figure:
    """Draw a cosine of the full axis, the staircase that pooling makes of it, and how often each pixel counts."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(PAGE_WIDTH_IN, 4.0), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
    )
    position = np.arange(size)
    staircase = staircase_basis(size, pooled_size, [frequency])[0] * (size / pooled_size)
    above.axhline(0, color=COLOURS["grey"], lw=0.6)
    above.plot(position, dct_basis(size, [frequency])[0], "-", color=COLOURS["blue"], label="full map: cosine (FANet)")
    above.step(position, staircase, where="mid", color=COLOURS["vermilion"], label="pooled first: staircase (FcaNet)")
    above.set_ylabel(f"weight, h = {frequency}")
    above.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.2))
    below.bar(position, pixel_weights(size, pooled_size).numpy(), color=COLOURS["sky"], width=0.9)
    below.axhline(1, color=COLOURS["grey"], lw=0.8, ls="--")
    below.set_ylabel("weight in (0, 0)")
    below.set_xlabel("pixel u of the full map")
    return figure


def _stems(axis: Axes, size: int, pooled_size: int, frequency: int) -> None:
    gains = leakage_spectrum(size, pooled_size, [frequency])[0]
    shown = torch.nonzero(gains.abs() > 1e-9).flatten()
    leak = shown[shown != frequency]
    axis.axhline(0, color=COLOURS["grey"], lw=0.6)
    axis.vlines(leak, 0, gains[leak], color=COLOURS["vermilion"], lw=1.4)
    axis.plot(leak, gains[leak], "o", color=COLOURS["vermilion"], ms=4, label="leakage")
    axis.vlines([frequency], 0, [float(gains[frequency])], color=COLOURS["blue"], lw=1.8)
    axis.plot([frequency], [float(gains[frequency])], "s", color=COLOURS["blue"], ms=5, label="frequency asked for")
    axis.set_title(f"{size} pixels pooled to {pooled_size}")
    axis.set_xlabel("frequency k′ of the full map")


def plot_leakage(pairs: Sequence[tuple[int, int]], frequency: int) -> Figure:
    """Draw the leakage spectrum of one pooled coefficient for each (size, pooled size), the envelope |D| behind."""
    figure, axes = plt.subplots(1, len(pairs), figsize=(PAGE_WIDTH_IN, 2.9), sharey=True, squeeze=False)
    for axis, (size, pooled_size) in zip(axes.flat, pairs, strict=True):
        index = np.linspace(1e-6, size, 500)
        envelope = np.sin(np.pi * index / (2 * pooled_size)) * pooled_size / size / np.sin(np.pi * index / (2 * size))
        axis.fill_between(index, -np.abs(envelope), np.abs(envelope), color=COLOURS["grey"], alpha=0.18, lw=0)
        _stems(axis, size, pooled_size, frequency)
    axes[0, 0].set_ylabel(f"gain in pooled component {frequency}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def plot_loss_by_entry(losses: Mapping[str, Float[Tensor, "stage frequency"]], stages: Sequence[Stage]) -> Figure:
    """Draw, for each comparison, the loss of every entry of Table 1 at every stage, in percent."""
    figure, axes = plt.subplots(len(losses), 1, figsize=(PAGE_WIDTH_IN, 0.4 + 1.95 * len(losses)), squeeze=False)
    for axis, (title, loss) in zip(axes.flat, losses.items(), strict=True):
        percent = 100 * loss.numpy()
        shown = axis.imshow(percent, cmap="YlOrBr", vmin=0, vmax=50, aspect="auto")
        for (row, column), value in np.ndenumerate(percent):
            text = "<0.1" if value < 0.05 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if value > 30 else "black")
        axis.set_title(title)
        axis.set_yticks(range(len(stages)), labels=[stage.name for stage in stages])
        axis.set_xticks(range(len(TOP16)), labels=[f"{h},{w}" for h, w in TOP16])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[-1, 0].set_xlabel("entry (h, w) of Table 1, in its order")
    figure.colorbar(shown, ax=axes, label="variance lost (%)", shrink=0.8)
    return figure


def plot_loss_by_smoothness(
    alphas: Sequence[float],
    losses: Mapping[str, Float[Tensor, "alpha stage frequency"]],
    stages: Sequence[Stage],
    measured: Mapping[str, Float[Tensor, "stage frequency"]],
) -> Figure:
    """Draw the mean loss over Table 1 against the maps' smoothness, one panel a comparison; at the right, a network's
    maps.

    `losses` and `measured` have the same keys.
    """
    figure, axes = plt.subplots(1, len(losses), figsize=(PAGE_WIDTH_IN, 3.3), sharey=True, squeeze=False)
    network = max(alphas) + 0.45
    for axis, (title, loss) in zip(axes.flat, losses.items(), strict=True):
        percent = 100 * loss.mean(dim=-1)
        for number, stage in enumerate(stages):
            look = {"color": COLOURS[STAGE_COLOURS[number]], "marker": STAGE_MARKERS[number], "ms": 4}
            axis.plot(alphas, percent[:, number], label=stage.name, **look)
            axis.plot([network], [100 * float(measured[title][number].mean())], ls="none", **look)
        axis.axvspan(network - 0.2, network + 0.2, color=COLOURS["grey"], alpha=0.12, lw=0)
        axis.set_xticks([*alphas, network], labels=[*(f"{alpha:g}" for alpha in alphas), "network"])
        axis.set_title(title)
        axis.set_xlabel("smoothness α of the maps")
    axes[0, 0].set_ylabel("variance lost, mean of 16 (%)")
    axes[0, 0].set_ylim(bottom=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
