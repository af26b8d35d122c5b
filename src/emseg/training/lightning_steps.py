"""The steps of a plan run by Lightning in a work folder: optimizer, seeds, curves, validation, checkpoints, progress.

An interrupted training resumes, on a CPU and with the same number of threads to the same bits: batches are functions of
seed and step (`steps`), and the checkpoint contains everything else that a step depends on (`work_folder`). Lightning's
own checkpoints, which pickle objects and count epochs, are not used.

With several devices each takes an equal part of every step's batch, and batch normalisation sees that part alone, as do
the curves: the first device's. This is tested with processes on a CPU, not on several GPUs.
"""

import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from emseg.errors import InputError, UsageError
from emseg.training import work_folder
from emseg.training.devices import LIGHTNING_PRECISION, device_name
from emseg.training.memory_use import clear_memory_error, peak_memory_mib
from emseg.training.steps import step_seed

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
_ERRORS = {error.__name__: error for error in (UsageError, InputError, torch.OutOfMemoryError)}
_RAISED = re.compile(rf"^(?:emseg\.errors|torch)\.({'|'.join(_ERRORS)}): (.*)", re.MULTILINE)


class StepTask(Protocol):
    """What is trained."""

    def batches(self, process: int, n_processes: int) -> Dataset[Any]:
        """Return a data set whose index is the number of a step; this process's part of each batch."""

    def prepared(self, batch: Any) -> Any:
        """Return a batch as the network sees it; called on the device, outside autocast."""

    def losses(self, network: Any, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Return the "loss" of a prepared batch, and what else the curves record; called under autocast."""


class StepModule(LightningModule):
    """A network in training by a plan, resumed from the work folder's checkpoint if there is one.

    The plan has `n_steps`, `batch_size`, `crop_size`, `optimizer`, `learning_rate`, `weight_decay`, `seed`,
    `n_workers`, `checkpoint_seconds` and `rate_at(step)`, the learning rate of a step from 0. `look` returns the scores
    of the network on validation images, every `look_every` steps (0: never) and at the end. It changes nothing: it
    draws no numbers, and leaves the network in training mode.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Any,
        task: StepTask,
        work_dir: Path,
        *,
        look: Callable[[Any], Mapping[str, float]] | None,
        look_every: int,
        progress: bool,
    ) -> None:
        super().__init__()
        self.network, self.plan, self.task, self.work_dir = network, plan, task, work_dir
        self.look, self.look_every, self.progress = look if look_every else None, look_every, progress
        self.kept = work_folder.read_checkpoint(work_dir)
        self.first_step = 0 if self.kept is None else int(self.kept["step"])
        self._bar: tqdm[Any] | None = None

    def setup(self, stage: str) -> None:
        """Compute with one thread in a forked process: OpenMP's threads stay behind, and it would wait for them."""
        launcher = self.trainer.strategy.launcher
        if launcher is not None and launcher.is_interactive_compatible:  # only forked processes are
            torch.set_num_threads(1)

    def train_dataloader(self) -> "DataLoader[Any]":
        """Return this process's part of the remaining steps."""
        return DataLoader(
            self.task.batches(self.trainer.global_rank, self.trainer.world_size),
            batch_size=None,
            sampler=range(self.first_step, self.plan.n_steps),
            num_workers=self.plan.n_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of all weights that learn, in the checkpoint's state."""
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        make = OPTIMIZERS[self.plan.optimizer]
        optimizer = make(weights, lr=self.plan.learning_rate, weight_decay=self.plan.weight_decay)
        if self.kept is not None:
            optimizer.load_state_dict(self.kept["optimizer"])
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate and the seed of the next step."""
        step = self.first_step + batch_idx
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.plan.rate_at(step)
        torch.manual_seed(step_seed(self.plan.seed, step, self.global_rank))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch as the network sees it."""
        return self.task.prepared(batch)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of a step."""
        return dict(self.task.losses(self.network, batch, self.first_step + batch_idx))

    def on_train_start(self) -> None:
        """Start the clock."""
        self._began = self._saved = time.perf_counter()
        self._curves = work_folder.CurveWriter(self.work_dir, writes=self.trainer.is_global_zero)
        if self.trainer.is_global_zero:
            disable = None if self.progress else True  # None: only on a terminal
            total, done = self.plan.n_steps, self.first_step
            self._bar = tqdm(total=total, initial=done, unit="step", disable=disable, leave=False)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Validate, record the step, and save a checkpoint, each where it is due."""
        step, first = self.first_step + batch_idx + 1, self.trainer.is_global_zero
        last = step == self.plan.n_steps
        # first, so that no checkpoint claims a validation that is not written
        if first and self.look is not None and (last or step % self.look_every == 0):
            row = {work_folder.STEP: step, **self.look(self.network)}
            work_folder.append_rows(self.work_dir / work_folder.VALIDATION, [row])
        now = time.perf_counter()
        seconds = now - self._began + (0.0 if self.kept is None else float(self.kept["seconds"]))
        full = self._curves.note(step, seconds, self.plan.rate_at(step - 1), outputs)
        if self._bar is not None:
            self._bar.update()
        due = last or now - self._saved >= self.plan.checkpoint_seconds
        if due or full:
            self._curves.write()
        if first and due:
            self._saved = now
            checkpoint = {
                "step": step,
                "seconds": seconds,
                "peak_memory_mib": peak_memory_mib(self.device),
                "network": self.network.state_dict(),
                "optimizer": self.trainer.optimizers[0].state_dict(),
                "precision": self.trainer.precision_plugin.state_dict(),
            }
            work_folder.write_checkpoint(self.work_dir, checkpoint)

    def teardown(self, stage: str) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()


def run_steps(
    network: nn.Module,
    plan: Any,
    task: StepTask,
    work_dir: Path,
    *,
    device: torch.device,
    precision: str,
    n_devices: int = 1,
    gradient_clip: float = 0.0,
    look: Callable[[Any], Mapping[str, float]] | None = None,
    look_every: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the remaining steps of a plan (see `StepModule`) and return the last checkpoint: "network", "seconds", ...

    Raises `InputError` where the folder's checkpoint is of another network, `UsageError` where the loss is not finite
    or memory does not suffice.
    """
    module = StepModule(network, plan, task, work_dir, look=look, look_every=look_every, progress=progress)
    kept = module.kept
    if kept is not None:
        try:
            network.load_state_dict(kept["network"])
        except RuntimeError:
            raise InputError(
                f"{work_dir / work_folder.CHECKPOINT} is of another network than {work_dir / work_folder.SETTINGS} "
                "states. Remove it to start again."
            ) from None
    for name in (work_folder.CURVES, work_folder.VALIDATION):
        work_folder.keep_rows(work_dir / name, module.first_step)
    if module.first_step < plan.n_steps:
        strategy = "auto"
        if n_devices > 1:
            # processes are forked in a notebook, where a new one could not find the notebook's own names
            strategy = "ddp_notebook" if _in_notebook() else "ddp_spawn"
        trainer = Trainer(
            accelerator="cpu" if device.type == "cpu" else "cuda",
            devices=n_devices if n_devices > 1 or device.type == "cpu" else [device.index or 0],
            strategy=strategy,
            precision=LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]
            max_epochs=1,
            gradient_clip_val=gradient_clip or None,
            logger=False,
            default_root_dir=work_dir,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        if kept is not None:
            trainer.precision_plugin.load_state_dict(kept.get("precision", {}))
        repair = f"Use a smaller batch_size (now {plan.batch_size}) or crop_size (now {plan.crop_size})"
        repair += "." if precision == "bf16" else ", or precision='bf16'."
        with quiet_lightning(device), clear_memory_error(device_name(device), repair):
            trainer.fit(module)
    done = work_folder.read_checkpoint(work_dir)
    if done is None or done["step"] != plan.n_steps:
        raise UsageError(f"the training in {work_dir} was stopped before its end. Call it again to resume.")
    return done


@contextmanager
def quiet_lightning(device: torch.device) -> Iterator[None]:
    """Suppress Lightning's remarks, and leave torch's random generators as they were.

    What one of several processes raised comes back as text; an error of ours, or one of memory, is raised as itself.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    gpus = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except torch.multiprocessing.ProcessRaisedException as error:  # type: ignore[attr-defined]
        raised = _RAISED.findall(str(error))
        if not raised:
            raise
        name, message = raised[-1]
        raise _ERRORS[name](message) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")  # a notebook has imported it
    return shell is not None and shell.get_ipython() is not None
