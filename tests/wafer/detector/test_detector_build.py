"""The models of Table 2: each learns, predicts and starts from weights that its seed decides."""

import warnings
from collections.abc import Mapping
from importlib import import_module
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.wafer.detector import DetectorDesign, build_design, model_config
from emseg.wafer.detector.detector_build import build_config

ATTENTIONS = {
    "none": "Identity",
    "se": "SqueezeExcite",
    "eca": "EfficientChannelAttention",
    "fca": "FcaAttention",
    "fanet": "FanetAttention",
}
TABLE = list(product(("mask_rcnn", "ms_rcnn"), (34, 50), ATTENTIONS))
# Each detector with each depth, and each attention: a network has no other parts.
TRAINED = [
    ("mask_rcnn", 34, "none"),
    ("ms_rcnn", 50, "se"),
    ("mask_rcnn", 50, "eca"),
    ("ms_rcnn", 34, "fca"),
    ("ms_rcnn", 50, "fanet"),
    ("mask_rcnn", 34, "fanet"),
]
HEADS = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"}


def losses(model: nn.Module, batch: Mapping[str, list]) -> dict[str, Tensor]:
    """One loss a name, levels of the pyramid added up; without the accuracy that mmdet reports beside them."""
    parts = model(**model.data_preprocessor(dict(batch), training=True), mode="loss")
    return {name: sum(part) if isinstance(part, list) else part for name, part in parts.items() if "loss" in name}


def predictions(model: nn.Module, batch: Mapping[str, list]) -> list:
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(dict(batch), training=False), mode="predict")
    return [sample.pred_instances for sample in samples]


@pytest.mark.parametrize(("detector", "depth", "attention"), TABLE)
def test_every_model_of_the_table_has_its_heads_its_blocks_and_its_attention_in_each(detector, depth, attention):
    import_module("emseg.wafer.detector.mmdet_parts")  # prepares mmdet
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope

    config = ConfigDict(model_config(DetectorDesign(detector, depth, attention)))
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    blocks = [block for stage in range(1, 5) for block in model.backbone.get_submodule(f"layer{stage}")]
    assert len(blocks) == 16
    assert {len([name for name, _ in block.named_children() if name.startswith("conv")]) for block in blocks} == {
        {34: 2, 50: 3}[depth]
    }
    assert {type(block.attention).__name__ for block in blocks} == {ATTENTIONS[attention]}
    assert hasattr(model.roi_head, "mask_iou_head") == (detector == "ms_rcnn")


