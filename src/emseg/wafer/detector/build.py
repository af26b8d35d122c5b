"""From a design to a network of mmdet with weights.

The weights depend on the seed and the design alone. Everything that two designs have in common starts from the same
weights, whatever the attention between.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Literal, cast

import torch
from torch import nn

from emseg.errors import UsageError
from emseg.wafer.detector.config_check import check_config
from emseg.wafer.detector.design import Detector, DetectorDesign
from emseg.wafer.detector.model_config import Config, model_config


def build_detector(
    detector: Detector = "mask_rcnn",
    depth: int = 50,
    attention: str = "none",
    *,
    num_classes: int = 4,
    size: Literal["paper", "small"] = "paper",
    attention_options: Mapping[str, object] | None = None,
    changes: Mapping[str, object] | None = None,
    backbone_weights: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a detector with initial weights, in training mode; the arguments are those of `DetectorDesign`.

    torch's random state is as it was. Raises `UsageError` for a design that is none.
    """
    design = DetectorDesign(
        detector=detector,
        depth=depth,
        attention=attention,
        attention_options=attention_options or {},
        num_classes=num_classes,
        size=size,
        changes=changes or {},
        backbone_weights=backbone_weights,
    )
    return build_design(design, seed=seed)


def build_design(design: DetectorDesign, *, seed: int = 0) -> nn.Module:
    """Return the detector of `design` with the initial weights of `seed`, in training mode."""
    return build_config(model_config(design), seed=seed)


def build_config(config: Config, *, seed: int = 0) -> nn.Module:
    """Return the detector of a model's configuration, such as `model_config` returns or a file holds.

    Raises `UsageError` for an entry that no part of the model would read.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UsageError(f"`seed` must be a whole number from 0 to 2^63 - 1; got {seed!r}.")
    # Imported here, since mmdet takes seconds that a plain design should not cost; our parts first, they prepare it.
    import_module("emseg.wafer.detector.parts")
    from mmdet.registry import MODELS, TASK_UTILS
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    check_config(config, {**TASK_UTILS.module_dict, **MODELS.module_dict})
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # or it prints a line for every parameter
    try:
        # Detectors are made on the CPU; other devices' generators are not touched, so they need not be kept.
        with torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope("mmdet"):
            torch.default_generator.manual_seed(seed)
            model = MODELS.build(ConfigDict(config))
            # What the parts drew when they were made depends on the design; what they draw now starts anew.
            torch.default_generator.manual_seed(seed)
            model.init_weights()
    finally:
        logger.setLevel(level)
    return cast(nn.Module, model)
