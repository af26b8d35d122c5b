"""From a design to the `model` part of an mmengine configuration: plain dictionaries, lists and numbers.

With the size "paper", depth 50, no attention and torchvision's weights this is mmdet's own `mask-rcnn_r50_fpn` or
`ms-rcnn_r50_fpn`, but for the names of the two classes that are ours and for the number of classes; a test compares
every entry.

Source: mmdet's configuration files `_base_/models/mask-rcnn_r50_fpn.py` and `ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py`.
"""

from typing import Any

from emseg.wafer.detector.design import TORCHVISION, DetectorDesign
from emseg.wafer.detector.sizes import FIRST_STRIDE, DetectorSize

MODEL_TYPES = {"mask_rcnn": "WaferMaskRCNN", "ms_rcnn": "WaferMaskScoringRCNN"}

Config = dict[str, Any]


def model_config(design: DetectorDesign) -> Config:
    """Return the model's configuration, new at every call; `emseg.wafer.detector.parts` knows its types."""
    numbers = design.numbers
    return {
        "type": MODEL_TYPES[design.detector],
        "data_preprocessor": _data_preprocessor(numbers),
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
        "test_cfg": _test_cfg(numbers),
    }


def _data_preprocessor(numbers: DetectorSize) -> Config:
    return {
        "type": "DetDataPreprocessor",
        "mean": list(numbers.mean),
        "std": list(numbers.std),
        "bgr_to_rgb": numbers.in_channels == 3,
        "pad_mask": True,
        "pad_size_divisor": numbers.pad_to,
    }


def _backbone(design: DetectorDesign) -> Config:
    network = design.backbone
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
        "init_cfg": _pretrained(design),
    }


def _pretrained(design: DetectorDesign) -> Config | None:
    if design.backbone_weights is None:
        return None
    fetched = design.backbone_weights == TORCHVISION
    checkpoint = f"torchvision://resnet{design.depth}" if fetched else design.backbone_weights
    return {"type": "Pretrained", "checkpoint": checkpoint}


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
    return {
        "type": "DeltaXYWHBBoxCoder",
        "target_means": [0.0, 0.0, 0.0, 0.0],
        "target_stds": [position, position, side, side],
    }


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
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": smallest,
        "match_low_quality": True,
        "ignore_iof_thr": -1,
    }


def _sampler(n: int, positive_fraction: float, *, add_truth: bool) -> Config:
    return {
        "type": "RandomSampler",
        "num": n,
        "pos_fraction": positive_fraction,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_truth,
    }


def _proposals(numbers: DetectorSize, candidates: int, proposals: int) -> Config:
    return {
        "nms_pre": candidates,
        "max_per_img": proposals,
        "nms": {"type": "nms", "iou_threshold": numbers.proposal_overlap},
        "min_bbox_size": 0,
    }


def _test_cfg(numbers: DetectorSize) -> Config:
    return {
        "rpn": _proposals(numbers, numbers.test_candidates, numbers.test_proposals),
        "rcnn": {
            "score_thr": numbers.score_threshold,
            "nms": {"type": "nms", "iou_threshold": numbers.detection_overlap},
            "max_per_img": numbers.max_per_image,
            "mask_thr_binary": numbers.mask_threshold,
        },
    }
