"""What happens between the steps: curves, looks at the validation images, checkpoints, a line of progress.

None of it changes the training: it draws nothing, and leaves the network in training mode.

Losses stay on the device and are read `_ROWS` at a time, because each look makes the CPU wait for a GPU.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from emseg.errors import UsageError
from emseg.membrane.dataset import MembraneImage, Window
from emseg.membrane.training import work_folder
from emseg.membrane.training.devices import peak_memory_mib
from emseg.membrane.training.module import MembraneModule
from emseg.membrane.training.prediction import predict_membrane
from emseg.membrane.training.validation import ThresholdCurve, level_counts, threshold_curve, to_levels

_ROWS = 20


class Steps(Callback):
    """Notes the loss of each step, stops where it is no number, and keeps a checkpoint every so often and at the end.

    `seconds_before`: what the training took until it was interrupted.
    """

    def __init__(self, work_dir: Path, seconds_before: float, progress: bool) -> None:
        self.work_dir, self.seconds_before, self.progress = work_dir, seconds_before, progress
        self._waiting: list[tuple[int, float, float, torch.Tensor]] = []
        self._bar: tqdm[Any] | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Compute with one thread in a forked process: OpenMP's threads stay behind, and it would wait for them."""
        launcher = trainer.strategy.launcher
        if launcher is not None and launcher.is_interactive_compatible:  # only forked processes are
            torch.set_num_threads(1)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        assert isinstance(module, MembraneModule)
        self._began = self._kept = time.perf_counter()
        if trainer.is_global_zero:
            n_steps, done = module.plan.n_steps, module.first_step
            disable = None if self.progress else True  # None: only on a terminal
            self._bar = tqdm(total=n_steps, initial=done, unit="step", disable=disable, leave=False)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step; write what is noted and keep a checkpoint when it is time."""
        assert isinstance(module, MembraneModule)
        step = module.first_step + batch_idx + 1
        now = time.perf_counter()
        seconds = self.seconds_before + now - self._began
        self._waiting.append((step, seconds, module.learning_rate(step - 1), outputs["loss"].detach()))
        if self._bar is not None:
            self._bar.update()
        last = step == module.plan.n_steps
        due = now - self._kept >= module.plan.checkpoint_seconds
        if last or due or len(self._waiting) >= _ROWS:
            self._write(trainer)
        if trainer.is_global_zero and (last or due):
            self._kept = now
            work_folder.write_checkpoint(
                self.work_dir,
                {
                    "step": step,
                    "seconds": seconds,
                    "peak_memory_mib": peak_memory_mib(module.device),
                    "network": module.network.state_dict(),
                    "optimizer": trainer.optimizers[0].state_dict(),
                    "precision": trainer.precision_plugin.state_dict(),
                },
            )

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Take the line of progress away."""
        if self._bar is not None:
            self._bar.close()

    def _write(self, trainer: Trainer) -> None:
        rows = [
            {"step": step, "seconds": round(seconds, 3), "learning_rate": rate, "loss": float(loss)}
            for step, seconds, rate, loss in self._waiting
        ]
        self._waiting.clear()
        bad = next((row for row in rows if not math.isfinite(row["loss"])), None)
        if bad is not None:
            raise UsageError(
                f"the loss must stay finite; it was {bad['loss']} at step {bad['step']}. Lower `learning_rate`, "
                "lengthen `warm_up_steps` or set `gradient_clip`; in fp16, take bf16 or fp32."
            )
        if trainer.is_global_zero:
            work_folder.append_rows(self.work_dir / work_folder.CURVES, rows)
            for logger in trainer.loggers:
                for row in rows:
                    logger.log_metrics({"loss": row["loss"], "learning_rate": row["learning_rate"]}, int(row["step"]))


class Validation(Callback):
    """Every `every` steps and at the end, looks at the middle of each validation image."""

    def __init__(
        self, work_dir: Path, images: Sequence[MembraneImage], *, every: int, size: int, precision: str
    ) -> None:
        self.work_dir, self.images, self.every, self.size, self.precision = work_dir, images, every, size, precision

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the scores when it is time."""
        assert isinstance(module, MembraneModule)
        step = module.first_step + batch_idx + 1
        if not trainer.is_global_zero or (step % self.every and step != module.plan.n_steps):
            return
        curve = validate(module, self.images, size=self.size, precision=self.precision)
        row = {
            "step": step,
            "membrane_f1": curve.f1_at(0.5),
            "best_membrane_f1": curve.best_f1,
            "best_threshold": curve.best_threshold,
        }
        work_folder.append_rows(self.work_dir / work_folder.VALIDATION, [row])
        for logger in trainer.loggers:
            logger.log_metrics({name: value for name, value in row.items() if name != "step"}, step)


def validate(module: MembraneModule, images: Sequence[MembraneImage], *, size: int, precision: str) -> ThresholdCurve:
    """Return how F1 depends on the threshold in the middle `size` pixels of each image."""
    counts = []
    for image in images:
        window = middle(image, size)
        probability = predict_membrane(module.network, image.read(window), precision=precision)
        counts.append(level_counts(to_levels(probability), image.read_membrane(window)))
    return threshold_curve(counts)


def middle(image: MembraneImage, size: int) -> Window:
    """Return the window of at most `size` pixels a side in the middle of an image."""
    rows, columns = (
        slice((length - min(size, length)) // 2, (length - min(size, length)) // 2 + min(size, length))
        for length in (image.height, image.width)
    )
    return rows, columns
