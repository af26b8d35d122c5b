"""From a design and a plan to an mmengine configuration: plain dictionaries, lists and numbers.

`model_config` is the network alone: mmdet's own `mask-rcnn_r50_fpn` or `ms-rcnn_r50_fpn`, read from the installed
package, with our backbone and the numbers of the design. `runner_config` is the whole training. As a file
(`mmengine.Config(...).dump`) mmdet's own `tools/train.py` runs it where `emseg` is installed: `custom_imports`
registers our parts, which are

    WaferMaskRCNN, AttentionResNet           boxes in float32; attention in the backbone             `mmdet_parts`
    DrawDataset, DrawSampler, StepSeedHook   which image and which random numbers a step uses        `mmdet_data`
    QuarterTurns, GreyJitter                 augmentation that mmdet lacks                           `mmdet_data`
    AutocastOptimWrapper, DetectorRunner     bf16 also without a GPU; checkpoints without code       `mmdet_runner`
    ResumePointHook, CurvesHook              one atomic checkpoint; the losses as CSV                `mmdet_runner`
    SettledNormsHook                         the last quarter with the normalisations of use         `mmdet_runner`

Source: mmdet's configuration files `_base_/models/mask-rcnn_r50_fpn.py` and `ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py`.
"""

import copy
import importlib.util
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from emseg.errors import UsageError
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.detector.detector_design import FIRST_STRIDE, TORCHVISION, DetectorDesign, DetectorSize
from emseg.wafer.detector.detector_plan import COSINE_FLOOR, MILESTONE_FACTOR, WARM_UP_FACTOR, DetectorPlan
from emseg.wafer.formats.benchmark_folder import ANNOTATIONS, IMAGES, SplitFiles
from emseg.wafer.splits import TRAIN, VALIDATION

