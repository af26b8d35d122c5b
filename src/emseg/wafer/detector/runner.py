"""mmengine's Runner with three changes that trainings need here, and nothing else.

Checkpoints hold numbers and no code: the weights, the optimizer, the learning-rate schedules and the step. mmengine's
own also pickle its message hub, so that loading one may run whatever it contains; these are loaded with `weights_only`.
They are written beside the old one and moved over it. See `draws` for why nothing more need be kept.

The device comes from the config; mmengine takes a GPU whenever there is one. In bfloat16 the CPU has autocast too, and
no loss needs scaling; mmengine's AmpOptimWrapper insists on a GPU.

It is quiet: no dump of the environment, no folder named after the time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from emseg.errors import InputError
from emseg.wafer.detector.build import build_config

RESUME_POINT = "checkpoint.pth"
LOG_FOLDER = "log"
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Runs the forward pass in mixed precision on any device, without scaling the loss."""

    def __init__(
        self, optimizer: Any, dtype: str = "bfloat16", clip_grad: Any = None, accumulative_counts: int = 1
    ) -> None:
        super().__init__(optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
        self.dtype = _DTYPES[dtype]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast within the block."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=self.dtype):
            yield


def chosen_device(name: str) -> torch.device:
    """Return the device of this process: "auto" is a GPU where there is one, each process of torchrun has its own."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name in ("auto", "cuda"):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # set by torchrun
    return torch.device(name)


def write_then_move(save: Callable[[Path], object], path: Path) -> None:
    """Let `save` write a new file beside `path` and move it there, so that `path` is never half written."""
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        save(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@RUNNERS.register_module()
class DetectorRunner(Runner):  # type: ignore[misc]
    """mmengine's Runner on a chosen device, with checkpoints of numbers alone."""

    seconds_before = 0.0  # what the training took before it was resumed
    seconds = 0.0
    on_step: Callable[[int, int], None] | None = None

    @property
    def timestamp(self) -> str:
        """The name of the folder for logs; mmengine's is the time, so that each resume leaves another."""
        return LOG_FOLDER

    def setup_env(self, env_cfg: Any) -> None:
        """Join the other processes; mmengine would look for a GPU first."""
        on_cpu = chosen_device(self.cfg.get("device", "auto")).type == "cpu"
        if self.distributed and on_cpu and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)

    def report_progress(self, step: int) -> None:
        """Tell whoever listens that a step is done."""
        if self.on_step is not None:
            self.on_step(step, self.max_iters)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None) -> MMLogger:
        """Return a logger without a file: the curves are in `curves.csv`."""
        return MMLogger.get_instance(self._experiment_name, log_level=log_level)

    def _log_env(self, env_cfg: Any) -> None:
        """Say nothing of the environment; the run record does."""

    def dump_config(self) -> None:
        """Write no config; `train_detector` keeps it as `config.py`."""

    def build_model(self, model: Any) -> nn.Module:
        """Build the network with the initial weights that `build_design` gives it."""
        return model if isinstance(model, nn.Module) else build_config(model, seed=self.seed)

    def _init_model_weights(self) -> None:
        """Leave the weights as they were built."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Move the network to its device and, with several processes, share its gradients."""
        device = chosen_device(self.cfg.get("device", "auto"))
        model = model.to(device)
        # several processes on a CPU: torch (2.15) crashes when they share gradients that are stored channels last
        if self.cfg.get("channels_last", False) and not (self.distributed and device.type == "cpu"):
            model = model.to(memory_format=torch.channels_last)
        if self.distributed:
            devices = [device.index] if device.type == "cuda" else None
            model = MMDistributedDataParallel(module=model, device_ids=devices, broadcast_buffers=False)
        return model

    def build_train_loop(self, loop: Any) -> Any:
        """Build loop and data; pycocotools prints what it does while it reads, and nobody needs that."""
        with redirect_stdout(StringIO()):
            return super().build_train_loop(loop)

    def load_or_resume(self) -> None:
        """Go on from the work folder's checkpoint, if it has one and that is wanted."""
        path = Path(self.work_dir) / RESUME_POINT
        if self._resume and path.exists():
            self.resume(str(path))

    def resume(self, filename: str) -> None:
        """Take weights, optimizer, schedules and step from a checkpoint that `save_resume_point` wrote."""
        try:
            kept = torch.load(filename, map_location="cpu", weights_only=True)
            step, epoch, self.seconds_before = kept["step"], kept["epoch"], kept["seconds"]
            self.bare_model.load_state_dict(kept["state_dict"])
            self.optim_wrapper.load_state_dict(kept["optimizer"])
            for scheduler, state in zip(self.param_schedulers, kept["param_schedulers"], strict=True):
                scheduler.load_state_dict(state)
        except Exception as error:
            raise InputError(
                f"{filename} is no checkpoint of this training ({type(error).__name__}). Remove it to start again."
            ) from error
        loop = self.train_loop
        loop._iter, loop._epoch = step, epoch
        if hasattr(loop.dataloader.sampler, "skip_epochs") and loop.dataloader.sampler.by_epoch:
            loop.dataloader.sampler.skip_epochs(epoch)

    @master_only  # type: ignore[untyped-decorator]
    def save_resume_point(self, *, epoch: int, step: int) -> None:
        """Write all that the next step depends on."""
        checkpoint = {
            "step": step,
            "epoch": epoch,
            "state_dict": dict(self.bare_model.state_dict()),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers],
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        checkpoint["seconds"] = self.seconds
        write_then_move(lambda path: torch.save(checkpoint, path), Path(self.work_dir) / RESUME_POINT)

    @property
    def bare_model(self) -> nn.Module:
        """The network itself, without what shares its gradients among processes."""
        model: nn.Module = self.model.module if is_model_wrapper(self.model) else self.model
        return model
