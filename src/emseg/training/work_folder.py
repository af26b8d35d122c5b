"""The folder of one training, written so that a kill at any moment loses nothing but steps.

    settings.json        what determines the weights (design, plan, data, start); another training's folder is refused
    curves.csv           one row per step: loss and learning rate
    validation.csv       one row per validation
    checkpoint.pt        what an interrupted training resumes from: numbers and no code; removed at the end
    weights.safetensors  the final weights
    finished.json        what the training took; a folder that has it is not trained again

Every file is replaced in one step. Rows of the curves that are newer than the checkpoint are dropped on resuming.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.files import atomic_path, digest_of_file, read_json, write_atomically, write_json

SETTINGS, CURVES, VALIDATION = "settings.json", "curves.csv", "validation.csv"
CHECKPOINT, WEIGHTS, FINISHED = "checkpoint.pt", "weights.safetensors", "finished.json"
STEP, SECONDS, LEARNING_RATE, LOSS = "step", "seconds", "learning_rate", "loss"
Rows = Sequence[Mapping[str, float]]
Columns = dict[str, list[float]]
_REPAIR = "Free some space and run again: the training resumes from its last checkpoint."


def require_same_settings(work_dir: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `UsageError` if the folder contains a training with other settings; the values are JSON's."""
    before = read_json(work_dir / SETTINGS) if (work_dir / SETTINGS).is_file() else settings
    for part, values in settings.items():
        theirs = before.get(part, {})
        for name in sorted({*values, *theirs}):
            if values.get(name) != theirs.get(name):
                raise UsageError(
                    f"a work folder contains one training; {work_dir} has one with {part} {name}="
                    f"{json.dumps(theirs.get(name))}, but {json.dumps(values.get(name))} was requested. "
                    "Use another folder, or resume=False to train anew."
                )


def begin(work_dir: Path, settings: Mapping[str, Mapping[str, Any]], *, resume: bool) -> None:
    """Make the folder, or check that it contains this training; without `resume` its earlier content is removed."""
    work_dir.mkdir(parents=True, exist_ok=True)
    if resume:
        require_same_settings(work_dir, settings)
    else:
        for name in (FINISHED, CHECKPOINT, WEIGHTS, CURVES, VALIDATION):
            (work_dir / name).unlink(missing_ok=True)
    write_json(work_dir / SETTINGS, settings, repair=_REPAIR)


def read_checkpoint(work_dir: Path) -> dict[str, Any] | None:
    """Return the checkpoint, None where there is none; it contains at least step, seconds, network and optimizer."""
    path = work_dir / CHECKPOINT
    if not path.is_file():
        return None
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own sentence advises to run the file's program
        what = type(error).__name__
        raise InputError(f"{path} is not a checkpoint of a training ({what}). Remove it to start again.") from None
    if missing := {"step", "seconds", "network", "optimizer"} - set(kept if isinstance(kept, dict) else ()):
        raise InputError(f"{path} is not a checkpoint of a training: it lacks {', '.join(sorted(missing))}. Remove it.")
    return kept


def write_checkpoint(work_dir: Path, checkpoint: Mapping[str, Any]) -> None:
    """Replace the checkpoint by one with all that the next step depends on."""
    content = io.BytesIO()  # torch would turn a full disk into an error of its own that names no file
    torch.save(dict(checkpoint), content)
    write_atomically(work_dir / CHECKPOINT, content.getvalue(), repair=_REPAIR)


def finish(
    work_dir: Path, weights: Mapping[str, Tensor], took: Mapping[str, Any], header: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write the weights, mark the training as finished, drop the checkpoint; return what `read_finished` will."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(work_dir / WEIGHTS, save(tensors, metadata=dict(header or {})), repair=_REPAIR)
    finished = {**took, "weights_sha256": digest_of_file(work_dir / WEIGHTS)}
    write_json(work_dir / FINISHED, finished, repair=_REPAIR)
    (work_dir / CHECKPOINT).unlink(missing_ok=True)
    return finished


def read_finished(work_dir: Path) -> dict[str, Any] | None:
    """Return what a finished training took, with its `weights_sha256`; None where it is not finished."""
    path = work_dir / FINISHED
    return dict(read_json(path)) if path.is_file() else None


def append_rows(path: Path, rows: Rows) -> None:
    """Append rows to a CSV file, with the column names before the first."""
    if not rows:
        return
    try:
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if not path.stat().st_size:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}. {_REPAIR}") from error


def read_columns(path: Path) -> Columns:
    """Return the columns of a CSV file; an incomplete last line is left out."""
    header, *rows = [line.strip().split(",") for line in _whole_lines(path)] or [[]]
    return {name: [float(row[place]) for row in rows] for place, name in enumerate(header)}


def keep_rows(path: Path, last_step: int) -> None:
    """Drop the rows after `last_step` from a CSV file whose first column is the step."""
    if not path.exists():
        return
    header, *rows = _whole_lines(path) or [""]
    kept = [line for line in rows if int(line.split(",")[0]) <= last_step]
    with atomic_path(path, repair=_REPAIR) as new:
        new.write_text("".join([header, *kept]) if kept else "")


class CurveWriter:
    """Writes the losses of every step to `curves.csv` of a work folder.

    Losses stay on the device and are read `interval` steps at a time, because each read makes the CPU wait for a GPU.
    Only one process of several `writes`.
    """

    def __init__(self, work_dir: Path, *, writes: bool = True, interval: int = 20) -> None:
        self.path, self.writes, self.interval = work_dir / CURVES, writes, interval
        self._waiting: list[tuple[int, float, float, Mapping[str, Any]]] = []

    def note(self, step: int, seconds: float, learning_rate: float, losses: Mapping[str, Any]) -> bool:
        """Add a step, counted from 1; return whether `interval` steps are waiting to be written."""
        values = {name: value.detach() if isinstance(value, Tensor) else value for name, value in losses.items()}
        self._waiting.append((step, seconds, learning_rate, values))
        return len(self._waiting) >= self.interval

    def write(self) -> Rows:
        """Write and return the waiting rows; raise `UsageError` where the loss is not finite."""
        rows = [
            {STEP: step, SECONDS: round(seconds, 3), LEARNING_RATE: rate}
            | {name: float(value) for name, value in losses.items()}
            for step, seconds, rate, losses in self._waiting
        ]
        self._waiting.clear()
        bad = next((row for row in rows if not math.isfinite(row[LOSS])), None)
        if bad is not None:
            raise UsageError(
                f"the loss must stay finite; it was {bad[LOSS]} at step {bad[STEP]}. Lower `learning_rate`, lengthen "
                "`warm_up_steps` or set `gradient_clip`; in fp16, take bf16 or fp32."
            )
        if self.writes:
            append_rows(self.path, rows)
        return rows


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("\n")]