MODEL_FILES = {"mask_rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "ms_rcnn": "ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py"}
MODEL_TYPES = {"mask_rcnn": "WaferMaskRCNN", "ms_rcnn": "WaferMaskScoringRCNN"}
MODULES = tuple(f"emseg.wafer.detector.{name}" for name in ("mmdet_parts", "mmdet_runner", "mmdet_data"))
FLIP_PROBABILITY = 0.5
CURVE_INTERVAL = 20  # steps between two reads of the losses: each read waits for the device
_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")

Config = dict[str, Any]


def _part(kind: str, **arguments: Any) -> Config:
    """Return the configuration of one part."""
    return {"type": kind, **arguments}


def require_mmdet() -> Path:
    """Return the folder of the installed mmdet; raises `UsageError` where it or mmengine is not installed."""
    found = [importlib.util.find_spec(name) for name in ("mmengine", "mmcv", "mmdet")]
    if None in found:
        raise UsageError(
            "detectors need mmdet, mmcv and mmengine, of which one is not installed. "
            'Install them with: pip install "emseg[networks]"'
        )
    return Path(str(found[-1].submodule_search_locations[0]))  # type: ignore[union-attr,index]


@cache
def _mmdets_own(detector: str) -> Any:
    folder = require_mmdet()
    from mmengine import Config as MmConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its parser deprecates: nothing for our users
        return MmConfig.fromfile(folder / ".mim" / "configs" / MODEL_FILES[detector])


def model_config(design: DetectorDesign) -> Config:
    """Return the model's configuration, new at every call: mmdet's own with the numbers of the design.

    `mmdet_parts` registers the types. Raises `UsageError` where mmdet is not installed.
    """
    size, network, width = design.numbers, design.backbone, design.numbers.pyramid_channels
    weights = f"torchvision://resnet{design.depth}" if design.backbone_weights == TORCHVISION else None
    weights = weights or design.backbone_weights
    backbone = _part(
        "AttentionResNet",
        block=network.block,
        depths=list(network.depths),
        base_channels=network.base_channels,
        in_channels=network.in_channels,
        out_indices=list(size.stages_read),
        frozen_stages=design.frozen_stages,
        norm_eval=design.norm_eval,
        attention=design.attention,
        attention_options=dict(design.attention_options),
        init_cfg=None if weights is None else _part("Pretrained", checkpoint=weights),
    )
    anchors: Config = {"ratios": list(size.anchor_ratios), "strides": list(size.strides)}
    if size.anchor_sizes is not None:
        anchors |= {"scales": [1], "base_sizes": list(size.anchor_sizes)}
    changes: Config = {
        "type": MODEL_TYPES[design.detector],
        "data_preprocessor.mean": list(size.mean),
        "data_preprocessor.std": list(size.std),
        "data_preprocessor.bgr_to_rgb": size.in_channels == 3,
        "data_preprocessor.pad_size_divisor": size.pad_to,
        "backbone": {"_delete_": True, **backbone},
        "neck.in_channels": [network.out_channels[stage] for stage in size.stages_read],
        "neck.out_channels": width,
        "neck.num_outs": len(size.strides),
        "rpn_head.in_channels": width,
        "rpn_head.feat_channels": width,
        "rpn_head.anchor_generator": anchors,
        "roi_head.bbox_head.in_channels": width,
        "roi_head.bbox_head.fc_out_channels": size.fc_channels,
        "roi_head.bbox_head.roi_feat_size": size.box_grid,
        "roi_head.mask_head.in_channels": width,
        "roi_head.mask_head.num_convs": size.mask_layers,
        "roi_head.mask_head.conv_out_channels": size.mask_channels,
        "train_cfg.rpn.sampler.num": size.rpn_samples,
        "train_cfg.rpn_proposal": _proposals(size, size.train_candidates, size.train_proposals),
        "train_cfg.rcnn.sampler.num": size.region_samples,
        "train_cfg.rcnn.sampler.pos_fraction": size.region_positives,
        "train_cfg.rcnn.mask_size": 2 * size.mask_grid,
        "test_cfg.rpn": _proposals(size, size.test_candidates, size.test_proposals),
        "test_cfg.rcnn.score_thr": size.score_threshold,
        "test_cfg.rcnn.nms.iou_threshold": size.detection_overlap,
        "test_cfg.rcnn.max_per_img": size.max_per_image,
        "test_cfg.rcnn.mask_thr_binary": size.mask_threshold,
    }
    for name, grid in (("bbox", size.box_grid), ("mask", size.mask_grid)):
        extractor = f"roi_head.{name}_roi_extractor"
        changes[f"{extractor}.roi_layer"] = {"output_size": grid, "sampling_ratio": size.sampling_ratio}
        changes[f"{extractor}.out_channels"] = width
        changes[f"{extractor}.featmap_strides"] = [FIRST_STRIDE * 2**stage for stage in size.stages_read]
        changes[f"roi_head.{name}_head.num_classes"] = design.num_classes
    if design.detector == "ms_rcnn":
        changes["train_cfg.rcnn.mask_thr_binary"] = size.mask_threshold
        changes["roi_head.mask_iou_head"] = {
            "roi_feat_size": size.mask_grid,
            "in_channels": width,
            "conv_out_channels": size.mask_iou_channels,
            "fc_out_channels": size.mask_iou_fc_channels,
            "num_classes": design.num_classes,
        }
    config = copy.deepcopy(_mmdets_own(design.detector))
    config.merge_from_dict({f"model.{place}": value for place, value in changes.items()})
    return dict(config.model.to_dict())


def _proposals(size: DetectorSize, candidates: int, proposals: int) -> Config:
    return {"nms_pre": candidates, "max_per_img": proposals, "nms": {"iou_threshold": size.proposal_overlap}}


def runner_config(
    design: DetectorDesign,
    plan: DetectorPlan,
    folder: str | Path = "data/wafer",
    split: str = "wafer",
    work_dir: str | Path = "work_dirs/detector",
    *,
    files: SplitFiles | None = None,
    class_names: Sequence[str] = SECTION_CLASSES,
    world_size: int = 1,
) -> Config:
    """Return the whole configuration of training `design` by `plan` on the COCO folder `folder`, which is not read.

    `files` gives the paths where they differ from those of `emseg.wafer.formats.benchmark_folder`, `class_names` the
    categories in the order of their ids. `world_size` processes share each step's `batch_size` images.
    """
    if len(class_names) != design.num_classes:
        raise UsageError(
            f"the design's `num_classes` must be the number of classes in the data; got num_classes="
            f"{design.num_classes} and {len(class_names)} classes ({', '.join(class_names)})."
        )
    if plan.batch_size % world_size:
        raise UsageError(
            f"`batch_size` must divide among the processes; got batch_size={plan.batch_size} for {world_size}."
        )
    by_epoch = plan.epochs is not None
    images, annotations = Path(folder) / IMAGES, Path(folder) / ANNOTATIONS / split
    files = files or SplitFiles(annotations / f"{TRAIN}.json", annotations / f"{VALIDATION}.json", images, images)
    dataset = _part(
        "CocoDataset",
        ann_file=str(files.train),
        data_prefix={"img": str(files.train_images)},
        metainfo={"classes": list(class_names)},
        filter_cfg={"filter_empty_gt": not plan.empty_images, "min_size": 32},
        pipeline=train_pipeline(plan, design.numbers.in_channels),
    )
    loop = _part("IterBasedTrainLoop", max_iters=plan.steps)
    return {
        "default_scope": "mmdet",
        "custom_imports": {"imports": list(MODULES), "allow_failed_imports": False},
        "runner_type": "DetectorRunner",
        "model": model_config(design),
        "train_dataloader": {
            "batch_size": plan.batch_size // world_size,
            "num_workers": plan.n_workers,
            "persistent_workers": plan.n_workers > 0,
            "sampler": _part("DrawSampler", by_epoch=by_epoch),
            "dataset": _part("DrawDataset", seed=plan.seed, dataset=dataset),
        },
        "train_cfg": _part("EpochBasedTrainLoop", max_epochs=plan.epochs) if by_epoch else loop,
        "optim_wrapper": _optim_wrapper(plan),
        "param_scheduler": _learning_rate(plan),
        "default_hooks": {
            "runtime_info": None,  # these three read every loss from the device at every step
            "timer": None,
            "logger": None,
            "param_scheduler": _part("ParamSchedulerHook"),
            "checkpoint": _part("ResumePointHook", interval=plan.checkpoint_interval, by_epoch=by_epoch),
            "sampler_seed": _part("DistSamplerSeedHook"),
        },
        "custom_hooks": [
            _part("StepSeedHook", seed=plan.seed),
            _part("CurvesHook", interval=CURVE_INTERVAL),
            *(
                [_part("SettledNormsHook", n_batches=plan.norm_batches, batch_size=plan.batch_size)]
                if plan.norm_batches
                else []
            ),
        ],
        "randomness": {"seed": plan.seed},
        "device": plan.device,
        "channels_last": plan.channels_last,
        "env_cfg": {
            "cudnn_benchmark": False,
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "nccl"},  # on a CPU DetectorRunner takes gloo
        },
        "visualizer": _part("Visualizer", vis_backends=[_part("TensorboardVisBackend")] if plan.tensorboard else []),
        "log_level": "ERROR",
        "work_dir": str(work_dir),
        "load_from": None,
        "resume": True,
    }


