"""What a training leaves on the disk while it runs: one checkpoint to go on from, and the curves of its losses.

Both are written so that a kill at any moment loses nothing but steps. The checkpoint replaces the one before it in one
move. The curves are a CSV of one row a step; on going on, the rows after the checkpoint's step are dropped.

Losses stay on the device and are read every `interval` steps, because each look makes the CPU wait for a GPU.
"""

import csv
import math
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from emseg.errors import UsageError

CURVES = "curves.csv"
STEP, SECONDS, LEARNING_RATE = "step", "seconds", "learning_rate"


def read_curves(path: Path, *, last_step: int | None = None) -> dict[str, list[float]]:
    """Return the columns of a CSV of curves, up to `last_step`; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    whole = [row for row in rows if len(row) == len(header)]
    if last_step is not None:
        whole = [row for row in whole if int(row[0]) <= last_step]
    return {name: [float(row[place]) for row in whole] for place, name in enumerate(header)}


@HOOKS.register_module()
class ResumePointHook(Hook):  # type: ignore[misc]
    """Saves the one checkpoint of a run every `interval` epochs or steps, and at the end."""

    priority = "VERY_LOW"  # after the learning rate of the next step is set

    def __init__(self, interval: int, by_epoch: bool) -> None:
        self.interval = interval
        self.by_epoch = by_epoch

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save after every `interval` steps."""
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            runner.save_resume_point(epoch=runner.epoch, step=runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Save after every `interval` epochs."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            runner.save_resume_point(epoch=runner.epoch + 1, step=runner.iter)


@HOOKS.register_module()
class CurvesHook(Hook):  # type: ignore[misc]
    """Writes every step's losses to `curves.csv` in the work folder, and to TensorBoard where that is switched on."""

    priority = "NORMAL"  # before ParamSchedulerHook: the learning rate is the one that the step used

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._waiting: list[tuple[int, float, float, dict[str, Any]]] = []

    def before_train(self, runner: Any) -> None:
        """Keep the rows of the steps that the checkpoint has, and start the clock."""
        self._path = Path(runner.work_dir) / CURVES
        self._started = time.perf_counter() - runner.seconds_before
        kept = read_curves(self._path, last_step=runner.iter) if runner.iter else {}
        if runner.rank == 0:
            with self._path.open("w", newline="") as file:
                if kept:
                    writer = csv.writer(file)
                    writer.writerow(kept)
                    writer.writerows([int(row[0]), *row[1:]] for row in zip(*kept.values(), strict=True))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the losses of a step; write them when it is time."""
        losses = {name: value.detach() if hasattr(value, "detach") else value for name, value in outputs.items()}
        rate = runner.optim_wrapper.get_lr()["lr"][0]
        runner.seconds = time.perf_counter() - self._started
        self._waiting.append((runner.iter + 1, runner.seconds, rate, losses))
        runner.report_progress(runner.iter + 1)
        if len(self._waiting) >= self.interval:
            self._write(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write what a checkpoint's steps have found before the checkpoint says that they are done."""
        self._write(runner)

    def after_train(self, runner: Any) -> None:
        """Write the rest."""
        self._write(runner)

    def _write(self, runner: Any) -> None:
        if not self._waiting:
            return
        rows = [
            {STEP: step, SECONDS: round(seconds, 3), LEARNING_RATE: rate}
            | {name: float(value) for name, value in losses.items()}
            for step, seconds, rate, losses in self._waiting
        ]
        self._waiting.clear()
        bad = next((row for row in rows if not math.isfinite(row["loss"])), None)
        if bad is not None:
            raise UsageError(
                f"the loss must stay finite; it was {bad['loss']} at step {bad[STEP]}. Lower `learning_rate`, lengthen "
                "`warm_up_steps` or set `gradient_clip`; in fp16, take bf16 or fp32."
            )
        if runner.rank == 0:
            empty = self._path.stat().st_size == 0
            with self._path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                if empty:
                    writer.writeheader()
                writer.writerows(rows)
            for row in rows:
                runner.visualizer.add_scalars(row, step=int(row[STEP]))
