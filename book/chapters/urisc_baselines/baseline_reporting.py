"""The scores of one trained network as metrics of a run and as a table.

Every score is the mean over images; its spread is their standard deviation, its interval a bootstrap over images (95 %,
percentiles of the mean): how far other images of the same kind could have moved it. What another seed would have
given is in neither.

`..._first` is what a network had before its refinement or its refit.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chapters.urisc_baselines.membrane_experiment import Outcome, PartScores
from emseg.files import find_root
from emseg.membrane.networks import RefinedNetwork
from emseg.membrane.scoring import ImageScores, best_thresholds, spread
from emseg.membrane.training.membrane_trainer import TrainedNetwork
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import format_number

if TYPE_CHECKING:
    from emseg.membrane.pretraining import FileStart


@dataclass(frozen=True)
class Reported:
    """A score: its name in the record, in `ImageScores.row`, for the reader, its unit, and whether more is better."""

    name: str
    row: str
    label: str
    unit: str = "1"
    more_is_better: bool = True


REPORTED = (
    Reported("membrane_f1", "membrane_f1", "Membrane F1"),
    Reported("membrane_precision", "membrane_precision", "Membrane precision"),
    Reported("membrane_recall", "membrane_recall", "Membrane recall"),
    Reported("background_f1", "background_f1", "Background F1"),
    Reported("tolerant_f1", "membrane_tolerant_f1", "Membrane F1, tolerant"),
    Reported("v_rand", "v_rand", "V-Rand"),
    Reported("v_info", "v_info", "V-Info"),
    Reported("adapted_rand", "adapted_rand_error", "Adapted Rand error", more_is_better=False),
    Reported("assd_nm", "assd_nm", "Distance of surfaces (ASSD)", "nm", more_is_better=False),
    Reported("broken_membranes", "broken_membranes", "Broken membranes an image", more_is_better=False),
    Reported("spurious_membranes", "spurious_membranes", "Spurious membranes an image", more_is_better=False),
)
_PART_WORDS = {"validation": "validation images", "test": "test images"}


def bootstrap_interval(
    values: Sequence[float], *, n_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of the mean over images drawn again from `values`; None for fewer than two."""
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return None
    places = np.random.default_rng(seed).integers(len(known), size=(n_resamples, len(known)))
    low, high = np.quantile(known[places].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def report_scores(run: Run, outcome: Outcome, *, n_resamples: int, seed: int) -> None:
    """Note the threshold, and all scores of validation and test at it; what is undefined is left out.

    Of a refinement and a refit the first network's scores are noted as well, and of a refinement its threshold.
    """
    n = len(outcome.parts["validation"].images)
    label = "Threshold with the best membrane F1 on validation images"
    run.metric("threshold", outcome.threshold, n=n, label=label)
    if outcome.first is not None:
        before = f", before {outcome.second_stage}"
        if outcome.second_stage == "refinement":
            run.metric("threshold_first", outcome.first.threshold, n=n, label=f"{label}{before}")
        for part, scores in outcome.first.parts.items():
            if scores is outcome.parts[part]:  # a refit leaves the validation images to the first network
                continue
            for one in REPORTED:
                values = [image.row()[one.row] for image in scores.scores]
                text = f"{one.label}, {_PART_WORDS[part]}{before}"
                _note(run, f"{part}_{one.name}_first", values, text, one.unit, n_resamples, seed)
    for part, scores in outcome.parts.items():
        for one in REPORTED:
            values = [image.row()[one.row] for image in scores.scores]
            _note(run, f"{part}_{one.name}", values, f"{one.label}, {_PART_WORDS[part]}", one.unit, n_resamples, seed)
        fractions = {"true": "true_fraction", "predicted": "predicted_fraction"}
        for word, field in fractions.items():
            values = [float(getattr(image, field)) for image in scores.scores]
            label = f"Share of membrane, {word}, {_PART_WORDS[part]}"
            _note(run, f"{part}_{field}", values, label, "1", n_resamples, seed)
        at_half = scores.curve.f1_at(0.5)
        label = f"Membrane F1 at threshold 0.5, {_PART_WORDS[part]}"
        run.metric(f"{part}_membrane_f1_at_half", at_half, n=len(scores.images), label=label)
        _report_cells(run, part, scores, outcome.v_rand_threshold, n_resamples, seed)


def report_start(run: Run, start: "FileStart | None") -> str:
    """Note how many tensors the encoder has from a file and how many that one holds, and return it in words.

    A file of the user's is a data set that the run used, named by its SHA-256; a pretraining on the run's own images is
    none. Random weights are no metric.
    """
    if start is None:
        return "Random weights: no pretrained encoder was asked for."
    # imports what a training from random weights does not need
    from emseg.membrane.pretraining.pretrain_encoder import CEM500K_NAME

    report = start.report
    counts = {
        "loaded": (report.n_loaded, "that came from the pretrained file"),
        "in_file": (report.n_in_file, "that the pretrained file holds"),
        "in_encoder": (report.n_tensors, "that there are"),
    }
    for name, (count, words) in counts.items():
        run.metric(f"pretraining_tensors_{name}", count, n=1, label=f"Tensors of the encoder {words}")
    if start.name == CEM500K_NAME:
        run.uses(f"pretrained encoder {report.path.name}", kind="real", fingerprint=f"sha256:{report.sha256}")
    return f"{report}\nSHA-256 of the file: {report.sha256}"


def report_training(run: Run, trained: TrainedNetwork) -> None:
    """Note what the training took and how it ended.

    Of a refinement and a refit, steps, seconds and crops are those of both stages, memory is the larger, and the loss
    the second's; steps and seconds of each stage are noted beside them.
    """
    of_stages = [len(stage.curves["step"]) for stage in trained.stages]
    steps, seconds = sum(of_stages), sum(stage.seconds for stage in trained.stages)
    crops = sum(stage.crops_per_second * stage.seconds for stage in trained.stages)
    last = trained.curves["loss"][-max(1, of_stages[-1] // 10) :]
    run.metric("n_parameters", trained.n_parameters, n=1, label="Parameters of the network")
    run.metric("n_steps", steps, n=1, label="Training steps")
    run.metric("n_training_images", trained.n_images, n=1, label="Training images")
    run.metric("final_loss", sum(last) / len(last), n=len(last), label="Loss, mean over the last tenth of the steps")
    run.metric("training_seconds", seconds, unit="s", n=1, label="Time of training")
    run.metric(
        "crops_per_second", crops / max(seconds, 1e-9), unit="crops/s", n=steps, label="Crops trained on a second"
    )
    memory = max(stage.peak_memory_mib for stage in trained.stages)
    run.metric("training_memory", memory, unit="MiB", n=1, label="Peak memory of training")
    if trained.first is not None:
        second = "refinement" if isinstance(trained.network, RefinedNetwork) else "refit"
        words = {"first": "first network", second: second}
        for (name, word), stage, n_steps in zip(words.items(), trained.stages, of_stages, strict=True):
            run.metric(f"n_steps_{name}", n_steps, n=1, label=f"Training steps, {word}")
            run.metric(f"training_seconds_{name}", stage.seconds, unit="s", n=1, label=f"Time of training, {word}")


def report_cost(run: Run, outcome: Outcome) -> None:
    """Note what a prediction takes: with a refined network by both of its networks, and by the first alone."""
    n = sum(len(part.images) for part in outcome.parts.values())
    label = "Time of prediction a megapixel"
    run.metric("seconds_per_megapixel", outcome.seconds_per_megapixel, unit="s/Mpx", n=n, label=label)
    if outcome.first is not None and outcome.second_stage == "refinement":
        first = outcome.first.seconds_per_megapixel
        run.metric("seconds_per_megapixel_first", first, unit="s/Mpx", n=n, label=f"{label}, first network alone")


def scores_table(run: Run, outcome: Outcome) -> DisplayTable:
    """Return the scores of validation and test beside each other, with their intervals, as the run has them.

    Of a refinement and a refit a last column has the test scores before it; the validation images are then those of the
    network before its refit.
    """
    counts = {part: len(scores.images) for part, scores in outcome.parts.items()}
    columns = {f"{_PART_WORDS[part].capitalize()} ({n})": (part, "") for part, n in counts.items()}
    if outcome.first is not None:
        columns[f"Test images, before {outcome.second_stage}"] = ("test", "_first")
    rows = []
    for one in REPORTED:
        label = one.label if one.more_is_better else f"{one.label} (less is better)"
        shown = (_shown(run, f"{part}_{one.name}{stage}") for part, stage in columns.values())
        rows.append((Shown(label), *shown))
    return DisplayTable(
        caption=f"Scores at the threshold {outcome.threshold:.2f}, chosen on the validation images: mean over images, "
        "± standard deviation, and the 95 % interval of the mean (bootstrap over images).",
        header=("Score", *columns),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"score-{one.name.replace('_', '-')}" for one in REPORTED),
    )


def score_command(outcome: Outcome, part: str = "test") -> str:
    """Return the command that scores the kept predictions of a part again, as it is typed in the project's root.

    The threshold is cut to three digits; the levels 0 to 255 on both sides of it stay where they are.
    """
    scores, settings = outcome.parts[part], outcome.settings
    options = ["--membrane", "bright", "--truth-membrane", "bright"]
    options += ["--threshold", f"{math.floor(1000 * settings.threshold) / 1000:.3f}"]
    options += ["--tolerance", f"{settings.tolerance_px:g}px"]
    if settings.pixel_size_nm is not None:
        options += ["--pixel-size-nm", repr(settings.pixel_size_nm)]
    folders = [_in_project(paths[0].parent) for paths in (scores.predictions, scores.truths)]
    return shlex.join(["emseg", "score", *folders, *options])


def _in_project(folder: Path) -> str:
    root = find_root()
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)


def _report_cells(
    run: Run, part: str, scores: PartScores, threshold: float | None, n_resamples: int, seed: int
) -> None:
    """Note V-Rand and V-Info at the threshold with the best V-Rand on validation, and at the best of these images."""
    words = _PART_WORDS[part]
    if threshold is not None:
        for place, name, label in ((1, "v_rand", "V-Rand"), (2, "v_info", "V-Info")):
            values = [_at(image, threshold, place) for image in scores.scores]
            text = f"{label} at the threshold with the best V-Rand on validation images, {words}"
            _note(run, f"{part}_{name}_tuned", values, text, "1", n_resamples, seed)
    for name, best in best_thresholds(scores.scores).items():
        label = {"v_rand": "V-Rand", "v_info": "V-Info"}[name]
        text = f"{label} at the best threshold of these images (as ISBI 2012), {words}"
        run.metric(f"{part}_{name}_isbi", best.spread.mean, n=best.spread.n, label=text, spread=_known(best.spread.sd))


def _at(image: ImageScores, threshold: float, place: int) -> float:
    return next(row[place] for row in image.at_thresholds if row[0] == threshold)


def _note(run: Run, name: str, values: Sequence[float], label: str, unit: str, n_resamples: int, seed: int) -> None:
    over = spread(values)
    if over.n:
        interval = bootstrap_interval(values, n_resamples=n_resamples, seed=seed)
        run.metric(name, over.mean, unit=unit, n=over.n, label=label, spread=_known(over.sd), interval=interval)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shown(run: Run, name: str) -> Shown:
    metric = run.metrics.get(name)
    if metric is None:
        return Shown("undefined")
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    text = f"{format_number(metric.value)}{unit}"
    if metric.spread is not None:
        text += f" ± {format_number(metric.spread, 2)}"
    if metric.interval is not None:
        text += f" ({format_number(metric.interval[0], 3)} to {format_number(metric.interval[1], 3)})"
    return Shown(text)
