"""Misspelt configurations: each is refused with its place and the nearest known name, and none of ours is."""

from collections.abc import Callable
from typing import Any

import pytest

from emseg.errors import UsageError
from emseg.wafer.detector import DetectorDesign, build_config, model_config
from emseg.wafer.detector.detector_build import accepted_arguments


def renamed(*path: str, to: str) -> Callable[[dict[str, Any]], None]:
    """Misspell the last name of a path."""

    def change(config: dict[str, Any]) -> None:
        *outer, last = path
        for name in outer:
            config = config[name]
        config[to] = config.pop(last)

    return change


def retyped(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for name in path:
            config = config[name]
        config["type"] = to

    return change


TYPOS = {
    "backbone": (
        renamed("backbone", "norm_eval", to="norm_evel"),
        "`model.backbone` .* 'norm_evel'. Did .*'norm_eval'",
    ),
    "detector": (renamed("neck", to="nek"), "`model` may only have what WaferMaskScoringRCNN knows; got 'nek'.*'neck'"),
    "argument of a base class": (
        renamed("roi_head", "bbox_head", "fc_out_channels", to="fc_out_chanels"),
        "`model.roi_head.bbox_head` .* 'fc_out_chanels'. Did you mean 'fc_out_channels'",
    ),
    "loss": (
        renamed("roi_head", "mask_head", "loss_mask", "use_mask", to="use_maks"),
        "`model.roi_head.mask_head.loss_mask` .* 'use_maks'. Did you mean 'use_mask'",
    ),
    "anchors": (
        renamed("rpn_head", "anchor_generator", "strides", to="stride"),
        "`model.rpn_head.anchor_generator` .* AnchorGenerator knows; got 'stride'. Did you mean 'strides'",
    ),
    "test setting": (
        renamed("test_cfg", "rcnn", "score_thr", to="scor_thr"),
        "`model.test_cfg.rcnn` may only have what mmdet knows; got 'scor_thr'. Did you mean 'score_thr'",
    ),
    "training setting": (
        renamed("train_cfg", "rpn_proposal", "max_per_img", to="max_per_image"),
        "`model.train_cfg.rpn_proposal` .* 'max_per_image'. Did you mean 'max_per_img'",
    ),
    "sampler": (
        renamed("train_cfg", "rcnn", "sampler", "pos_fraction", to="pos_fractoin"),
        "`model.train_cfg.rcnn.sampler` .* 'pos_fractoin'. Did you mean 'pos_fraction'",
    ),
    "type": (retyped("neck", to="FPNN"), "`model.neck.type` .* got 'FPNN'. Did you mean 'FPN'"),
    "no type": (retyped("neck", to=3), "`model.neck.type` must name a part that mmdet knows; got 3"),
    "type of the assigner": (
        retyped("train_cfg", "rpn", "assigner", to="MaxIouAssigner"),
        "`model.train_cfg.rpn.assigner.type` .* Did you mean 'MaxIoUAssigner'",
    ),
}


@pytest.mark.parametrize("case", TYPOS)
def test_a_misspelt_entry_is_named_with_its_place_and_the_nearest_known_one(case):
    misspell, reason = TYPOS[case]
    config = model_config(DetectorDesign("ms_rcnn", 18, size="small"))
    misspell(config)
    with pytest.raises(UsageError, match=reason):
        build_config(config)


@pytest.mark.parametrize("config", [{}, {"backbone": {}}, []])
def test_what_is_no_models_configuration_is_refused(config):
    with pytest.raises(UsageError, match='must be a mapping with a "type"'):
        build_config(config)


def test_arguments_of_base_classes_count_as_far_as_they_are_handed_on():
    class Base:
        def __init__(self, width: int, depth: int = 1) -> None: ...

    class Passing(Base):
        def __init__(self, height: int, **others: int) -> None: ...

    class Closed(Base):
        def __init__(self, height: int) -> None: ...

    assert {"height", "width", "depth"} <= accepted_arguments(Passing)
    assert accepted_arguments(Closed) == {"height"}
