"""Differences between attentions as a figure: every pair of networks, their mean and interval, the paper's four."""

from collections.abc import Sequence
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from chapters.fanet_results.table2 import DEPTHS, DETECTORS, Trained, attention_difference, paired_scores
from chapters.fanet_results.table2_reporting import ATTENTION_NAMES, CONTRASTS, DETECTOR_NAMES
from chapters.fanet_training.reporting import paper_scores
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.wafer.scores import METRIC_LABELS

_GROUPS = tuple(product(DETECTORS, DEPTHS))
_GROUP_COLOURS = ("blue", "sky", "vermilion", "orange")
_PAPER_COLOUR = "#707070"


def plot_differences(trained: Sequence[Trained], metric: str = "ap") -> Figure:
    """Draw one row for each pair of attentions: dots by detector and depth, mean and interval of all, the paper's.

    A pair without two runs to compare says "not run".
    """
    if metric not in METRIC_LABELS:
        raise UsageError(f"`metric` must be one of {', '.join(METRIC_LABELS)}; got {metric!r}.")
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.55 * len(CONTRASTS) + 1.2))
    ax.axvline(0, color="black", lw=0.8)
    for row, (first, second) in enumerate(CONTRASTS):
        pairs = paired_scores(trained, first, second, metric)
        for place, (group, colour) in enumerate(zip(_GROUPS, _GROUP_COLOURS, strict=True)):
            values = pairs.get(group, [])
            heights = np.full(len(values), row - 0.24 + 0.12 * place)
            ax.plot(values, heights, "o", ms=4, mew=0, color=COLOURS[colour], alpha=0.8)
            paper = _paper_difference(group, first, second, metric)
            if paper is not None:
                ax.plot([paper], [row - 0.24 + 0.12 * place], "|", ms=8, mew=1.6, color=_PAPER_COLOUR)
        whole = attention_difference(trained, first, second, metric)
        if whole is None or whole.value is None:
            ax.text(0, row + 0.34, "not run", fontsize=7, style="italic", color=COLOURS["grey"])
            continue
        if whole.interval is not None:
            ax.hlines(row + 0.34, *whole.interval, color="black", lw=2)
        ax.plot([whole.value], [row + 0.34], "D", ms=5, color="black")
    ax.set_yticks(range(len(CONTRASTS)), [f"{ATTENTION_NAMES[a]} \u2212 {ATTENTION_NAMES[b]}" for a, b in CONTRASTS])
    ax.set_ylim(len(CONTRASTS) - 0.4, -0.6)
    ax.set_xlabel(f"difference of mask {METRIC_LABELS[metric]} (points)")
    ax.grid(axis="x", color="#DDDDDD", lw=0.6)
    ax.set_axisbelow(True)
    handles = [
        Line2D([], [], marker="o", ls="", mew=0, color=COLOURS[colour], label=f"{DETECTOR_NAMES[name]}, {depth}")
        for (name, depth), colour in zip(_GROUPS, _GROUP_COLOURS, strict=True)
    ]
    handles.append(Line2D([], [], marker="D", color="black", label="mean, 95 % interval"))
    handles.append(
        Line2D([], [], marker="|", ls="", mew=1.6, ms=8, color=_PAPER_COLOUR, label="the paper, one run each")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _paper_difference(group: tuple[str, int], first: str, second: str, metric: str) -> float | None:
    a, b = paper_scores(*group, first), paper_scores(*group, second)
    if not a or not b:
        return None
    high, low = a[metric].value, b[metric].value
    return None if high is None or low is None else high - low
