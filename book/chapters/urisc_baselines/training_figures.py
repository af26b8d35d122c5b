"""The curves of a training: loss and learning rate by step, F1 on the validation images on the way, F1 by threshold.

The second stage of a refinement or a refit goes on where the first ended; a dotted line stands between them.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from chapters.urisc_baselines.membrane_experiment import Outcome
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.membrane.training.membrane_trainer import TrainedNetwork


def plot_training(trained: TrainedNetwork, *, n_means: int = 40) -> Figure:
    """Draw the loss by step (each pale, means in full colour) and F1 on validation; the learning rate shaded."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.9))
    curves = _in_a_row(trained, [stage.curves for stage in trained.stages])
    validation = _in_a_row(trained, [stage.validation for stage in trained.stages])
    steps, loss = np.array(curves["step"]), np.array(curves["loss"])
    left.plot(steps, loss, color=COLOURS["blue"], lw=0.5, alpha=0.3)
    parts = np.array_split(np.arange(len(steps)), min(n_means, len(steps)))
    left.plot([steps[part].mean() for part in parts], [loss[part].mean() for part in parts], color=COLOURS["blue"])
    left.set_yscale("log")
    left.set_ylabel("loss")
    left.set_title("loss on the training crops")
    rate = left.twinx()
    rate.fill_between(steps, curves["learning_rate"], color=COLOURS["grey"], alpha=0.15, lw=0)
    rate.set_ylim(0, 2.2 * max(curves["learning_rate"]))
    rate.set_yticks([])
    rate.spines[:].set_visible(False)
    left.set_zorder(rate.get_zorder() + 1)
    left.patch.set_visible(False)
    if validation.get("step"):
        seen = validation["step"]
        right.plot(seen, validation["membrane_f1"], "o-", ms=3, color=COLOURS["vermilion"], label="at 0.5")
        best = validation["best_membrane_f1"]
        right.plot(seen, best, "o--", ms=3, mfc="none", color=COLOURS["green"], label="at the best threshold")
        right.legend(loc="lower right")
    else:
        right.text(0.5, 0.5, "not looked at on the way", ha="center", va="center", transform=right.transAxes)
    right.set_ylabel("membrane F1")
    right.set_title("validation images")
    for ax in (left, right):
        ax.set_xlabel("training step")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if trained.first is not None:
            ax.axvline(len(trained.first.curves["step"]) + 0.5, color=COLOURS["black"], lw=0.9, ls=":")
    return figure


def _in_a_row(trained: TrainedNetwork, columns: list[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return the columns of all stages, steps counted through."""
    joined: dict[str, list[float]] = {}
    done = 0.0
    for stage, of_stage in zip(trained.stages, columns, strict=True):
        for name, values in of_stage.items():
            joined.setdefault(name, []).extend(value + done if name == "step" else value for value in values)
        done += len(stage.curves["step"])
    return joined


def plot_thresholds(outcome: Outcome) -> Figure:
    """Draw F1 of membrane against the threshold for both parts; a line marks the threshold that was chosen."""
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 2.9))
    for (part, scores), colour, dashes in zip(outcome.parts.items(), ("green", "blue"), ("--", "-"), strict=True):
        curve = scores.curve
        ax.plot(curve.thresholds, curve.membrane_f1, dashes, color=COLOURS[colour], label=f"{part} images")
    ax.axvline(outcome.threshold, color=COLOURS["black"], lw=0.9, ls=":", label="chosen on validation")
    ax.set_xlabel("threshold on the probability of membrane")
    ax.set_ylabel("membrane F1, mean over images")
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower center")
    return figure
