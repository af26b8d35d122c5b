"""Mask R-CNN and Mask Scoring R-CNN of mmdet, whose boxes keep their digits in mixed precision.

Under autocast the heads hand on boxes, scores and masks in the precision of their last layer, and mmdet then makes
anchors and regions of that precision too. bfloat16 has 8 significant bits: a corner at pixel 300 is rounded to
2 pixels, one at 1000 to 4. Here the layers run in mixed precision, but what leaves the pyramid and the heads is
float32, so every box is. Without autocast nothing changes, and the weights are mmdet's.

Source: mmdet's `MaskRCNN` and `MaskScoringRCNN`; the arguments are theirs.
"""

from collections.abc import Mapping

import torch
from mmdet.models.detectors import MaskRCNN, MaskScoringRCNN
from mmdet.registry import MODELS
from torch import Tensor, nn

Config = Mapping[str, object]


def in_float32(outputs: object) -> object:
    """Return the tensors of any nest of lists and tuples in float32 at least; None stays None."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_float32(output) for output in outputs)
    return outputs


def keep_digits(detector: nn.Module) -> None:
    """Make the pyramid and the heads of a detector hand on float32, whatever precision they work in."""
    for name in ("neck", "rpn_head", "roi_head.bbox_head", "roi_head.mask_head", "roi_head.mask_iou_head"):
        owner, _, part = name.rpartition(".")
        module = getattr(detector.get_submodule(owner), part, None)
        if module is not None:
            module.register_forward_hook(_hand_on_float32)


def _hand_on_float32(_module: nn.Module, _inputs: object, outputs: object) -> object:
    return in_float32(outputs)


@MODELS.register_module()
class WaferMaskRCNN(MaskRCNN):  # type: ignore[misc]  # mmdet carries no types
    """mmdet's Mask R-CNN with boxes in float32."""

    def __init__(
        self,
        backbone: Config,
        rpn_head: Config,
        roi_head: Config,
        train_cfg: Config,
        test_cfg: Config,
        neck: Config | None = None,
        data_preprocessor: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(backbone, rpn_head, roi_head, train_cfg, test_cfg, neck, data_preprocessor, init_cfg)
        keep_digits(self)


@MODELS.register_module()
class WaferMaskScoringRCNN(MaskScoringRCNN):  # type: ignore[misc]
    """mmdet's Mask Scoring R-CNN with boxes in float32."""

    def __init__(
        self,
        backbone: Config,
        rpn_head: Config,
        roi_head: Config,
        train_cfg: Config,
        test_cfg: Config,
        neck: Config | None = None,
        data_preprocessor: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(backbone, rpn_head, roi_head, train_cfg, test_cfg, neck, data_preprocessor, init_cfg)
        keep_digits(self)
