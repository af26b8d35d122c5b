"""mmengine's Runner with the changes that our trainings need, and the two hooks that write its files.

Checkpoints contain numbers and no code: the weights, the optimizer, the learning-rate schedules and the step
(`mmdet_data` explains why no more is needed). mmengine's also pickle its message hub, so that loading one may run
anything. The files are those of `emseg.training.work_folder`.

The device comes from the configuration; mmengine takes a GPU whenever there is one. In bfloat16 the CPU has autocast
too, and no loss needs scaling; mmengine's AmpOptimWrapper insists on a GPU. The runner is quiet: no dump of the
environment, no folder named after the time.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from emseg.errors import InputError
from emseg.training import work_folder
from emseg.training.devices import require_device
from emseg.wafer.detector.detector_build import build_config, load_weights


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Runs the forward pass in bfloat16 on any device, without scaling the loss."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast within the block."""
        with super().optim_context(model), torch.autocast(next(model.parameters()).device.type, torch.bfloat16):
            yield


@RUNNERS.register_module()
class DetectorRunner(Runner):  # type: ignore[misc]
    """mmengine's Runner on a chosen device, with checkpoints of numbers alone."""

    seconds_before = 0.0  # what the training took before it was resumed
    seconds = 0.0
    on_step: Callable[[int, int], None] | None = None

    @property
    def timestamp(self) -> str:
        """The name of the folder for logs; mmengine's is the time, so that each resume leaves another."""
        return "log"

    @property
    def chosen_device(self) -> torch.device:
        """The device of this process."""
        return require_device(self.cfg.get("device", "auto"))

    def setup_env(self, env_cfg: Any) -> None:
        """Join the other processes; mmengine would look for a GPU first."""
        if self.distributed and self.chosen_device.type == "cpu" and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None) -> MMLogger:
        """Return a logger without a file: the curves are in `curves.csv`."""
        return MMLogger.get_instance(self._experiment_name, log_level=log_level)

    def _log_env(self, env_cfg: Any) -> None:
        """Print nothing about the environment; the run record describes it."""

    def dump_config(self) -> None:
        """Write no config; `train_detector` writes it as `config.py`."""

    def build_model(self, model: Any) -> nn.Module:
        """Build the network with the initial weights that `build_design` gives it."""
        return model if isinstance(model, nn.Module) else build_config(model, seed=self.seed)

    def _init_model_weights(self) -> None:
        """Leave the weights as they were built."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Move the network to its device and, with several processes, share its gradients."""
        device = self.chosen_device
        model = model.to(device)
        # several processes on a CPU: torch (2.15) crashes when they share gradients that are stored channels last
        if self.cfg.get("channels_last", False) and not (self.distributed and device.type == "cpu"):
            model = model.to(memory_format=torch.channels_last)
        if self.distributed:
            devices = [device.index] if device.type == "cuda" else None
            model = MMDistributedDataParallel(module=model, device_ids=devices, broadcast_buffers=False)
        return model

    def build_train_loop(self, loop: Any) -> Any:
        """Build loop and data without what pycocotools prints while it reads."""
        with redirect_stdout(StringIO()):
            return super().build_train_loop(loop)

    def load_or_resume(self) -> None:
        """Resume from the work folder's checkpoint, if it has one and that is wanted, or load the given weights."""
        kept = work_folder.read_checkpoint(Path(self.work_dir)) if self._resume else None
        if kept is None:
            if self._load_from:
                load_weights(self.bare_model, self._load_from)
            return
        loop = self.train_loop
        try:
            self.bare_model.load_state_dict(kept["network"])
            self.optim_wrapper.load_state_dict(kept["optimizer"])
            for scheduler, state in zip(self.param_schedulers, kept["param_schedulers"], strict=True):
                scheduler.load_state_dict(state)
            loop._iter, loop._epoch, self.seconds_before = kept["step"], int(kept["epoch"]), float(kept["seconds"])
        except Exception as error:
            raise InputError(
                f"{Path(self.work_dir) / work_folder.CHECKPOINT} is not a checkpoint of this training "
                f"({type(error).__name__}). Remove it to start again."
            ) from error
        sampler = loop.dataloader.sampler
        if getattr(sampler, "by_epoch", False):
            sampler.skip_epochs(loop._epoch)

    @master_only  # type: ignore[untyped-decorator]
    def save_resume_point(self, *, epoch: int, step: int) -> None:
        """Write all that the next step depends on."""
        checkpoint = {
            "step": step,
            "epoch": epoch,
            "seconds": self.seconds,
            "network": dict(self.bare_model.state_dict()),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers],
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        work_folder.write_checkpoint(Path(self.work_dir), checkpoint)

    @torch.no_grad()
    def settle_norms(self, n_batches: int, batch_size: int) -> None:
        """Set the backbone's learnt normalisations to the mean over the first batches, with their own greys."""
        backbone: Any = self.bare_model.backbone
        dataset, prepare = self.train_dataloader.dataset, cast(Any, self.bare_model.data_preprocessor)
        norms = [one for one in backbone.modules() if isinstance(one, nn.BatchNorm2d) and one.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch then averages over all batches alike
        with dataset.own_greys():
            for first in range(0, n_batches * batch_size if norms else 0, batch_size):
                batch = pseudo_collate([dataset[draw] for draw in range(first, first + batch_size)])
                backbone(prepare(batch, True)["inputs"])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @property
    def bare_model(self) -> nn.Module:
        """The network itself, without the wrapper that shares its gradients among processes."""
        return self.model.module if is_model_wrapper(self.model) else self.model  # type: ignore[no-any-return]


@HOOKS.register_module()
class ResumePointHook(Hook):  # type: ignore[misc]
    """Saves the one checkpoint of a run every `interval` epochs or steps, and at the end."""

    priority = "VERY_LOW"  # after the learning rate of the next step is set

    def __init__(self, interval: int, by_epoch: bool) -> None:
        self.interval, self.by_epoch = interval, by_epoch

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Save after every `interval` steps."""
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            runner.save_resume_point(epoch=runner.epoch, step=runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Save after every `interval` epochs."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            runner.save_resume_point(epoch=runner.epoch + 1, step=runner.iter)


@HOOKS.register_module()
class SettledNormsHook(Hook):  # type: ignore[misc]
    """Settles the backbone's normalisations after three quarters of the steps; they stay as they are from there on.

    In training a batch is normalised by itself, later by averages, which a few black tiles can shift; in the last
    quarter the weights learn with what they will be used with.
    """

    def __init__(self, n_batches: int, batch_size: int) -> None:
        self.n_batches, self.batch_size = n_batches, batch_size

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Settle at the first step of the last quarter, and stop the averages, also after a resume."""
        backbone, first = runner.bare_model.backbone, runner.max_iters - max(runner.max_iters // 4, 1)
        if runner.iter < first or backbone.norm_eval:
            return
        if runner.iter == first:
            runner.settle_norms(min(self.n_batches, first), self.batch_size)
        backbone.norm_eval = True
        backbone.train()


@HOOKS.register_module()
class CurvesHook(Hook):  # type: ignore[misc]
    """Writes every step's losses to `curves.csv` in the work folder, and to TensorBoard where that is switched on."""

    priority = "NORMAL"  # before ParamSchedulerHook: the learning rate is the one that the step used

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def before_train(self, runner: Any) -> None:
        """Drop the rows of the steps that the checkpoint lacks, and start the clock."""
        work_dir, first = Path(runner.work_dir), runner.rank == 0
        self._curves = work_folder.CurveWriter(work_dir, writes=first, interval=self.interval)
        self._started = time.perf_counter() - runner.seconds_before
        if first:
            work_folder.keep_rows(work_dir / work_folder.CURVES, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Record the losses of a step; write them when it is time."""
        runner.seconds = time.perf_counter() - self._started
        rate = runner.optim_wrapper.get_lr()["lr"][0]
        full = self._curves.note(runner.iter + 1, runner.seconds, rate, outputs)
        if runner.on_step is not None:
            runner.on_step(runner.iter + 1, runner.max_iters)
        if full:
            self.after_train(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write the losses of the checkpoint's steps before it states that they are done."""
        self.after_train(runner)

    def after_train(self, runner: Any) -> None:
        """Write the losses of all steps that are not written yet."""
        for row in self._curves.write():
            runner.visualizer.add_scalars(dict(row), step=int(row[work_folder.STEP]))
