"""The configuration of the paper's size against mmdet's own files, entry by entry."""

import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict

from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.mmdet_config import model_config

FILES = {"mask_rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "ms_rcnn": "ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py"}
MISSING = "not there"

# Every entry in which ours differs from mmdet's: where, mmdet's, ours.
BACKBONE = {
    "backbone.type": ("ResNet", "AttentionResNet"),
    # the same network said otherwise: depth 50 is these blocks, style "pytorch" puts the stride on the 3 x 3
    "backbone.depth": (50, MISSING),
    "backbone.num_stages": (4, MISSING),
    "backbone.style": ("pytorch", MISSING),
    "backbone.block": (MISSING, "bottleneck"),
    "backbone.depths": (MISSING, [3, 4, 6, 3]),
    "backbone.base_channels": (MISSING, 64),
    "backbone.in_channels": (MISSING, 3),
    # always batch normalisation that learns where it is not frozen
    "backbone.norm_cfg.type": ("BN", MISSING),
    "backbone.norm_cfg.requires_grad": (True, MISSING),
    "backbone.attention": (MISSING, "none"),
    "backbone.attention_options": (MISSING, {}),
}
CLASSES = {"roi_head.bbox_head.num_classes": (80, 4), "roi_head.mask_head.num_classes": (80, 4)}
LIMIT = {"test_cfg.rcnn.max_per_img": (100, 1000)}  # dense tiles of 1024 px have up to 162 sections
DELIBERATE = {
    "mask_rcnn": BACKBONE | CLASSES | LIMIT | {"type": ("MaskRCNN", "WaferMaskRCNN")},
    "ms_rcnn": BACKBONE
    | CLASSES
    | LIMIT
    | {"type": ("MaskScoringRCNN", "WaferMaskScoringRCNN"), "roi_head.mask_iou_head.num_classes": (80, 4)},
}


def mmdets(detector: str) -> dict[str, Any]:
    folder = Path(str(files("mmdet"))) / ".mim" / "configs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Config.fromfile(folder / FILES[detector]).model.to_dict()


def entries(config: Any, place: str = "") -> dict[str, Any]:
    """Return every leaf by its place, lists and tuples alike as lists."""
    if isinstance(config, dict) and config:
        return {
            name: value
            for key, part in config.items()
            for name, value in entries(part, f"{place}.{key}" if place else key).items()
        }
    return {place: list(config) if isinstance(config, tuple | list) else config}


def differences(detector: str, design: DetectorDesign) -> dict[str, tuple[Any, Any]]:
    theirs, ours = entries(mmdets(detector)), entries(model_config(design))
    return {
        place: (theirs.get(place, MISSING), ours.get(place, MISSING))
        for place in theirs.keys() | ours.keys()
        if theirs.get(place, MISSING) != ours.get(place, MISSING)
    }


@pytest.mark.parametrize("detector", list(FILES))
def test_the_papers_size_is_mmdets_but_for_the_listed_entries(detector):
    design = DetectorDesign(detector=detector, depth=50, backbone_weights="torchvision")
    assert differences(detector, design) == DELIBERATE[detector]


def test_depth_34_differs_from_depth_50_in_its_blocks_and_the_pyramids_input_only():
    fifty = entries(model_config(DetectorDesign(depth=50, backbone_weights="torchvision")))
    thirty_four = entries(model_config(DetectorDesign(depth=34, backbone_weights="torchvision")))
    assert {place: thirty_four[place] for place in fifty if fifty[place] != thirty_four[place]} == {
        "backbone.block": "basic",
        "backbone.init_cfg.checkpoint": "torchvision://resnet34",
        "neck.in_channels": [64, 128, 256, 512],
    }


def test_an_attention_changes_its_own_entries_only():
    none = entries(model_config(DetectorDesign()))
    options = {"indexing": "scaled", "normalization": "ortho"}
    fanet = entries(model_config(DetectorDesign(attention="fanet", attention_options=options)))
    assert none.keys() ^ fanet.keys() == {
        "backbone.attention_options",
        "backbone.attention_options.indexing",
        "backbone.attention_options.normalization",
    }
    assert {place for place in none.keys() & fanet.keys() if none[place] != fanet[place]} == {"backbone.attention"}


@pytest.mark.parametrize("size", ["paper", "small"])
def test_a_configuration_is_written_and_read_back_unchanged(size, tmp_path):
    config = model_config(DetectorDesign(detector="ms_rcnn", depth=34, attention="fanet", size=size))
    Config({"model": config}).dump(tmp_path / "model.py")
    assert Config.fromfile(tmp_path / "model.py").model == ConfigDict(config)


def test_every_call_returns_a_configuration_of_its_own():
    design = DetectorDesign(attention="fanet", attention_options={"reduction": 8})
    first = model_config(design)
    first["backbone"]["attention_options"]["reduction"] = 4
    first["test_cfg"]["rcnn"]["nms"]["iou_threshold"] = 0.1
    assert model_config(design)["backbone"]["attention_options"] == {"reduction": 8}
    assert model_config(design)["test_cfg"]["rcnn"]["nms"]["iou_threshold"] == 0.5


def test_the_small_sizes_anchors_stand_on_its_two_levels():
    anchors = model_config(DetectorDesign(size="small"))["rpn_head"]["anchor_generator"]
    assert (anchors["strides"], anchors["scales"], anchors["base_sizes"]) == ([4, 8, 16], [1], [32.0, 56.0, 88.0])
