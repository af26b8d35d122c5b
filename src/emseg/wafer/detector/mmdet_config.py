"""From a design and a plan to an mmengine configuration: plain dictionaries, lists and numbers.

`model_config` is the network alone. With the size "paper", depth 50, no attention and torchvision's weights it is
mmdet's own `mask-rcnn_r50_fpn` or `ms-rcnn_r50_fpn`, except for the names of our own classes and the number of object
classes; a test compares every entry.

`runner_config` is the whole training: network, data, learning rate, hooks. `mmengine.Config(runner_config(...)).dump(
"config.py")` writes a config file as mmdet's users know it, and mmdet's own `tools/train.py` runs it where `emseg` is
installed: `custom_imports` registers our parts. The training loop, optimizer, learning-rate schedules and transforms
are mmengine's and mmdet's; ours are

    WaferMaskRCNN, AttentionResNet           boxes in float32; attention in the backbone             `mmdet_parts`
    DrawDataset, DrawSampler, StepSeedHook   which image and which random numbers a step uses        `mmdet_data`
    QuarterTurns, GreyJitter                 augmentation that mmdet lacks                           `mmdet_data`
    AutocastOptimWrapper, DetectorRunner     bf16 also without a GPU; checkpoints without code       `mmdet_runner`
    ResumePointHook, CurvesHook              one atomic checkpoint; the losses as CSV                `mmdet_runner`

Source: mmdet's configuration files `_base_/models/mask-rcnn_r50_fpn.py` and `ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emseg.errors import UsageError
from emseg.sections import UNSORTED_CLASS
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.detector.detector_design import FIRST_STRIDE, TORCHVISION, DetectorDesign, DetectorSize
from emseg.wafer.detector.detector_plan import COSINE_FLOOR, MILESTONE_FACTOR, WARM_UP_FACTOR, DetectorPlan
from emseg.wafer.formats.benchmark_folder import ANNOTATIONS, IMAGES, SplitFiles
from emseg.wafer.splits import TRAIN, VALIDATION

MODEL_TYPES = {"mask_rcnn": "WaferMaskRCNN", "ms_rcnn": "WaferMaskScoringRCNN"}
MODULES = ("mmdet_parts", "mmdet_runner", "mmdet_data")
FLIP_PROBABILITY = 0.5
CURVE_INTERVAL = 20  # steps between two reads of the losses: each read waits for the device
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")

Config = dict[str, Any]


def model_config(design: DetectorDesign) -> Config:
    """Return the model's configuration, new at every call; `mmdet_parts` registers its types."""
    numbers = design.numbers
    return {
        "type": MODEL_TYPES[design.detector],
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": list(numbers.mean),
            "std": list(numbers.std),
            "bgr_to_rgb": numbers.in_channels == 3,
            "pad_mask": True,
            "pad_size_divisor": numbers.pad_to,
        },
        "backbone": _backbone(design),
        "neck": {
            "type": "FPN",
            "in_channels": [design.backbone.out_channels[stage] for stage in numbers.stages_read],
            "out_channels": numbers.pyramid_channels,
            "num_outs": len(numbers.strides),
        },
        "rpn_head": _rpn_head(numbers),
        "roi_head": _roi_head(design),
        "train_cfg": _train_cfg(design),
        "test_cfg": {
            "rpn": _proposals(numbers, numbers.test_candidates, numbers.test_proposals),
            "rcnn": {
                "score_thr": numbers.score_threshold,
                "nms": {"type": "nms", "iou_threshold": numbers.detection_overlap},
                "max_per_img": numbers.max_per_image,
                "mask_thr_binary": numbers.mask_threshold,
            },
        },
    }


