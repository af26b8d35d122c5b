"""The whole mmengine config of a training, as a plain dict: network, data, schedule, hooks.

`mmengine.Config(runner_config(...)).dump("config.py")` is a config file as mmdet's users know it, and mmdet's own
`tools/train.py` runs it where `emseg` is installed: `custom_imports` registers our parts. The training loop, optimizer,
learning-rate schedules and transforms are mmengine's and mmdet's; ours are

    DrawDataset, DrawSampler, StepSeedHook   which image and which chance belongs to a step     `draws`
    QuarterTurns, GreyJitter                 augmentation that mmdet has not                    `augmentation`
    AutocastOptimWrapper, DetectorRunner     bf16 also without a GPU; checkpoints without code  `runner`
    ResumePointHook, CurvesHook              one atomic checkpoint; the losses as CSV           `hooks`
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emseg.errors import UsageError
from emseg.sections import UNSORTED_CLASS
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.detector.design import DetectorDesign
from emseg.wafer.detector.model_config import model_config
from emseg.wafer.detector.schedule import COSINE_FLOOR, MILESTONE_FACTOR, WARM_UP_FACTOR, TrainingSchedule
from emseg.wafer.formats.benchmark_folder import ANNOTATIONS, IMAGES, SplitFiles
from emseg.wafer.splits import TRAIN, VALIDATION

PARTS = ("parts", "runner", "hooks", "draws", "augmentation")
FLIP_PROBABILITY = 0.5
CURVE_INTERVAL = 20  # steps between two looks at the losses: each look waits for the device
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

Config = dict[str, Any]


def runner_config(
    design: DetectorDesign,
    schedule: TrainingSchedule,
    folder: str | Path = "data/wafer",
    split: str = "wafer",
    work_dir: str | Path = "work_dirs/detector",
    *,
    files: SplitFiles | None = None,
    class_names: Sequence[str] | None = None,
    world_size: int = 1,
) -> Config:
    """Return the config of training `design` by `schedule` on the COCO folder `folder`.

    Nothing is read from `folder`. `files` says where its files are, if not where we write them
    (`emseg.wafer.formats.benchmark_folder`). `class_names` are the names of the categories in the order of their ids.
    `world_size` is the number of processes that share each step's `batch_size` images.
    """
    names = tuple(class_names) if class_names is not None else default_class_names(design.num_classes)
    if len(names) != design.num_classes:
        raise UsageError(
            f"the design's `num_classes` must be the number of classes in the data; got num_classes="
            f"{design.num_classes} and {len(names)} classes ({', '.join(names)})."
        )
    by_epoch = schedule.epochs is not None
    return {
        "default_scope": "mmdet",
        "custom_imports": {
            "imports": [f"emseg.wafer.detector.{part}" for part in PARTS],
            "allow_failed_imports": False,
        },
        "runner_type": "DetectorRunner",
        "model": model_config(design),
        "train_dataloader": _dataloader(design, schedule, files or planned_files(folder, split), names, world_size),
        "train_cfg": _loop(schedule),
        "optim_wrapper": _optim_wrapper(schedule),
        "param_scheduler": _learning_rate(schedule),
        "default_hooks": {
            "runtime_info": None,  # these three read every loss from the device at every step
            "timer": None,
            "logger": None,
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "checkpoint": {
                "type": "ResumePointHook",
                "interval": schedule.checkpoint_interval,
                "by_epoch": by_epoch,
            },
            "sampler_seed": {"type": "DistSamplerSeedHook"},
        },
        "custom_hooks": [
            {"type": "StepSeedHook", "seed": schedule.seed},
            {"type": "CurvesHook", "interval": CURVE_INTERVAL},
        ],
        "randomness": {"seed": schedule.seed},
        "device": schedule.device,
        "channels_last": schedule.channels_last,
        "env_cfg": {
            "cudnn_benchmark": False,
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "nccl"},  # on a CPU DetectorRunner takes gloo
        },
        "visualizer": {
            "type": "Visualizer",
            "vis_backends": [{"type": "TensorboardVisBackend"}] if schedule.tensorboard else [],
        },
        "log_level": "ERROR",
        "work_dir": str(work_dir),
        "load_from": None,
        "resume": True,
    }


def planned_files(folder: str | Path, split: str) -> SplitFiles:
    """Return where the files of a split lie in a folder of ours, whether or not it is there."""
    images, annotations = Path(folder) / IMAGES, Path(folder) / ANNOTATIONS / split
    return SplitFiles(annotations / f"{TRAIN}.json", annotations / f"{VALIDATION}.json", images, images)


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """Return the class names of the book's data with so many classes."""
    if num_classes == len(SECTION_CLASSES):
        return SECTION_CLASSES
    return (UNSORTED_CLASS,) if num_classes == 1 else tuple(f"class {one + 1}" for one in range(num_classes))


