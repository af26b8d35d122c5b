"""Training a detector: `train_detector` runs mmengine's Runner in a work folder and returns the network.

    WORK_DIR/settings.json        what decides the weights: design, schedule, data, split; another run's are refused
    WORK_DIR/config.py            the mmengine config
    WORK_DIR/curves.csv           the losses of every step
    WORK_DIR/checkpoint.pth       what a killed training goes on from; removed when it is done
    WORK_DIR/weights.safetensors  the weights in the end
    WORK_DIR/finished.json        what it took; a folder that has it is not trained again

A training that was killed and called again gives, on a CPU and with the same number of threads, the same weights bit
for bit (see `draws`). torchrun starts several processes that share each step's batch.
"""

import hashlib
import json
import os
import resource
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.wafer.detector.build import build_design
from emseg.wafer.detector.design import DetectorDesign
from emseg.wafer.detector.runner_config import Config, runner_config
from emseg.wafer.detector.schedule import TrainingSchedule, settings_of
from emseg.wafer.detector.tile_files import require_tiles
from emseg.wafer.detector.weights import SAFETENSORS, load_weights, save_weights
from emseg.wafer.formats.benchmark_folder import Benchmark, open_benchmark
from emseg.wafer.splits import TRAIN

SETTINGS, CONFIG, WEIGHTS, FINISHED = "settings.json", "config.py", f"weights{SAFETENSORS}", "finished.json"
_MIB = 2**20


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A trained network in evaluation mode, and what the training took.

    `curves` holds a value for each step under "step", "seconds", "learning_rate", "loss" and the names of the losses
    that it is the sum of. `seconds` counts all parts of a training that was interrupted, from its checkpoints.
    `peak_memory_mib` is of the GPU, or of the process on a CPU; of the last part, if there were several.
    """

    model: nn.Module
    design: DetectorDesign
    schedule: TrainingSchedule
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
    schedule: TrainingSchedule,
    folder: str | Path,
    split: str,
    work_dir: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
) -> TrainedDetector:
    """Train `design` by `schedule` on a split of the COCO folder `folder`.

    With `resume` a work folder that holds this training's checkpoint is gone on with, and one that is finished is
    returned at once; without it the training begins anew. `progress` draws a line on a terminal. Raises `UsageError`
    for settings that do not fit each other, the data, the device or the work folder, and when memory does not suffice;
    `InputError` for data that cannot be used.
    """
    from emseg.wafer.detector.runner import RESUME_POINT, chosen_device

    work_dir, world_size = Path(work_dir), int(os.environ.get("WORLD_SIZE", "1"))
    device = chosen_device(_require_device(schedule))
    benchmark = open_benchmark(folder)
    settings = _settings(design, schedule, benchmark, split, device)
    if resume:
        _require_same_settings(work_dir, settings)
        if (work_dir / FINISHED).is_file():
            return _finished(design, schedule, work_dir, device)
    require_tiles(benchmark.read(split, TRAIN), benchmark.split(split).train_images, design.numbers.in_channels)
    config = runner_config(
        design,
        schedule,
        folder,
        split,
        work_dir,
        files=benchmark.split(split),
        class_names=benchmark.class_names,
        world_size=world_size,
    )
    work_dir.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("RANK", "0")) == 0:
        if not resume:
            for name in (RESUME_POINT, FINISHED, WEIGHTS):
                (work_dir / name).unlink(missing_ok=True)
        (work_dir / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
    with _one_clear_error_for_memory(schedule, device):
        runner = _run(config, schedule, device, "pytorch" if world_size > 1 else "none", progress)
    model = runner.bare_model
    took = {
        "n_images": len(runner.train_dataloader.dataset),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": runner.seconds,
        "images_per_second": runner.iter * schedule.batch_size / max(runner.seconds, 1e-9),
        "peak_memory_mib": _peak_memory_mib(device),
        "device": _device_name(device),
    }
    if runner.rank == 0:
        _finish(model, work_dir, took)
    if world_size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return _trained(model, design, schedule, work_dir, took)


def _run(config: Config, schedule: TrainingSchedule, device: torch.device, launcher: str, progress: bool) -> Any:
    """Train, and return the runner; the global generators are as before."""
    from emseg.wafer.detector import parts  # noqa: F401, I001 - before mmdet
    from emseg.wafer.detector import augmentation, hooks  # noqa: F401
    from emseg.wafer.detector.draws import seeded
    from emseg.wafer.detector.runner import DetectorRunner
    from mmengine import Config as MmConfig
    from mmengine.registry import DefaultScope
    from tqdm import tqdm

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with (
        seeded(schedule.seed),
        _opencv_threads_kept(),
        warnings.catch_warnings(),
        DefaultScope.overwrite_default_scope("mmdet"),
        tqdm(unit="step", disable=None if progress else True, leave=False) as bar,
    ):
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


@contextmanager
def _opencv_threads_kept() -> Iterator[None]:
    import cv2

    n_threads = cv2.getNumThreads()
    try:
        yield
    finally:
        cv2.setNumThreads(n_threads)


@contextmanager
def _one_clear_error_for_memory(schedule: TrainingSchedule, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        precision = "" if schedule.precision == "bf16" else ", or precision='bf16'"
        scale = "smaller tiles" if schedule.scale is None else f"a smaller scale (now {schedule.scale})"
        raise UsageError(
            f"the training does not fit into the memory of {_device_name(device)}. Use a smaller batch_size (now "
            f"{schedule.batch_size}), {scale}{precision}."
        ) from error


def _require_device(schedule: TrainingSchedule) -> str:
    name = schedule.device
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise UsageError(f"`device` must be auto, cpu, cuda or cuda:N; got {name!r}.")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= n_devices:
        raise UsageError(f"`device` {name!r} is not there: torch sees {n_devices} GPUs. Use device='auto' or 'cpu'.")
    on_cpu = kind == "cpu" or (kind == "auto" and not n_devices)
    if schedule.precision == "fp16" and on_cpu:
        raise UsageError("precision='fp16' needs a GPU; a CPU trains in 'fp32' or, if it is recent, 'bf16'.")
    return name


def _settings(
    design: DetectorDesign, schedule: TrainingSchedule, benchmark: Benchmark, split: str, device: torch.device
) -> dict[str, Any]:
    """Return what decides the weights, as JSON gives it back."""
    settings = {
        "design": design.to_dict(),
        "schedule": {**settings_of(schedule), "device": device.type},
        "data": {"fingerprint": benchmark.fingerprint, "split": split},
    }
    kept: dict[str, Any] = json.loads(json.dumps(settings))
    return kept


def _require_same_settings(work_dir: Path, settings: Mapping[str, Any]) -> None:
    path = work_dir / SETTINGS
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON ({error}). Use another work folder.") from error
    for part, values in settings.items():
        theirs = before.get(part, {})
        for name in sorted({*values, *theirs}):
            if values.get(name) != theirs.get(name):
                raise UsageError(
                    f"a work folder holds one training; {work_dir} has one of {part} {name}="
                    f"{json.dumps(theirs.get(name))}, asked for was {json.dumps(values.get(name))}. "
                    "Use another folder, or resume=False to train anew."
                )


def _finish(model: nn.Module, work_dir: Path, took: Mapping[str, Any]) -> None:
    """Write the weights, then say that they are there, then drop the checkpoint."""
    from emseg.wafer.detector.runner import RESUME_POINT, write_then_move

    write_then_move(lambda path: save_weights(model, path), work_dir / WEIGHTS)
    digest = hashlib.sha256((work_dir / WEIGHTS).read_bytes()).hexdigest()
    text = json.dumps({**took, "weights_sha256": digest}, indent=1) + "\n"
    write_then_move(lambda path: path.write_text(text), work_dir / FINISHED)
    (work_dir / RESUME_POINT).unlink(missing_ok=True)


def _finished(
    design: DetectorDesign, schedule: TrainingSchedule, work_dir: Path, device: torch.device
) -> TrainedDetector:
    took = json.loads((work_dir / FINISHED).read_text())
    del took["weights_sha256"]
    model = build_design(design)
    load_weights(model, work_dir / WEIGHTS)
    return _trained(model.to(device), design, schedule, work_dir, took)


def _trained(
    model: nn.Module, design: DetectorDesign, schedule: TrainingSchedule, work_dir: Path, took: Mapping[str, Any]
) -> TrainedDetector:
    from emseg.wafer.detector.hooks import CURVES, read_curves

    return TrainedDetector(
        model=model.eval(),
        design=design,
        schedule=schedule,
        curves=read_curves(work_dir / CURVES),
        weights=work_dir / WEIGHTS,
        **took,
    )


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak / 1024 if sys.platform != "darwin" else peak / _MIB


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