def train_pipeline(plan: DetectorPlan, in_channels: int) -> list[Config]:
    """Return mmdet's steps from a file to the network's input and truth."""
    steps = [
        # "grayscale" squeezes nothing: mmcv gives [height, width], and PackDetInputs adds the channel
        _part("LoadImageFromFile", color_type="grayscale" if in_channels == 1 else "color"),
        _part("LoadAnnotations", with_bbox=True, with_mask=True),
    ]
    if plan.scale is not None:
        steps.append(_part("Resize", scale=(plan.scale, plan.scale), keep_ratio=True))
    if len(plan.flips) == 1:
        steps.append(_part("RandomFlip", prob=FLIP_PROBABILITY, direction=plan.flips[0]))
    elif plan.flips:  # both at once as often as each alone, and as often as none
        steps.append(_part("RandomFlip", prob=[0.25, 0.25, 0.25], direction=[*plan.flips, "diagonal"]))
    if plan.quarter_turns:
        steps.append(_part("QuarterTurns"))
    if plan.grey_jitter:
        steps.append(_part("GreyJitter", amount=plan.grey_jitter))
    return [*steps, _part("PackDetInputs", meta_keys=list(_META_KEYS))]


def _optim_wrapper(plan: DetectorPlan) -> Config:
    common = {"lr": plan.learning_rate, "weight_decay": plan.weight_decay}
    if plan.optimizer == "adamw":
        # one pass over all weights; the same update, and on two cores 4 % of a small detector's step less
        optimizer = _part("AdamW", **common, fused=True)
    else:
        optimizer = _part("SGD", **common, momentum=plan.momentum)
    wrapper: Config = {
        "fp32": _part("OptimWrapper"),
        "bf16": _part("AutocastOptimWrapper"),
        "fp16": _part("AmpOptimWrapper", dtype="float16"),
    }[plan.precision]
    clip = {} if plan.gradient_clip is None else {"clip_grad": {"max_norm": plan.gradient_clip}}
    return {**wrapper, "optimizer": optimizer, **clip}


def _learning_rate(plan: DetectorPlan) -> list[Config]:
    warm_up, parts = plan.warm_up_steps, []
    if warm_up:
        parts.append(_part("LinearLR", start_factor=WARM_UP_FACTOR, by_epoch=False, begin=0, end=warm_up))
    span: Config = {"by_epoch": True, "begin": 0, "end": plan.epochs}
    if plan.decay == "milestones" and plan.milestones:
        parts.append(_part("MultiStepLR", **span, milestones=list(plan.milestones), gamma=MILESTONE_FACTOR))
    if plan.decay == "cosine":
        if plan.steps is not None:
            span = {"by_epoch": False, "begin": warm_up, "end": plan.steps}
        length = span["end"] - span["begin"]
        parts.append(_part("CosineAnnealingLR", eta_min=COSINE_FLOOR * plan.learning_rate, **span, T_max=length))
    return parts


def config_text(config: Config) -> str:
    """Return a configuration as the Python file of mmdet's `tools/train.py`."""
    require_mmdet()
    from mmengine import Config as MmConfig

    return str(MmConfig(config).pretty_text)