def _backbone(design: DetectorDesign) -> Config:
    network, weights = design.backbone, design.backbone_weights
    if weights == TORCHVISION:
        weights = f"torchvision://resnet{design.depth}"
    return {
        "type": "AttentionResNet",
        "block": network.block,
        "depths": list(network.depths),
        "base_channels": network.base_channels,
        "in_channels": network.in_channels,
        "out_indices": list(design.numbers.stages_read),
        "frozen_stages": design.frozen_stages,
        "norm_eval": design.norm_eval,
        "attention": design.attention,
        "attention_options": dict(design.attention_options),
        "init_cfg": None if weights is None else {"type": "Pretrained", "checkpoint": weights},
    }


def _rpn_head(numbers: DetectorSize) -> Config:
    anchors: Config = {"type": "AnchorGenerator", "ratios": list(numbers.anchor_ratios)}
    anchors["strides"] = list(numbers.strides)
    if numbers.anchor_sizes is None:
        anchors["scales"] = [8]
    else:
        anchors |= {"scales": [1], "base_sizes": list(numbers.anchor_sizes)}
    return {
        "type": "RPNHead",
        "in_channels": numbers.pyramid_channels,
        "feat_channels": numbers.pyramid_channels,
        "anchor_generator": anchors,
        "bbox_coder": _box_coder(1.0, 1.0),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _box_coder(position: float, side: float) -> Config:
    stds = [position, position, side, side]
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0, 0.0, 0.0, 0.0], "target_stds": stds}


def _roi_head(design: DetectorDesign) -> Config:
    numbers = design.numbers
    head: Config = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": _roi_extractor(numbers, numbers.box_grid),
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "in_channels": numbers.pyramid_channels,
            "fc_out_channels": numbers.fc_channels,
            "roi_feat_size": numbers.box_grid,
            "num_classes": design.num_classes,
            "bbox_coder": _box_coder(0.1, 0.2),
            "reg_class_agnostic": False,
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        "mask_roi_extractor": _roi_extractor(numbers, numbers.mask_grid),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": numbers.mask_layers,
            "in_channels": numbers.pyramid_channels,
            "conv_out_channels": numbers.mask_channels,
            "num_classes": design.num_classes,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }
    if design.detector == "ms_rcnn":
        head["type"] = "MaskScoringRoIHead"
        head["mask_iou_head"] = {
            "type": "MaskIoUHead",
            "num_convs": 4,
            "num_fcs": 2,
            "roi_feat_size": numbers.mask_grid,
            "in_channels": numbers.pyramid_channels,
            "conv_out_channels": numbers.mask_iou_channels,
            "fc_out_channels": numbers.mask_iou_fc_channels,
            "num_classes": design.num_classes,
        }
    return head


def _roi_extractor(numbers: DetectorSize, grid: int) -> Config:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": grid, "sampling_ratio": numbers.sampling_ratio},
        "out_channels": numbers.pyramid_channels,
        "featmap_strides": [FIRST_STRIDE * 2**stage for stage in numbers.stages_read],
    }


