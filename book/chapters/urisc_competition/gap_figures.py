"""Figures of the three tests: F1 against the membrane fraction, against a shift, and on downsampled labels."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from chapters.urisc_competition.gap_downsampling import COVERAGES, Downsampled
from chapters.urisc_competition.gap_imbalance import ErrorRates, f1_at_pixel_error
from chapters.urisc_competition.gap_shifts import Labels, Shifted
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.membrane.dataset import grey_of_membrane

_STYLES = {"fine": "-", "coarse": "--"}


def plot_pixel_errors(isbi_fraction: float, ours: Mapping[str, tuple[float, float]], reported: float = 0.97) -> Figure:
    """Draw F1 of both classes against the share of wrong pixels at ISBI's fraction; the paper's bound is dashed.

    `ours`: F1 of (membrane, background) by network.
    """
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.0))
    errors = np.linspace(0, 0.12, 121)
    for fraction, name, colour in ((isbi_fraction, "membrane", "vermilion"), (1 - isbi_fraction, "background", "blue")):
        ax.plot(errors, [f1_at_pixel_error(one, fraction) for one in errors], color=COLOURS[colour], label=name)
    ax.axhline(reported, color="black", ls="--", lw=0.9)
    ax.text(0.1195, reported + 0.004, f"the paper: over {reported:g}", ha="right", va="bottom", fontsize=8)
    for (name, (membrane, background)), marker in zip(ours.items(), "oDs^v", strict=False):
        error = 2 * (1 - membrane) * isbi_fraction
        ax.plot([error, error], [membrane, background], marker, ms=5, mfc="white", color="black", label=f"ours, {name}")
    ax.set_xlim(0, 0.12)
    ax.set_ylim(0.7, 1.005)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("share of wrong pixels, half missed and half false")
    ax.set_ylabel("F1")
    ax.legend(loc="lower left")
    return figure


def plot_imbalance(rates: Mapping[str, ErrorRates], isbi_fraction: float, urisc_fraction: float) -> Figure:
    """Draw F1 against the membrane fraction at unchanged error rates, and the two data sets' fractions."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.0))
    fractions = np.geomspace(0.02, 0.4, 80)
    for (name, one), colour in zip(rates.items(), ("black", "blue", "vermilion", "green"), strict=False):
        ax.plot(fractions, [one.f1(p) for p in fractions], color=COLOURS[colour], label=name)
        ends = [urisc_fraction, isbi_fraction]
        ax.plot(ends, [one.f1(p) for p in ends], "o", ms=4, color=COLOURS[colour])
    for fraction, name in ((urisc_fraction, "U-RISC"), (isbi_fraction, "ISBI 2012")):
        ax.axvline(fraction, color=COLOURS["grey"], lw=0.8, ls=":")
        ax.text(fraction, 1.005, name, ha="center", va="bottom", fontsize=8, color=COLOURS["grey"])
    ax.set_xscale("log")
    ax.set_xticks([0.02, 0.05, 0.1, 0.2, 0.4], ["2 %", "5 %", "10 %", "20 %", "40 %"])
    ax.minorticks_off()
    ax.set_ylim(0.4, 1.0)
    ax.set_xlabel("membrane, share of pixels")
    ax.set_ylabel("F1 of membrane")
    ax.legend(loc="lower right")
    return figure


def plot_shifts(
    shifted: Mapping[str, tuple[Labels, Sequence[Shifted]]],
    tolerances: Mapping[str, Sequence[float]],
    tolerances_nm: Sequence[float],
    shift_px: int,
) -> Figure:
    """Draw strict F1 against the shift in pixels, and in line widths, and F1 against a tolerance in nm."""
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 3.2), sharey=True)
    for key, (labels, scores) in shifted.items():
        look = {"color": COLOURS["blue" if key.startswith("urisc") else "vermilion"], "marker": "o", "ms": 3.5}
        look["ls"] = _STYLES["coarse" if key.endswith("coarse") else "fine"]
        pixels = [0, *(one.shift_px for one in scores)]
        f1 = [1.0, *(one.mean_f1 for one in scores)]
        axes[0].plot(pixels, f1, label=labels.name, **look)
        axes[1].plot([one / labels.line_width_px for one in pixels], f1, **look)
        axes[2].plot(tolerances_nm, tolerances[key], **look)
    axes[0].set_xlabel("shift, pixels")
    axes[0].set_ylabel("F1 of membrane")
    axes[0].set_title("strict")
    axes[1].set_xlabel("shift, line widths")
    axes[1].set_title("strict")
    axes[2].set_xlabel("tolerance, nm")
    axes[2].set_title(f"tolerant, shift of {shift_px} px")
    for ax in axes:
        ax.set_ylim(0.6, 1.01)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def plot_track2(found: Sequence[Downsampled], shifts_px: Sequence[int], pixel_size_nm: float, side_px: int) -> Figure:
    """Draw one place before and after downsampling, and what perfect full-size predictors reach on the labels."""
    figure = plt.figure(figsize=(PAGE_WIDTH_IN, 5.0))
    upper, lower = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(1.0, 1.15)))).tolist()
    pictures = upper.subplots(1, 3)
    one = found[0]
    reduced = round(side_px / one.factor)
    before = grey_of_membrane(one.truth[:side_px, :side_px])
    show_image(pictures[0], before, pixel_size_nm, title="label", grey_range=(0.0, 255.0))
    after = (("as on Track 2", one.label), ("all pixels with membrane", one.kept))
    for ax, (title, mask) in zip(pictures[1:], after, strict=True):
        picture = grey_of_membrane(mask[:reduced, :reduced])
        show_image(ax, picture, pixel_size_nm * one.factor, title=title, grey_range=(0.0, 255.0))
    for ax in pictures:
        ax.set_axis_on()
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(True)
            spine.set_color(COLOURS["grey"])
    left, right = lower.subplots(1, 2, sharey=True)
    left.plot(COVERAGES, np.mean([one.covered_f1 for one in found], axis=0), color=COLOURS["blue"])
    left.set_xlabel("membrane where this share of the pixel is")
    left.set_ylabel("F1 on the Track 2 label")
    reduced_f1 = np.mean([one.moved_f1 for one in found], axis=0)
    full_f1 = np.mean([one.moved_f1_full for one in found], axis=0)
    right.plot(shifts_px, reduced_f1, "o-", ms=4, color=COLOURS["vermilion"], label="on Track 2")
    right.plot(shifts_px, full_f1, "s--", ms=3.5, color=COLOURS["black"], label="at full size")
    right.legend(loc="lower left")
    right.set_xlabel("truth moved by, source pixels along both axes")
    left.set_ylim(0.0, 1.02)
    return figure
