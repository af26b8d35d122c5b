"""One cell of Table 2 from end to end: train a detector, let it predict, keep both.

The work folder of a training is named by all that decides its weights: design, schedule, data, split, and the code
that trains. So a killed run is gone on with, a finished one is not repeated, and a change of the code starts afresh.
Detections are kept beside the weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chapters.fanet_training.training_data import FRESH_SPLIT, TrainingData
from emseg.errors import UsageError
from emseg.files import digest_of, find_root
from emseg.runs.session import Run
from emseg.source_code import PACKAGE_ROOT, code_tree
from emseg.wafer.detector.design import DetectorDesign
from emseg.wafer.detector.prediction import load_detections, predict_folder, write_detections
from emseg.wafer.detector.schedule import SCHEDULES, TrainingSchedule, settings_of
from emseg.wafer.detector.training import TrainedDetector, train_detector
from emseg.wafer.formats.benchmark_folder import Benchmark
from emseg.wafer.scores import DetectionScores, score_detections
from emseg.wafer.splits import VALIDATION

# What decides the weights: a change there makes a kept training old.
_TRAINING_CODE = ("wafer/detector/*.py", "frequency/attention/*.py", "frequency/*.py")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A trained detector with its detections (COCO's results) and its scores for each part of the data."""

    trained: TrainedDetector
    detections: Mapping[str, list[dict[str, Any]]]
    scores: Mapping[str, DetectionScores]
    work_dir: Path


def attention_options(attention: str, *, reduction: int, indexing: str, normalization: str) -> dict[str, object]:
    """Return those of the options that this attention has: ECA and none have none, and only FANet the last two."""
    if attention not in ("se", "fca", "fanet"):
        return {}
    open_choices = {"indexing": indexing, "normalization": normalization} if attention == "fanet" else {}
    return {"reduction": reduction, **open_choices}


def make_schedule(
    name: str, *, n_steps: int = 0, batch: int = 0, learning_rate: float = 0.0, **changes: Any
) -> TrainingSchedule:
    """Return the schedule of this name with changes; 0 leaves steps, batch and learning rate as the schedule has them.

    Fewer steps than the schedule's warm-up needs shorten the warm-up to a tenth of them.
    """
    schedule = SCHEDULES[name]
    if n_steps:
        if schedule.steps is None:
            raise UsageError(
                f"schedule {name!r} is counted in epochs; got n_steps={n_steps}. Use 0, or schedule 'small'."
            )
        schedule = schedule.changed(steps=n_steps, warm_up_steps=min(schedule.warm_up_steps, max(1, n_steps // 10)))
    if batch:
        schedule = schedule.changed(batch_size=batch)
    if learning_rate:
        schedule = schedule.changed(learning_rate=learning_rate)
    return schedule.changed(**changes)


def train_and_score(
    design: DetectorDesign,
    schedule: TrainingSchedule,
    data: TrainingData,
    folder: str | Path,
    *,
    n_resamples: int = 1000,
    progress: bool = True,
) -> Outcome:
    """Train `design` on `data` in a folder below `folder`, predict and score every part; what is there is not repeated.

    A relative `folder` is below the project's root.
    """
    place = Path(folder) if Path(folder).is_absolute() else find_root() / folder
    work_dir = place / work_name(design, schedule, data)
    trained = train_detector(design, schedule, data.benchmark.folder, data.split, work_dir, progress=progress)
    detections, scores = {}, {}
    for part in data.parts:
        benchmark, split = (data.fresh, FRESH_SPLIT) if part == "fresh" else (data.benchmark, data.split)
        detections[part] = _predicted(trained, benchmark, split, work_dir / f"detections-{part}.json")
        scores[part] = score_detections(data.truth(part), detections[part], n_resamples=n_resamples, seed=schedule.seed)
    return Outcome(trained, detections, scores, work_dir)


def work_name(design: DetectorDesign, schedule: TrainingSchedule, data: TrainingData) -> str:
    """Return a name that says the cell and ends in a digest of all that decides the weights."""
    files = sorted({path for pattern in _TRAINING_CODE for path in PACKAGE_ROOT.glob(pattern)})
    code = digest_of(*(code_tree(path.read_text(encoding="utf-8")) for path in files))
    settings = [
        design.to_dict(),
        dict(settings_of(schedule)),
        data.benchmark.fingerprint,
        data.split,
        torch.__version__,
    ]
    digest = digest_of(code, json.dumps(settings, sort_keys=True, default=list))
    return f"{design.detector}-{design.depth}-{design.attention}-{data.split}-seed{schedule.seed}-{digest[:10]}"


def losses_by_step(trained: TrainedDetector) -> dict[str, tuple[list[float], list[float]]]:
    """Return the steps and values of the parts of the loss, by their names without "loss_"."""
    steps = trained.curves["step"]
    parts = {name: values for name, values in trained.curves.items() if name.startswith("loss_") or "_loss" in name}
    return {name.replace("loss_", "").replace("_", " "): (steps, values) for name, values in parts.items()}


def report_training(run: Run, trained: TrainedDetector) -> None:
    """Note what the training took and how it ended."""
    steps = len(trained.curves["step"])
    last = trained.curves["loss"][-max(1, steps // 10) :]
    run.metric("n_parameters", trained.n_parameters, n=1, label="Parameters of the detector")
    run.metric("n_steps", steps, n=1, label="Training steps")
    run.metric("final_loss", sum(last) / len(last), n=len(last), label="Loss, mean over the last tenth of the steps")
    run.metric("training_seconds", trained.seconds, unit="s", n=1, label="Time of training")
    run.metric(
        "images_per_second", trained.images_per_second, unit="images/s", n=steps, label="Images trained on a second"
    )


def _predicted(trained: TrainedDetector, benchmark: Benchmark | None, split: str, file: Path) -> list[dict[str, Any]]:
    if benchmark is None:
        raise UsageError("there is nothing to predict on.")
    if not file.is_file():
        schedule = trained.schedule
        results = predict_folder(
            trained.model, benchmark.folder, split, VALIDATION, scale=schedule.scale, precision=schedule.precision
        )
        unfinished = file.with_suffix(".part")
        write_detections(results, unfinished)
        unfinished.replace(file)
    return load_detections(file)