def train_pipeline(schedule: TrainingSchedule, in_channels: int) -> list[Config]:
    """Return mmdet's steps from a file to the network's input and truth."""
    steps = [_load_image(in_channels), {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}]
    steps += _resize(schedule)
    if schedule.flips:
        probability = [FLIP_PROBABILITY / len(schedule.flips)] * len(schedule.flips)
        directions = list(schedule.flips)
        if len(directions) == 2:  # both at once as often as each alone, and as often as none
            probability, directions = [0.25, 0.25, 0.25], [*directions, "diagonal"]
        one = len(directions) == 1
        steps.append(
            {
                "type": "RandomFlip",
                "prob": FLIP_PROBABILITY if one else probability,
                "direction": directions[0] if one else directions,
            }
        )
    if schedule.quarter_turns:
        steps.append({"type": "QuarterTurns"})
    if schedule.grey_jitter:
        steps.append({"type": "GreyJitter", "amount": schedule.grey_jitter})
    return [*steps, {"type": "PackDetInputs", "meta_keys": [*_META_KEYS, "flip", "flip_direction"]}]


def test_pipeline(schedule: TrainingSchedule, in_channels: int) -> list[Config]:
    """Return mmdet's steps from a file to the network's input."""
    return [
        _load_image(in_channels),
        *_resize(schedule),
        {"type": "PackDetInputs", "meta_keys": list(_META_KEYS)},
    ]


def _load_image(in_channels: int) -> Config:
    # "grayscale" squeezes nothing: mmcv gives [height, width], and PackDetInputs adds the channel
    return {"type": "LoadImageFromFile", "color_type": "grayscale" if in_channels == 1 else "color"}


def _resize(schedule: TrainingSchedule) -> list[Config]:
    if schedule.scale is None:
        return []
    return [{"type": "Resize", "scale": (schedule.scale, schedule.scale), "keep_ratio": True}]


def _dataloader(
    design: DetectorDesign, schedule: TrainingSchedule, files: SplitFiles, names: Sequence[str], world_size: int
) -> Config:
    if schedule.batch_size % world_size:
        raise UsageError(
            f"`batch_size` must divide among the processes; got batch_size={schedule.batch_size} for {world_size}."
        )
    return {
        "batch_size": schedule.batch_size // world_size,
        "num_workers": schedule.n_workers,
        "persistent_workers": schedule.n_workers > 0,
        "sampler": {"type": "DrawSampler", "by_epoch": schedule.epochs is not None},
        "dataset": {
            "type": "DrawDataset",
            "seed": schedule.seed,
            "dataset": {
                "type": "CocoDataset",
                "ann_file": str(files.train),
                "data_prefix": {"img": str(files.train_images)},
                "metainfo": {"classes": list(names)},
                "filter_cfg": {"filter_empty_gt": not schedule.empty_images, "min_size": 32},
                "pipeline": train_pipeline(schedule, design.numbers.in_channels),
            },
        },
    }


def _loop(schedule: TrainingSchedule) -> Config:
    if schedule.epochs is not None:
        return {"type": "EpochBasedTrainLoop", "max_epochs": schedule.epochs}
    return {"type": "IterBasedTrainLoop", "max_iters": schedule.steps}


def _optim_wrapper(schedule: TrainingSchedule) -> Config:
    optimizer: Config = {"type": "SGD", "lr": schedule.learning_rate, "momentum": schedule.momentum}
    if schedule.optimizer == "adamw":
        # one pass over all weights; the same update, and on two cores 4 % of a small detector's step less
        optimizer = {"type": "AdamW", "lr": schedule.learning_rate, "fused": True}
    wrapper: Config = {
        "fp32": {"type": "OptimWrapper"},
        "bf16": {"type": "AutocastOptimWrapper", "dtype": "bfloat16"},
        "fp16": {"type": "AmpOptimWrapper", "dtype": "float16"},
    }[schedule.precision]
    wrapper = {**wrapper, "optimizer": {**optimizer, "weight_decay": schedule.weight_decay}}
    if schedule.gradient_clip is not None:
        wrapper["clip_grad"] = {"max_norm": schedule.gradient_clip}
    return wrapper


def _learning_rate(schedule: TrainingSchedule) -> list[Config]:
    warm_up = schedule.warm_up_steps
    parts: list[Config] = []
    if warm_up:
        parts.append(
            {"type": "LinearLR", "start_factor": WARM_UP_FACTOR, "by_epoch": False, "begin": 0, "end": warm_up}
        )
    if schedule.decay == "milestones" and schedule.milestones:
        parts.append(
            {
                "type": "MultiStepLR",
                "begin": 0,
                "end": schedule.epochs,
                "by_epoch": True,
                "milestones": list(schedule.milestones),
                "gamma": MILESTONE_FACTOR,
            }
        )
    if schedule.decay == "cosine":
        cosine: Config = {"type": "CosineAnnealingLR", "eta_min": COSINE_FLOOR * schedule.learning_rate}
        if schedule.steps is not None:
            cosine |= {"by_epoch": False, "begin": warm_up, "end": schedule.steps, "T_max": schedule.steps - warm_up}
        else:
            cosine |= {"by_epoch": True, "begin": 0, "end": schedule.epochs, "T_max": schedule.epochs}
        parts.append(cosine)
    return parts
