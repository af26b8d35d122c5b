"""Many small networks, trained side by side, each score kept as soon as it is known.

A **cell** is one network: a design, a seed, a training, a device. Its score is written to a file named after all that
it depends on: the cell itself, the code that trains (`emseg.runs.digest`) and torch's version. So a run that was
killed goes on where it stopped, a larger run reuses the cells of a smaller one, and a change of the code makes all
scores old at once. Without a folder nothing is kept.
"""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import torch

from chapters.wafer_dataset.section_quality import (
    NetworkDesign,
    Score,
    Training,
    held_out_crops,
    train_and_score,
    training_crops,
)
from emseg.errors import UsageError
from emseg.files import digest_of, find_root, write_atomically
from emseg.runs.digest import library_digest
from emseg.synthetic.wafer.section_crops import CropSet

NOWHERE = "none"
_TRAINER = "chapters.wafer_dataset.section_quality"


@dataclass(frozen=True)
class Cell:
    """One network to train."""

    design: NetworkDesign
    seed: int
    training: Training
    device: str


@dataclass(frozen=True)
class Scores:
    """The score of each cell, and how many of them had been kept by an earlier run."""

    by_cell: dict[Cell, Score]
    n_kept: int

    def accuracy(self, cells: Iterable[Cell]) -> list[float]:
        """Return the held-out accuracies of these cells, in order."""
        return [self.by_cell[cell].accuracy for cell in cells]


def cells_folder(name: str) -> Path | None:
    """Return the folder that keeps scores: `name` below the project's root or as it stands; None for "none"."""
    if name == NOWHERE:
        return None
    path = Path(name)
    return path if path.is_absolute() else find_root() / path


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda": "auto" takes CUDA where there is one."""
    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(f"`device` must be auto, cpu or cuda; got {name!r}.")
    if name == "cuda" and not available:
        raise UsageError('no CUDA device is here; use device="cpu", or "auto".')
    return name


def score_cells(
    cells: Sequence[Cell], folder: Path | None, *, n_workers: int, crops: tuple[CropSet, CropSet] | None = None
) -> Scores:
    """Return the scores of all `cells`, training those that `folder` does not hold, `n_workers` at a time.

    All cells must share one training, for they share the crops: `crops` holds those to learn from and those held out,
    where they are at hand.
    """
    wanted = list(dict.fromkeys(cells))
    trainings = {cell.training for cell in wanted}
    if len(trainings) != 1:
        raise UsageError(f"the cells must share one training; got {len(trainings)}. Score each kind by itself.")
    if n_workers < 1:
        raise UsageError(f"`n_workers` must be at least 1; got {n_workers}.")
    found = {cell: score for cell in wanted if (score := _kept(cell, folder)) is not None}
    waiting = [cell for cell in wanted if cell not in found]
    n_kept = len(found)
    if waiting:
        (training,) = trainings
        train, held_out = crops or (training_crops(training), held_out_crops(training))
        if n_workers == 1:
            found |= {cell: _score(cell, train, held_out, folder) for cell in waiting}
        else:
            found |= _side_by_side(waiting, train, held_out, folder, min(n_workers, len(waiting)))
    return Scores({cell: found[cell] for cell in wanted}, n_kept)


def _side_by_side(
    cells: Sequence[Cell], train: CropSet, held_out: CropSet, folder: Path | None, n_workers: int
) -> dict[Cell, Score]:
    context = get_context("spawn")  # a forked process must not touch CUDA
    found = {}
    with ProcessPoolExecutor(n_workers, context, _take_crops, (train, held_out)) as pool:
        futures: dict[Future[Score], Cell] = {pool.submit(_score_with_taken, cell, folder): cell for cell in cells}
        try:
            for future in as_completed(futures):
                found[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


_taken: dict[str, tuple[CropSet, CropSet]] = {}  # of a worker process, set once when it starts


def _take_crops(train: CropSet, held_out: CropSet) -> None:
    _taken["crops"] = (train, held_out)


def _score_with_taken(cell: Cell, folder: Path | None) -> Score:
    return _score(cell, *_taken["crops"], folder)


def _score(cell: Cell, train: CropSet, held_out: CropSet, folder: Path | None) -> Score:
    score = train_and_score(cell.design, cell.training, train, held_out, seed=cell.seed, device=cell.device)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        entry = {"cell": _plain(cell), "score": asdict(score), "torch": torch.__version__, "code": _code_digest()}
        write_atomically(_file(cell, folder), json.dumps(entry, indent=1) + "\n")
    return score


def _kept(cell: Cell, folder: Path | None) -> Score | None:
    """Return the score that was kept; a file that cannot be read counts as none, and is written anew."""
    if folder is None:
        return None
    try:
        entry = json.loads(_file(cell, folder).read_text(encoding="utf-8"))
        score = entry["score"]
        return Score(score["accuracy"], score["loss"], tuple(score["recall"]), score["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(cell: Cell, folder: Path) -> Path:
    key = digest_of(json.dumps(_plain(cell), sort_keys=True), torch.__version__, _code_digest())
    return folder / f"section-quality-{key}.json"


def _plain(cell: Cell) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(cell)))  # type: ignore[no-any-return]


@cache
def _code_digest() -> str:
    """Return the digest of all code that a score depends on."""
    cell = nbformat.v4.new_code_cell(f"import {_TRAINER}")
    return library_digest(nbformat.v4.new_notebook(cells=[cell]), "fanet/channel_attention")


def available_workers(asked: int) -> int:
    """Return `asked`, or as many as there are cores where that is fewer."""
    return max(1, min(asked, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
