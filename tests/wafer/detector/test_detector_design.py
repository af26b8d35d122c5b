"""Designs of detectors: what they refuse, and that they go through JSON unchanged."""

import json

import pytest

from emseg.checks import plain
from emseg.errors import UsageError
from emseg.wafer.detector.detector_design import (
    BACKBONES,
    DETECTORS,
    PAPER_SIZE,
    SIZES,
    DetectorDesign,
    DetectorSize,
)

ATTENTIONS = ("none", "se", "eca", "fca", "fanet")

WRONG_DESIGNS = {
    "detector": ({"detector": "mask_rnn"}, "Did you mean 'mask_rcnn'"),
    "depth": ({"depth": 101}, "must be one of 18, 34, 50; got 101"),
    "depth as text": ({"depth": "50"}, "must be one of 18, 34, 50; got '50'"),
    "attention": ({"attention": "fanett"}, "Did you mean 'fanet'"),
    "classes": ({"num_classes": 0}, "`num_classes` must be at least 1; got 0"),
    "classes as a truth value": ({"num_classes": True}, "got True"),
    "size": ({"size": "smal"}, "Did you mean 'small'"),
    "weights": ({"backbone_weights": 3}, "`backbone_weights` must be text; got 3"),
    "change": (
        {"changes": {"base_chanels": 32}},
        "size has no 'base_chanels'. Did you mean 'base_channels'",
    ),
    "changes as a list": ({"changes": ["base_channels"]}, "`changes` must be a valid dictionary"),
    "options as text": ({"attention_options": "raw"}, "`attention_options` must be a valid dictionary"),
    "option": (
        {"attention": "fanet", "attention_options": {"indexin": "raw"}},
        "has reduction, frequencies, normalization, indexing, layers; got 'indexin'. Did you mean 'indexing'",
    ),
    "option of another attention": (
        {"attention": "se", "attention_options": {"indexing": "raw"}},
        "the attention 'se', which has reduction, bias; got 'indexing'",
    ),
    "option without an attention": ({"attention_options": {"reduction": 8}}, "'none', which has none; got 'reduction'"),
    "value of an option": ({"attention": "fanet", "attention_options": {"indexing": "row"}}, "Did you mean 'raw'"),
    "width that cannot be divided": (
        {"attention": "fanet", "depth": 34, "changes": {"base_channels": 24}},
        "24 channels and 16 frequencies",
    ),
    "width below the reduction": ({"attention": "se", "depth": 34, "changes": {"base_channels": 8}}, "reduction=8 or"),
}


@pytest.mark.parametrize("case", WRONG_DESIGNS)
def test_what_is_no_design_is_refused_with_its_reason(case, without_type_checks):
    arguments, reason = WRONG_DESIGNS[case]
    with pytest.raises(UsageError, match=reason):
        DetectorDesign(**arguments)


WRONG_SIZES = {
    "channels": ({"in_channels": 2, "mean": [0.0, 0.0], "std": [1.0, 1.0]}, "must be one of 1, 3; got 2"),
    "means": ({"mean": [128.0]}, "`mean` must have one number for each of the 3 input channels"),
    "spread of nothing": ({"std": [0.0, 1.0, 1.0]}, "`std.0` must be greater than 0"),
    "strides that do not double": ({"strides": [4, 8, 24, 32]}, "must double from level to level"),
    "stride of no stage": ({"strides": [64, 128]}, "start at the stride of a stage, 4 to 32"),
    "stage for nothing": ({"strides": [4, 8]}, "reach the last stage"),
    "anchors": ({"anchor_sizes": [32.0]}, "one size for each level"),
    "no sample": ({"rpn_samples": 0}, "`rpn_samples` must be at least 2; got 0"),
    "threshold": ({"score_threshold": 1.5}, "`score_threshold` must be at most 1; got 1.5"),
    "stages": ({"n_stages": 5}, "`n_stages` must be at most 4; got 5"),
    "frozen stages": ({"frozen_stages": 7}, "`frozen_stages` must be -1"),
    "norm": ({"norm_eval": "yes"}, "`norm_eval` must be true or false"),
}


@pytest.mark.parametrize("case", WRONG_SIZES)
def test_what_is_no_size_is_refused_with_its_reason(case):
    changes, reason = WRONG_SIZES[case]
    with pytest.raises(UsageError, match=reason):
        DetectorDesign(changes=changes)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_cell_of_the_table_goes_through_json_unchanged(attention):
    for detector in DETECTORS:
        for depth in BACKBONES:
            for size in SIZES:
                design = DetectorDesign(detector=detector, depth=depth, attention=attention, size=size)
                assert DetectorDesign(**json.loads(json.dumps(design.to_dict()))) == design


def test_options_and_changes_go_through_json_unchanged():
    design = DetectorDesign(
        attention="fanet",
        attention_options={"indexing": "scaled", "frequencies": [[0, 0], [0, 1]]},
        changes={"strides": [8, 16, 32], "anchor_sizes": [40, 60, 90.5]},
    )
    again = DetectorDesign(**json.loads(json.dumps(design.to_dict())))
    assert again == design
    assert again.numbers == design.numbers
    assert design.numbers.anchor_sizes == (40, 60, 90.5)


def test_a_record_with_an_unknown_entry_is_refused():
    with pytest.raises(UsageError, match=r"has no 'atention'\. Did you mean 'attention'"):
        DetectorDesign(**{"atention": "se"})


def test_a_size_goes_through_json_unchanged():
    assert DetectorSize(**json.loads(json.dumps(plain(PAPER_SIZE)))) == PAPER_SIZE


def test_random_weights_learn_everywhere_and_pretrained_ones_are_frozen_as_in_mmdet():
    assert (DetectorDesign().frozen_stages, DetectorDesign().norm_eval) == (-1, False)
    pretrained = DetectorDesign(backbone_weights="torchvision")
    assert (pretrained.frozen_stages, pretrained.norm_eval) == (1, True)
    changed = DetectorDesign(backbone_weights="torchvision", changes={"frozen_stages": 0, "norm_eval": False})
    assert (changed.frozen_stages, changed.norm_eval) == (0, False)


def test_the_small_size_keeps_the_blocks_of_the_stages_that_it_has():
    for depth, blocks in ((34, (3, 4, 6)), (50, (3, 4, 6)), (18, (2, 2, 2))):
        design = DetectorDesign(depth=depth, size="small")
        assert design.backbone.depths == blocks
        assert design.backbone.block == BACKBONES[depth].block


def test_a_deeper_small_backbone_is_no_narrower():
    """Otherwise "deeper is better" would compare widths: 2.0 M parameters against 3.3 M, as it once did."""
    shallow, deep = (DetectorDesign(depth=depth, size="small").backbone.base_channels for depth in (34, 50))
    assert deep >= shallow
