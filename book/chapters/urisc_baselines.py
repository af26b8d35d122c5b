"""The chapter `urisc_baselines`: scores of one trained network as metrics and as a table, its curves and its errors.

Every score is the mean over images; its spread is their standard deviation, its interval a 95 % bootstrap over images
(percentiles of the mean), which covers other images of the same kind and not other seeds. `..._first` is the score of a
network before its refinement or its refit.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from chapters.membrane_experiment import PartScores, ScoredNetwork
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.files import find_root
from emseg.membrane.networks import RefinedNetwork
from emseg.membrane.scoring import best_thresholds, map_errors, membrane_at, spread
from emseg.membrane.scoring.pixels import COLOURS as ERROR_COLOURS
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_POSITIVE
from emseg.membrane.training import TrainedNetwork
from emseg.membrane.training.membrane_prediction import middle
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import format_number

if TYPE_CHECKING:
    from emseg.membrane.pretraining import FileStart

# name in the record: (name in `ImageScores.row`, label, unit, whether more is better)
REPORTED = {
    "membrane_f1": ("membrane_f1", "Membrane F1", "1", True),
    "membrane_precision": ("membrane_precision", "Membrane precision", "1", True),
    "membrane_recall": ("membrane_recall", "Membrane recall", "1", True),
    "background_f1": ("background_f1", "Background F1", "1", True),
    "tolerant_f1": ("membrane_tolerant_f1", "Membrane F1, tolerant", "1", True),
    "v_rand": ("v_rand", "V-Rand", "1", True),
    "v_info": ("v_info", "V-Info", "1", True),
    "adapted_rand": ("adapted_rand_error", "Adapted Rand error", "1", False),
    "assd_nm": ("assd_nm", "Distance of surfaces (ASSD)", "nm", False),
    "broken_membranes": ("broken_membranes", "Broken membranes per image", "1", False),
    "spurious_membranes": ("spurious_membranes", "Spurious membranes per image", "1", False),
}
_PART_WORDS = {"validation": "validation images", "test": "test images"}
LARGEST_PX = 768  # side of the central part of an image that is shown
_ERROR_LABELS = {
    TRUE_POSITIVE: "true membrane",
    FALSE_POSITIVE: "false membrane",
    FALSE_NEGATIVE: "missed membrane",
    FALSE_POSITIVE + NEAR: "false, but near",
    FALSE_NEGATIVE + NEAR: "missed, but near",
}


def bootstrap_interval(
    values: Sequence[float], *, n_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of the mean over images resampled from `values`; None for fewer than two."""
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return None
    places = np.random.default_rng(seed).integers(len(known), size=(n_resamples, len(known)))
    low, high = np.quantile(known[places].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def report_start(run: Run, start: "FileStart | None") -> str:
    """Record how many of the encoder's tensors came from a file, and return it in words.

    A user's file is a data set of the run, identified by its SHA-256; a pretraining on the run's own images is none.
    """
    if start is None:
        return "Random weights: no pretrained encoder was requested."
    from emseg.membrane.pretraining.pretrain_encoder import CEM500K_NAME  # not needed from random weights

    report = start.report
    counts = {
        "loaded": (report.n_loaded, "that came from the pretrained file"),
        "in_file": (report.n_in_file, "in the pretrained file"),
        "in_encoder": (report.n_tensors, "in all"),
    }
    for name, (count, words) in counts.items():
        run.metric(f"pretraining_tensors_{name}", count, n=1, label=f"Tensors of the encoder {words}")
    if start.name == CEM500K_NAME:
        run.uses(f"pretrained encoder {report.path.name}", kind="real", fingerprint=f"sha256:{report.sha256}")
    return f"{report}\nSHA-256 of the file: {report.sha256}"


def report_training(run: Run, trained: TrainedNetwork) -> None:
    """Record what the training took and how it ended.

    Of a refinement and a refit, steps, seconds and crops are those of both stages, memory is the larger, and the loss
    the second's; steps and seconds of each stage are recorded beside them.
    """
    of_stages = [len(stage.curves["step"]) for stage in trained.stages]
    steps, seconds = sum(of_stages), sum(stage.seconds for stage in trained.stages)
    crops = sum(stage.crops_per_second * stage.seconds for stage in trained.stages) / max(seconds, 1e-9)
    last = trained.curves["loss"][-max(1, of_stages[-1] // 10) :]
    memory = max(stage.peak_memory_mib for stage in trained.stages)
    run.metric("n_parameters", trained.n_parameters, n=1, label="Parameters of the network")
    run.metric("n_steps", steps, n=1, label="Training steps")
    run.metric("n_training_images", trained.n_images, n=1, label="Training images")
    run.metric("final_loss", sum(last) / len(last), n=len(last), label="Loss, mean over the last tenth of the steps")
    run.metric("training_seconds", seconds, unit="s", n=1, label="Training time")
    run.metric("crops_per_second", crops, unit="crops/s", n=steps, label="Training crops per second")
    run.metric("training_memory", memory, unit="MiB", n=1, label="Peak memory of training")
    if trained.first is not None:
        names = ("first", "refinement" if isinstance(trained.network, RefinedNetwork) else "refit")
        for name, stage, n_steps in zip(names, trained.stages, of_stages, strict=True):
            word = "first network" if name == "first" else name
            run.metric(f"n_steps_{name}", n_steps, n=1, label=f"Training steps, {word}")
            run.metric(f"training_seconds_{name}", stage.seconds, unit="s", n=1, label=f"Training time, {word}")


def report_scores(run: Run, scored: ScoredNetwork, *, n_resamples: int, seed: int) -> None:
    """Record the threshold, and all scores of validation and test images at it; undefined ones are left out.

    Of a refinement and a refit the first network's scores are recorded too, and of a refinement its threshold.
    """

    def note(name: str, values: Sequence[float], label: str, unit: str = "1") -> None:
        over = spread(values)
        if over.n:
            interval = bootstrap_interval(values, n_resamples=n_resamples, seed=seed)
            run.metric(name, over.mean, unit=unit, n=over.n, label=label, spread=_known(over.sd), interval=interval)

    def note_rows(part: str, scores: PartScores, ending: str, words: str) -> None:
        for name, (row, label, unit, _) in REPORTED.items():
            values = [image.row()[row] for image in scores.scores]
            note(f"{part}_{name}{ending}", values, f"{label}, {_PART_WORDS[part]}{words}", unit)

    n = len(scored.parts["validation"].images)
    label = "Threshold with the best membrane F1 on validation images"
    run.metric("threshold", scored.threshold, n=n, label=label)
    if scored.first is not None:
        before = f", before {scored.second_stage}"
        if scored.second_stage == "refinement":
            run.metric("threshold_first", scored.first.threshold, n=n, label=f"{label}{before}")
        for part, scores in scored.first.parts.items():
            if scores is not scored.parts[part]:  # validation scores of a refit are the first network's
                note_rows(part, scores, "_first", before)
    for part, scores in scored.parts.items():
        words = _PART_WORDS[part]
        note_rows(part, scores, "", "")
        for word, field in {"true": "true_fraction", "predicted": "predicted_fraction"}.items():
            values = [float(getattr(image, field)) for image in scores.scores]
            note(f"{part}_{field}", values, f"Membrane fraction, {word}, {words}")
        at_half = scores.curve.f1_at(0.5)
        label = f"Membrane F1 at threshold 0.5, {words}"
        run.metric(f"{part}_membrane_f1_at_half", at_half, n=len(scores.images), label=label)
        if scored.v_rand_threshold is not None:
            at = [next(r for r in im.at_thresholds if r[0] == scored.v_rand_threshold) for im in scores.scores]
            for place, name in ((1, "v_rand"), (2, "v_info")):
                text = f"{REPORTED[name][1]} at the threshold with the best V-Rand on validation images, {words}"
                note(f"{part}_{name}_tuned", [row[place] for row in at], text)
        for name, best in best_thresholds(scores.scores).items():
            text = f"{REPORTED[name][1]} at the best threshold of these images (as ISBI 2012), {words}"
            over = best.spread
            run.metric(f"{part}_{name}_isbi", over.mean, n=over.n, label=text, spread=_known(over.sd))


def report_cost(run: Run, scored: ScoredNetwork) -> None:
    """Record the prediction time; of a refined network also that of its first network alone."""
    n = sum(len(part.images) for part in scored.parts.values())
    label = "Prediction time per megapixel"
    run.metric("seconds_per_megapixel", scored.seconds_per_megapixel, unit="s/Mpx", n=n, label=label)
    if scored.first is not None and scored.second_stage == "refinement":
        first = scored.first.seconds_per_megapixel
        run.metric("seconds_per_megapixel_first", first, unit="s/Mpx", n=n, label=f"{label}, first network alone")


def scores_table(run: Run, scored: ScoredNetwork) -> DisplayTable:
    """Return the run's scores of validation and test images side by side, with their intervals.

    Of a refinement and a refit the last column has the test scores before it; the validation images of a refit are then
    scored with the first network.
    """
    counts = {part: len(scores.images) for part, scores in scored.parts.items()}
    columns = {f"{_PART_WORDS[part].capitalize()} ({n})": (part, "") for part, n in counts.items()}
    if scored.first is not None:
        columns[f"Test images, before {scored.second_stage}"] = ("test", "_first")
    rows = []
    for name, (_, label, _, more_is_better) in REPORTED.items():
        shown = (_shown(run, f"{part}_{name}{stage}") for part, stage in columns.values())
        rows.append((Shown(label if more_is_better else f"{label} (less is better)"), *shown))
    return DisplayTable(
        caption=f"Scores at the threshold {scored.threshold:.2f}, chosen on the validation images: mean over images, "
        "± standard deviation, and the 95 % interval of the mean (bootstrap over images).",
        header=("Score", *columns),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"score-{name.replace('_', '-')}" for name in REPORTED),
    )


def score_command(scored: ScoredNetwork, part: str = "test") -> str:
    """Return the command, for the project's root, that scores the saved predictions of a part again.

    The threshold is truncated to three digits, which moves none of the levels 0 to 255 across it.
    """
    scores, settings, root = scored.parts[part], scored.settings, find_root()
    options = ["--membrane", "bright", "--truth-membrane", "bright"]
    options += ["--threshold", f"{math.floor(1000 * settings.threshold) / 1000:.3f}"]
    options += ["--tolerance", f"{settings.tolerance_px:g}px"]
    if settings.pixel_size_nm is not None:
        options += ["--pixel-size-nm", repr(settings.pixel_size_nm)]
    folders = (paths[0].parent for paths in (scores.predictions, scores.truths))
    names = (str(one.relative_to(root) if one.is_relative_to(root) else one) for one in folders)
    return shlex.join(["emseg", "score", *names, *options])


def plot_training(trained: TrainedNetwork, *, n_means: int = 40) -> Figure:
    """Draw the loss by step (pale, and means over intervals) above the learning rate, and F1 on validation images.

    A dotted line separates the two stages of a refinement or a refit.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.9))
    curves, validation = _joined(trained, "curves"), _joined(trained, "validation")
    steps, loss = np.array(curves["step"]), np.array(curves["loss"])
    left.plot(steps, loss, color=COLOURS["blue"], lw=0.5, alpha=0.3)
    parts = np.array_split(np.arange(len(steps)), min(n_means, len(steps)))
    left.plot([steps[part].mean() for part in parts], [loss[part].mean() for part in parts], color=COLOURS["blue"])
    left.set(yscale="log", ylabel="loss", title="loss on the training crops")
    rate = left.twinx()
    rate.fill_between(steps, curves["learning_rate"], color=COLOURS["grey"], alpha=0.15, lw=0)
    rate.set(ylim=(0, 2.2 * max(curves["learning_rate"])), yticks=[])
    rate.spines[:].set_visible(False)
    left.set_zorder(rate.get_zorder() + 1)
    left.patch.set_visible(False)
    if seen := validation.get("step"):
        right.plot(seen, validation["membrane_f1"], "o-", ms=3, color=COLOURS["vermilion"], label="at 0.5")
        best = validation["best_membrane_f1"]
        right.plot(seen, best, "o--", ms=3, mfc="none", color=COLOURS["green"], label="at the best threshold")
        right.legend(loc="lower right")
    else:
        right.text(0.5, 0.5, "no validation during training", ha="center", va="center", transform=right.transAxes)
    right.set(ylabel="membrane F1", title="validation images")
    for ax in (left, right):
        ax.set_xlabel("training step")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if trained.first is not None:
            ax.axvline(len(trained.first.curves["step"]) + 0.5, color=COLOURS["black"], lw=0.9, ls=":")
    return figure


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
    """A window of an example with many errors; `share` is the fraction of its pixels that are wrong and not near."""

    example: Example
    rows: slice
    columns: slice
    share: float


def examples(scored: ScoredNetwork, part: str = "test", *, tolerance_px: float = 3.0) -> tuple[Example, ...]:
    """Return the central window of every image of a part, worst F1 first."""
    scores = scored.parts[part]
    made = []
    for place in sorted(range(len(scores.images)), key=lambda place: scores.scores[place].membrane.f1):
        image, window = scores.images[place], middle(scores.images[place], LARGEST_PX)
        membrane, levels = image.read_membrane(window), np.ascontiguousarray(scores.levels(place)[window])
        codes = map_errors(membrane, membrane_at(levels, scored.threshold), tolerance_px).codes
        made.append(Example(image.name, image.read(window), membrane, levels, codes))
    return tuple(made)


def plot_predictions(shown: Sequence[Example], pixel_size_nm: float | None) -> Figure:
    """Draw the best and the worst example: image, truth, probability (black is membrane) and errors."""
    if not shown:
        raise UsageError("a figure of predictions needs at least one example; got none.")
    chosen = [shown[-1], shown[0]] if len(shown) > 1 else [shown[0]]
    height = 0.25 * PAGE_WIDTH_IN + 0.05
    figure, grid = plt.subplots(len(chosen), 4, figsize=(PAGE_WIDTH_IN, height * len(chosen) + 0.5), squeeze=False)
    for ax, title in zip(grid[0], ("image", "truth", "probability", "errors"), strict=True):
        ax.set_title(title)
    for row, one, rank in zip(grid, chosen, ("best", "worst")[-len(chosen) :], strict=True):
        show_image(row[0], one.image, pixel_size_nm, grey_range=(0, 255))
        show_image(row[1], ~one.membrane, grey_range=(0, 1))
        show_image(row[2], 255 - one.levels, grey_range=(0, 255))
        _show_codes(row[3], one.codes)
        _frame(row)
        row[0].set_ylabel(f"{rank}: {one.name}")
    _legend(figure)
    return figure


def worst_places(shown: Sequence[Example], *, n: int = 8, side: int = 96) -> tuple[Place, ...]:
    """Return the `n` non-overlapping windows with the largest fraction of wrong pixels that are not near."""
    found = [place for one in shown for place in _places(one, side, n)]
    return tuple(sorted(found, key=lambda place: -place.share)[:n])


def _places(one: Example, side: int, n: int) -> Iterator[Place]:
    side = min(side, *one.codes.shape)
    wrong = (one.codes == FALSE_POSITIVE) | (one.codes == FALSE_NEGATIVE)
    shares = uniform_filter(wrong.astype(np.float64), side, mode="constant")
    before, after = side // 2, side - side // 2
    height, width = wrong.shape
    # centres of windows that reach beyond the image, or into one already taken, get -1
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


def plot_worst(places: Sequence[Place], pixel_size_nm: float | None = None, *, n_columns: int = 4) -> Figure:
    """Draw windows as pairs, the image above its errors; without windows, state that there are none."""
    if not places:
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.8))
        ax.set_axis_off()
        ax.text(0.5, 0.5, "No pixel is wrong beyond the tolerance.", ha="center", va="center")
        return figure
    n_rows = -(-len(places) // n_columns)
    size = (PAGE_WIDTH_IN, n_rows * (0.5 * PAGE_WIDTH_IN + 0.3) + 0.4)
    figure, grid = plt.subplots(2 * n_rows, n_columns, figsize=size, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for number, place in enumerate(places):
        row, column = divmod(number, n_columns)
        upper, lower = grid[2 * row : 2 * row + 2, column]
        window = place.rows, place.columns
        show_image(upper, place.example.image[window], pixel_size_nm if column == 0 else None, grey_range=(0, 255))
        upper.set_title(f"{place.example.name}: {100 * place.share:.0f} %", fontsize=8)
        _show_codes(lower, place.example.codes[window])
        _frame((upper, lower))
    _legend(figure)
    return figure


def _show_codes(ax: Axes, codes: NDArray[np.uint8]) -> None:
    palette = np.array([ERROR_COLOURS.get(code, (255, 255, 255)) for code in range(8)], dtype=np.uint8)
    ax.imshow(palette[codes])


def _frame(axes: Sequence[Axes]) -> None:
    for ax in axes:
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, linewidth=0.6)


def _legend(figure: Figure) -> None:
    colours = {code: np.array(ERROR_COLOURS[code]) / 255 for code in _ERROR_LABELS}
    handles = [Patch(fc=colours[code], ec="black", lw=0.4, label=label) for code, label in _ERROR_LABELS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)


def _joined(trained: TrainedNetwork, name: str) -> dict[str, list[float]]:
    """Return the columns of all stages, with the steps numbered consecutively."""
    joined: dict[str, list[float]] = {}
    done = 0.0
    for stage in trained.stages:
        for column, values in getattr(stage, name).items():
            joined.setdefault(column, []).extend(value + done if column == "step" else value for value in values)
        done += len(stage.curves["step"])
    return joined


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shown(run: Run, name: str) -> Shown:
    metric = run.metrics.get(name)
    if metric is None:
        return Shown("undefined")
    text = format_number(metric.value) + ("" if metric.unit == "1" else f" {metric.unit}")
    if metric.spread is not None:
        text += f" ± {format_number(metric.spread, 2)}"
    if metric.interval is not None:
        text += f" ({format_number(metric.interval[0], 3)} to {format_number(metric.interval[1], 3)})"
    return Shown(text)