def _train_cfg(design: DetectorDesign) -> Config:
    numbers = design.numbers
    rcnn: Config = {
        "assigner": _assigner(0.5, 0.5, 0.5),
        "sampler": _sampler(numbers.region_samples, numbers.region_positives, add_truth=True),
        "mask_size": 2 * numbers.mask_grid,
        "pos_weight": -1,
        "debug": False,
    }
    if design.detector == "ms_rcnn":
        rcnn["mask_thr_binary"] = numbers.mask_threshold
    return {
        "rpn": {
            "assigner": _assigner(0.7, 0.3, 0.3),
            "sampler": _sampler(numbers.rpn_samples, 0.5, add_truth=False),
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "rpn_proposal": _proposals(numbers, numbers.train_candidates, numbers.train_proposals),
        "rcnn": rcnn,
    }


def _assigner(positive: float, negative: float, smallest: float) -> Config:
    return {
        "type": "MaxIoUAssigner",
        **{"pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": smallest},
        **{"match_low_quality": True, "ignore_iof_thr": -1},
    }


def _sampler(n: int, positive_fraction: float, *, add_truth: bool) -> Config:
    amounts = {"num": n, "pos_fraction": positive_fraction, "neg_pos_ub": -1}
    return {"type": "RandomSampler", **amounts, "add_gt_as_proposals": add_truth}


def _proposals(numbers: DetectorSize, candidates: int, proposals: int) -> Config:
    nms = {"type": "nms", "iou_threshold": numbers.proposal_overlap}
    return {"nms_pre": candidates, "max_per_img": proposals, "nms": nms, "min_bbox_size": 0}


def runner_config(
    design: DetectorDesign,
    plan: DetectorPlan,
    folder: str | Path = "data/wafer",
    split: str = "wafer",
    work_dir: str | Path = "work_dirs/detector",
    *,
    files: SplitFiles | None = None,
    class_names: Sequence[str] | None = None,
    world_size: int = 1,
) -> Config:
    """Return the whole configuration of training `design` by `plan` on the COCO folder `folder`.

    Nothing is read from `folder`; `files` gives the paths where they differ from those of
    `emseg.wafer.formats.benchmark_folder`. `class_names` are the names of the categories in the order of their ids.
    `world_size` is the number of processes that share each step's `batch_size` images.
    """
    names = tuple(class_names) if class_names is not None else default_class_names(design.num_classes)
    if len(names) != design.num_classes:
        raise UsageError(
            f"the design's `num_classes` must be the number of classes in the data; got num_classes="
            f"{design.num_classes} and {len(names)} classes ({', '.join(names)})."
        )
    by_epoch = plan.epochs is not None
    modules = [f"emseg.wafer.detector.{name}" for name in MODULES]
    loop: Config = {"type": "IterBasedTrainLoop", "max_iters": plan.steps}
    return {
        "default_scope": "mmdet",
        "custom_imports": {"imports": modules, "allow_failed_imports": False},
        "runner_type": "DetectorRunner",
        "model": model_config(design),
        "train_dataloader": _dataloader(design, plan, files or planned_files(folder, split), names, world_size),
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": plan.epochs} if by_epoch else loop,
        "optim_wrapper": _optim_wrapper(plan),
        "param_scheduler": _learning_rate(plan),
        "default_hooks": {
            "runtime_info": None,  # these three read every loss from the device at every step
            "timer": None,
            "logger": None,
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "checkpoint": {"type": "ResumePointHook", "interval": plan.checkpoint_interval, "by_epoch": by_epoch},
            "sampler_seed": {"type": "DistSamplerSeedHook"},
        },
        "custom_hooks": [
            {"type": "StepSeedHook", "seed": plan.seed},
            {"type": "CurvesHook", "interval": CURVE_INTERVAL},
        ],
        "randomness": {"seed": plan.seed},
        "device": plan.device,
        "channels_last": plan.channels_last,
        "env_cfg": {
            "cudnn_benchmark": False,
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "nccl"},  # on a CPU DetectorRunner takes gloo
        },
        "visualizer": {
            "type": "Visualizer",
            "vis_backends": [{"type": "TensorboardVisBackend"}] if plan.tensorboard else [],
        },
        "log_level": "ERROR",
        "work_dir": str(work_dir),
        "load_from": None,
        "resume": True,
    }


def planned_files(folder: str | Path, split: str) -> SplitFiles:
    """Return the paths of the files of a split in a folder of ours, whether or not it exists."""
    images, annotations = Path(folder) / IMAGES, Path(folder) / ANNOTATIONS / split
    return SplitFiles(annotations / f"{TRAIN}.json", annotations / f"{VALIDATION}.json", images, images)


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """Return the class names of the book's data with so many classes."""
    if num_classes == len(SECTION_CLASSES):
        return SECTION_CLASSES
    return (UNSORTED_CLASS,) if num_classes == 1 else tuple(f"class {one + 1}" for one in range(num_classes))


