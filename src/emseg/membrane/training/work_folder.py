"""The folder of one training, written so that a kill at any moment loses nothing but steps.

    settings.json        what decides the weights: design, plan, data, start; another training's folder is refused
    curves.csv           a row a step: loss and learning rate
    validation.csv       a row a look at the validation images
    checkpoint.pt        what a killed training goes on from: numbers and no code; removed when it is done
    weights.safetensors  the weights in the end
    finished.json        what it took; a folder that has it is not trained again

Files are written beside their place and moved there. Rows of the curves that are younger than the checkpoint are
dropped on going on.
"""

import csv
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError

SETTINGS, CURVES, VALIDATION = "settings.json", "curves.csv", "validation.csv"
CHECKPOINT, WEIGHTS, FINISHED = "checkpoint.pt", "weights.safetensors", "finished.json"
Rows = Sequence[Mapping[str, float]]
Columns = dict[str, list[float]]


def write_then_move(save: Callable[[Path], object], path: Path) -> None:
    """Let `save` write a new file beside `path` and move it there, so that `path` is never half written."""
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        save(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.name} could not be written to {path.parent}: {error.strerror or error}. Free some space and run "
            "again: the training goes on from its last checkpoint."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def begin(work_dir: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Make the folder, or see that it holds this training; without `resume` what it holds is removed."""
    work_dir.mkdir(parents=True, exist_ok=True)
    if resume:
        _require_same_settings(work_dir, settings)
    else:
        for name in (FINISHED, CHECKPOINT, WEIGHTS, CURVES, VALIDATION):
            (work_dir / name).unlink(missing_ok=True)
    write_then_move(lambda path: path.write_text(json.dumps(settings, indent=1) + "\n"), work_dir / SETTINGS)


def _require_same_settings(work_dir: Path, settings: Mapping[str, Any]) -> None:
    path = work_dir / SETTINGS
    if not path.is_file():
        return
    before = _read_json(path)
    for part, values in settings.items():
        theirs = before.get(part, {})
        for name in sorted({*values, *theirs}):
            if values.get(name) != theirs.get(name):
                raise UsageError(
                    f"a work folder holds one training; {work_dir} has one of {part} {name}="
                    f"{json.dumps(theirs.get(name))}, asked for was {json.dumps(values.get(name))}. "
                    "Use another folder, or resume=False to train anew."
                )


def read_checkpoint(work_dir: Path) -> dict[str, Any] | None:
    """Return what the training was left with, None where it has not begun."""
    path = work_dir / CHECKPOINT
    if not path.is_file():
        return None
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"step", "seconds", "network", "optimizer"} - set(kept)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no checkpoint of a training ({type(error).__name__}). Remove it to start again."
        ) from None
    if missing:
        raise InputError(f"{path} is no checkpoint of a training: it lacks {', '.join(sorted(missing))}. Remove it.")
    return kept


def write_checkpoint(work_dir: Path, checkpoint: Mapping[str, Any]) -> None:
    """Keep all that the next step depends on, in place of what was kept before."""
    write_then_move(lambda path: torch.save(dict(checkpoint), path), work_dir / CHECKPOINT)


def finish(
    work_dir: Path, weights: Mapping[str, Tensor], took: Mapping[str, Any], header: Mapping[str, str] | None = None
) -> None:
    """Write the weights with what the file's header says, then say that they are there, then drop the checkpoint."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_then_move(lambda path: save_file(tensors, path, metadata=dict(header or {})), work_dir / WEIGHTS)
    digest = hashlib.sha256((work_dir / WEIGHTS).read_bytes()).hexdigest()
    text = json.dumps({**took, "weights_sha256": digest}, indent=1) + "\n"
    write_then_move(lambda path: path.write_text(text), work_dir / FINISHED)
    (work_dir / CHECKPOINT).unlink(missing_ok=True)


def read_finished(work_dir: Path) -> dict[str, Any] | None:
    """Return what a finished training took, None where it is not finished."""
    path = work_dir / FINISHED
    return _read_json(path) if path.is_file() else None


def append_rows(path: Path, rows: Rows) -> None:
    """Add rows to a CSV, with the names of the columns before the first."""
    if not rows:
        return
    empty = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if empty:
            writer.writeheader()
        writer.writerows(rows)


def read_columns(path: Path, *, last_step: int | None = None) -> Columns:
    """Return the columns of a CSV, up to `last_step`; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    lines = path.read_text().splitlines(keepends=True)
    whole = [line.strip().split(",") for line in lines if line.endswith("\n")]
    header, *rows = whole or [[]]
    if last_step is not None:
        rows = [row for row in rows if int(row[0]) <= last_step]
    return {name: [float(row[place]) for row in rows] for place, name in enumerate(header)}


def keep_rows(path: Path, last_step: int) -> None:
    """Drop the rows after `last_step` from a CSV whose first column is the step."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) <= last_step]
    write_then_move(lambda new: new.write_text("".join([*lines[:1], *kept]) if kept else ""), path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON ({error}). Use another work folder.") from error
    return content