@pytest.mark.parametrize(("detector", "depth", "attention"), TRAINED)
def test_a_model_of_the_table_takes_a_training_step_and_predicts(detector, depth, attention, tiles):
    # Nothing is learnt in one step: whatever the classifier holds for possible at all is a prediction here.
    model = build_design(DetectorDesign(detector, depth, attention, size="small", changes={"score_threshold": 0.0}))
    model.train()
    batch = tiles(2, 1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    parts = losses(model, batch)
    assert set(parts) == HEADS | ({"loss_mask_iou"} if detector == "ms_rcnn" else set())
    assert all(torch.isfinite(part) and part > 0 for part in parts.values())
    sum(parts.values()).backward()
    optimizer.step()
    unchanged = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert not unchanged
    assert any(".attention." in name for name in before) == (attention != "none")

    (first, second) = predictions(model, batch)
    for found in (first, second):
        assert found.masks.shape == (len(found), 128, 128)
        assert found.masks.dtype == torch.bool
        assert torch.isfinite(found.scores).all()
        assert torch.isin(found.labels, torch.arange(4)).all()
        corners = found.bboxes
        assert (corners >= 0).all()
        assert (corners <= 128).all()
    assert len(first) + len(second) > 0


@pytest.mark.parametrize("detector", ["mask_rcnn", "ms_rcnn"])
def test_tiles_without_a_section_give_finite_losses_and_gradients(detector, tiles):
    model = build_design(DetectorDesign(detector, 18, size="small"))
    parts = losses(model, tiles(0, 0))
    sum(parts.values()).backward()
    assert all(torch.isfinite(part) for part in parts.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_few_steps_on_one_batch_lower_the_losses_of_all_heads(tiles):
    torch.manual_seed(0)
    model = build_design(DetectorDesign("ms_rcnn", 18, "fanet", size="small"))
    model.train()
    batch = tiles(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(12):
        parts = losses(model, batch)
        total = sum(parts.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append({name: part.item() for name, part in parts.items()})
    for name in ("loss_rpn_cls", "loss_cls", "loss_mask"):
        assert history[-1][name] < 0.8 * history[0][name]


def test_mixed_precision_gives_float32_losses_near_those_of_full_precision(tiles):
    batch, found = tiles(2, 2), []
    for enabled in (False, True):
        model = build_design(DetectorDesign("ms_rcnn", 18, "fanet", size="small"))
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(losses(model, batch))
    assert all(part.dtype == torch.float32 for part in found[1].values())
    assert found[1]["loss_rpn_cls"].item() == pytest.approx(found[0]["loss_rpn_cls"].item(), rel=0.01)
    assert found[1]["loss_rpn_bbox"].item() == pytest.approx(found[0]["loss_rpn_bbox"].item(), rel=0.05)


def test_in_mixed_precision_boxes_keep_their_digits(tiles):
    """bfloat16 has 8 significant bits: there, all corners beyond 128 px would be whole numbers."""
    model = build_design(DetectorDesign("mask_rcnn", 18, size="small"))
    batch = tiles(2, size=256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = predictions(model, batch)
    far = found.bboxes[(found.bboxes > 128) & (found.bboxes < 255.9)]
    assert found.bboxes.dtype == torch.float32
    assert len(far) > 10
    assert (far != far.round()).float().mean() > 0.9


def test_without_mixed_precision_the_model_is_mmdets(tiles):
    """The two classes of ours change the precision of what the parts hand on, and nothing else."""
    config = model_config(DetectorDesign("ms_rcnn", 18, "fanet", size="small"))
    batch = tiles(2, 1)
    found = []
    for name in ("WaferMaskScoringRCNN", "MaskScoringRCNN"):
        model = build_config(config | {"type": name})
        torch.manual_seed(0)
        found.append(losses(model, batch))
    torch.testing.assert_close(found[0], found[1])


def test_the_seed_decides_the_weights_and_the_callers_random_state_stays():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_design(DetectorDesign("mask_rcnn", 18, "fanet", size="small"), seed=3).state_dict()
    assert torch.equal(torch.rand(3), expected)
    torch.rand(10)
    again = build_design(DetectorDesign("mask_rcnn", 18, "fanet", size="small"), seed=3).state_dict()
    other = build_design(DetectorDesign("mask_rcnn", 18, "fanet", size="small"), seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if name.endswith("weight") and value.ndim > 1]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("attention", ["se", "eca", "fca", "fanet"])
def test_what_two_designs_share_starts_from_the_same_weights(attention):
    plain = build_design(DetectorDesign("mask_rcnn", 18, size="small")).state_dict()
    attended = build_design(DetectorDesign("ms_rcnn", 18, attention, size="small")).state_dict()
    assert all(torch.equal(value, attended[name]) for name, value in plain.items())


@pytest.mark.parametrize("detector", ["mask_rcnn", "ms_rcnn"])
def test_the_papers_model_has_as_many_parameters_as_mmdets_own(detector):
    """Of one detector without pretrained weights, mmdet's with its ResNet and with our number of classes."""
    import_module("emseg.wafer.detector.mmdet_parts")  # prepares mmdet
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope

    ours = model_config(DetectorDesign(detector, 50))
    theirs = model_config(DetectorDesign(detector, 50))
    theirs["type"] = theirs["type"].removeprefix("Wafer")
    theirs["backbone"] = {"type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3)}
    shapes = []
    for config in (ours, theirs):
        with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet"):
            model = MODELS.build(ConfigDict(config))
        shapes.append({name: tuple(value.shape) for name, value in model.state_dict().items()})
    assert shapes[0] == shapes[1]


def test_the_papers_model_of_depth_34_predicts_on_an_image_of_any_size(tiles):
    model = build_design(DetectorDesign("mask_rcnn", 34, "fanet"))
    (found,) = predictions(model, tiles(1, size=230, channels=3))
    assert found.masks.shape == (len(found), 230, 230)


def test_building_a_model_says_nothing(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_design(DetectorDesign("mask_rcnn", 18, size="small"))
    assert capfd.readouterr() == ("", "")


def test_an_attentions_options_reach_the_model():
    model = build_design(
        DetectorDesign("mask_rcnn", 34, "fanet", size="small", attention_options={"indexing": "scaled"})
    )
    assert {part.indexing for name, part in model.named_modules() if name.endswith(".attention")} == {"scaled"}


def test_changes_reach_the_model():
    model = build_design(DetectorDesign(depth=34, size="small", changes={"base_channels": 16, "fc_channels": 64}))
    assert model.backbone.conv1.out_channels == 16
    assert model.roi_head.bbox_head.fc_cls.in_features == 64


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(UsageError, match="`seed` must be a whole number"):
        build_design(DetectorDesign("mask_rcnn", 18, size="small"), seed=seed)