def train_pipeline(plan: DetectorPlan, in_channels: int) -> list[Config]:
    """Return mmdet's steps from a file to the network's input and truth."""
    steps: list[Config] = [
        # "grayscale" squeezes nothing: mmcv gives [height, width], and PackDetInputs adds the channel
        {"type": "LoadImageFromFile", "color_type": "grayscale" if in_channels == 1 else "color"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    ]
    if plan.scale is not None:
        steps.append({"type": "Resize", "scale": (plan.scale, plan.scale), "keep_ratio": True})
    if len(plan.flips) == 1:
        steps.append({"type": "RandomFlip", "prob": FLIP_PROBABILITY, "direction": plan.flips[0]})
    elif plan.flips:  # both at once as often as each alone, and as often as none
        directions = [*plan.flips, "diagonal"]
        steps.append({"type": "RandomFlip", "prob": [0.25, 0.25, 0.25], "direction": directions})
    if plan.quarter_turns:
        steps.append({"type": "QuarterTurns"})
    if plan.grey_jitter:
        steps.append({"type": "GreyJitter", "amount": plan.grey_jitter})
    return [*steps, {"type": "PackDetInputs", "meta_keys": list(_META_KEYS)}]


def _dataloader(
    design: DetectorDesign, plan: DetectorPlan, files: SplitFiles, names: Sequence[str], world_size: int
) -> Config:
    if plan.batch_size % world_size:
        raise UsageError(
            f"`batch_size` must divide among the processes; got batch_size={plan.batch_size} for {world_size}."
        )
    images: Config = {
        "type": "CocoDataset",
        "ann_file": str(files.train),
        "data_prefix": {"img": str(files.train_images)},
        "metainfo": {"classes": list(names)},
        "filter_cfg": {"filter_empty_gt": not plan.empty_images, "min_size": 32},
        "pipeline": train_pipeline(plan, design.numbers.in_channels),
    }
    return {
        "batch_size": plan.batch_size // world_size,
        "num_workers": plan.n_workers,
        "persistent_workers": plan.n_workers > 0,
        "sampler": {"type": "DrawSampler", "by_epoch": plan.epochs is not None},
        "dataset": {"type": "DrawDataset", "seed": plan.seed, "dataset": images},
    }


def _optim_wrapper(plan: DetectorPlan) -> Config:
    optimizer: Config = {"type": "SGD", "lr": plan.learning_rate, "momentum": plan.momentum}
    if plan.optimizer == "adamw":
        # one pass over all weights; the same update, and on two cores 4 % of a small detector's step less
        optimizer = {"type": "AdamW", "lr": plan.learning_rate, "fused": True}
    wrapper: Config = {
        "fp32": {"type": "OptimWrapper"},
        "bf16": {"type": "AutocastOptimWrapper"},
        "fp16": {"type": "AmpOptimWrapper", "dtype": "float16"},
    }[plan.precision]
    wrapper["optimizer"] = {**optimizer, "weight_decay": plan.weight_decay}
    if plan.gradient_clip is not None:
        wrapper["clip_grad"] = {"max_norm": plan.gradient_clip}
    return wrapper


def _learning_rate(plan: DetectorPlan) -> list[Config]:
    warm_up, parts = plan.warm_up_steps, []
    if warm_up:
        span: Config = {"by_epoch": False, "begin": 0, "end": warm_up}
        parts.append({"type": "LinearLR", "start_factor": WARM_UP_FACTOR, **span})
    epochs: Config = {"by_epoch": True, "begin": 0, "end": plan.epochs}
    if plan.decay == "milestones" and plan.milestones:
        parts.append({"type": "MultiStepLR", **epochs, "milestones": list(plan.milestones), "gamma": MILESTONE_FACTOR})
    if plan.decay == "cosine":
        span = {**epochs, "T_max": plan.epochs}
        if plan.steps is not None:
            span = {"by_epoch": False, "begin": warm_up, "end": plan.steps, "T_max": plan.steps - warm_up}
        parts.append({"type": "CosineAnnealingLR", "eta_min": COSINE_FLOOR * plan.learning_rate, **span})
    return parts
