"""Training a detector: `train_detector` runs mmengine's Runner in a work folder and returns the network.

    WORK_DIR/config.py   the mmengine configuration; all other files are those of `emseg.training.work_folder`

An interrupted training resumes, on a CPU and with the same number of threads to the same bits (see `mmdet_data`).
torchrun starts several processes that share each step's batch.
"""

import os
import uuid
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock  # comes with torch
from torch import nn

from emseg.files import digest_of_file
from emseg.frequency.attention import require_image_size
from emseg.training import work_folder
from emseg.training.devices import device_name, require_device
from emseg.training.memory_use import clear_memory_error, peak_memory_mib
from emseg.training.steps import seeded
from emseg.wafer.detector.detector_build import build_design, load_weights
from emseg.wafer.detector.detector_design import FIRST_STRIDE, DetectorDesign
from emseg.wafer.detector.detector_plan import DetectorPlan
from emseg.wafer.detector.detector_prediction import require_tiles
from emseg.wafer.detector.mmdet_config import Config, runner_config
from emseg.wafer.formats.benchmark_folder import own_benchmark
from emseg.wafer.formats.coco import CocoSet
from emseg.wafer.splits import TRAIN

CONFIG = "config.py"


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A trained network in evaluation mode, and what the training took.

    `curves` has a value per step under "step", "seconds", "learning_rate", "loss" and the names of its terms. `seconds`
    counts all parts of an interrupted training, `peak_memory_mib` (of the GPU, or the process on a CPU) the last.
    """

    model: nn.Module
    design: DetectorDesign
    plan: DetectorPlan
    curves: Mapping[str, list[float]]
    n_images: int
    n_parameters: int
    seconds: float
    images_per_second: float
    peak_memory_mib: float
    device: str
    weights: Path


def train_detector(
    design: DetectorDesign,
    plan: DetectorPlan,
    folder: str | Path,
    split: str,
    work_dir: str | Path,
    *,
    start_from: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
) -> TrainedDetector:
    """Train `design` by `plan` on a split of the COCO folder `folder`.

    A folder that we did not write ourselves is first rewritten next to `work_dir`, so that boxes and areas follow the
    outlines. `start_from` is a file with the initial weights; None draws them. With `resume` a training resumes from
    its checkpoint, and a finished one is returned at once. `progress` shows a progress bar on a terminal. Raises
    `UsageError` for settings that do not fit each other, the data, the device or the work folder, and when memory does
    not suffice; `InputError` for data that cannot be used.
    """
    work_dir, world_size = Path(work_dir), int(os.environ.get("WORLD_SIZE", "1"))
    device = require_device(plan.device, 1, plan.precision)
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    alone = nullcontext() if world_size == 1 else FileLock(work_dir.parent / ".coco.lock")
    with alone:  # of torchrun's processes the first rewrites, the others wait for it
        benchmark = own_benchmark(folder, work_dir.parent / "coco")
    settings = {
        "design": design.to_dict(),
        "plan": {**plan.settings(), "device": device.type},
        "data": {"fingerprint": benchmark.fingerprint, "split": split},
        "start": {"sha256": None if start_from is None else digest_of_file(start_from)},
    }
    if resume:
        work_folder.require_same_settings(work_dir, settings)
        took = work_folder.read_finished(work_dir)
        if took is not None:
            model = build_design(design)
            load_weights(model, work_dir / work_folder.WEIGHTS)
            return _trained(model.to(device), design, plan, work_dir, took)
    files = benchmark.split(split)
    coco, last = benchmark.read(split, TRAIN), FIRST_STRIDE * 2 ** (design.numbers.n_stages - 1)
    require_tiles(coco, files.train_images, design.numbers.in_channels)
    require_image_size("tile", _smallest_input(coco, design, plan), design.attention, design.attention_options, last)
    names = benchmark.class_names
    config = runner_config(
        design, plan, benchmark.folder, split, work_dir, files=files, class_names=names, world_size=world_size
    ) | {"load_from": None if start_from is None else str(start_from)}
    if int(os.environ.get("RANK", "0")) == 0:
        work_folder.begin(work_dir, settings, resume=resume)
    work_dir.mkdir(parents=True, exist_ok=True)
    tiles = "smaller tiles" if plan.scale is None else f"a smaller scale (now {plan.scale})"
    precision = "" if plan.precision == "bf16" else ", or precision='bf16'"
    repair = f"Use a smaller batch_size (now {plan.batch_size}), {tiles}{precision}."
    with clear_memory_error(device_name(device), repair):
        runner = _run(config, plan, device, "pytorch" if world_size > 1 else "none", progress)
    model = runner.bare_model
    took = {
        "n_images": len(runner.train_dataloader.dataset),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": runner.seconds,
        "images_per_second": runner.iter * plan.batch_size / max(runner.seconds, 1e-9),
        "peak_memory_mib": peak_memory_mib(device),
        "device": device_name(device),
    }
    if runner.rank == 0:
        work_folder.finish(work_dir, model.state_dict(), took)
    if world_size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return _trained(model, design, plan, work_dir, took)


def _smallest_input(coco: CocoSet, design: DetectorDesign, plan: DetectorPlan) -> tuple[int, int]:
    """The smallest sides of any image as the network gets it: scaled and padded."""
    sides = np.array([(image.height, image.width) for image in coco.images])
    if plan.scale is not None:
        sides = np.round(sides * plan.scale / sides.max(1, keepdims=True)).astype(int)
    rows, columns = (-(-sides // design.numbers.pad_to) * design.numbers.pad_to).min(0)
    return int(rows), int(columns)


def _run(config: Config, plan: DetectorPlan, device: torch.device, launcher: str, progress: bool) -> Any:
    """Train, and return the runner; the global generators are restored."""
    from emseg.wafer.detector import mmdet_parts  # noqa: F401, I001 - before mmdet
    from emseg.wafer.detector import mmdet_data  # noqa: F401
    from emseg.wafer.detector.mmdet_runner import DetectorRunner
    import cv2
    from mmengine import Config as MmConfig
    from mmengine.registry import DefaultScope
    from tqdm import tqdm

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with (
        seeded(plan.seed),
        ExitStack() as restored,
        warnings.catch_warnings(),
        DefaultScope.overwrite_default_scope("mmdet"),
        tqdm(unit="step", disable=None if progress else True, leave=False) as bar,
    ):
        restored.callback(cv2.setNumThreads, cv2.getNumThreads())
        warnings.simplefilter("ignore")
        # mmengine keeps loggers and the like by name for as long as the process lives, so no name may come twice
        cfg = MmConfig({**config, "launcher": launcher, "experiment_name": uuid.uuid4().hex})
        runner = DetectorRunner.from_cfg(cfg)
        if runner.rank == 0:
            (Path(runner.work_dir) / CONFIG).write_text(MmConfig(config).pretty_text)

        def on_step(step: int, total: int) -> None:
            bar.total = total
            bar.update(step - bar.n)

        runner.on_step = on_step
        runner.train()
    return runner


def _trained(
    model: nn.Module, design: DetectorDesign, plan: DetectorPlan, work_dir: Path, took: Mapping[str, Any]
) -> TrainedDetector:
    return TrainedDetector(
        model=model.eval(),
        design=design,
        plan=plan,
        curves=work_folder.read_columns(work_dir / work_folder.CURVES),
        weights=work_dir / work_folder.WEIGHTS,
        **{name: value for name, value in took.items() if name != "weights_sha256"},
    )
