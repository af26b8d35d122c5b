"""The backbone: torchvision's networks with attentions inside, and what mmdet expects of a backbone."""

import pytest
import torch
import torchvision
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.wafer.detector.mmdet_parts import AttentionResNet

FULL = {
    18: ("basic", (2, 2, 2, 2), torchvision.models.resnet18),
    34: ("basic", (3, 4, 6, 3), torchvision.models.resnet34),
    50: ("bottleneck", (3, 4, 6, 3), torchvision.models.resnet50),
}


def small(**changes) -> AttentionResNet:
    arguments = {"depths": (1, 2, 1), "base_channels": 16, "in_channels": 1, "out_indices": (1, 2)} | changes
    return AttentionResNet(**arguments)


@pytest.mark.parametrize("depth", list(FULL))
def test_without_attention_the_keys_and_shapes_are_torchvisions(depth):
    block, depths, make = FULL[depth]
    with torch.device("meta"):
        ours, theirs = AttentionResNet(block, depths), make()
    expected = {name: value.shape for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected


@pytest.mark.parametrize("depth", [34, 50])
def test_with_torchvisions_weights_the_maps_are_torchvisions(depth, tmp_path):
    block, depths, make = FULL[depth]
    theirs = make().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # no network that was trained has means of 0 and variances of 1
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    checkpoint = {"type": "Pretrained", "checkpoint": str(tmp_path / "resnet.pth")}
    ours = AttentionResNet(block, depths, init_cfg=checkpoint).eval()
    ours.init_weights()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage, found in enumerate(ours(x), start=1):
            y = getattr(theirs, f"layer{stage}")(y)
            torch.testing.assert_close(found, y)


@pytest.mark.parametrize("attention", ["se", "eca", "fca", "fanet"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_block_holds_the_attention_and_uses_it(block, attention):
    options = {} if attention == "eca" else {"reduction": 2}  # of very few hidden units all may be at zero
    backbone = small(block=block, attention=attention, attention_options=options)
    backbone.init_weights()
    blocks = [part for stage in (1, 2, 3) for part in backbone.get_submodule(f"layer{stage}")]
    assert len(blocks) == 4
    sum(y.square().mean() for y in backbone(torch.randn(2, 1, 128, 128))).backward()
    for part in blocks:
        gradients = [parameter.grad for parameter in part.attention.parameters()]
        assert gradients
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_options_reach_the_attention_of_every_block():
    options = {"indexing": "scaled", "normalization": "ortho", "reduction": 8}
    backbone = small(attention="fanet", attention_options=options)
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        attention = backbone.get_submodule(f"layer{stage}")[0].attention
        assert (attention.indexing, attention.normalization) == ("scaled", "ortho")
        assert attention.fc[0].out_features == channels // 8


def test_fcanet_pools_by_stage():
    backbone = small(attention="fca")
    sizes = [backbone.get_submodule(f"layer{stage}")[0].attention.pooled_size for stage in (1, 2, 3)]
    assert sizes == [56, 28, 14]


def test_options_of_fcanet_leave_its_pooled_sizes():
    backbone = small(attention="fca", attention_options={"reduction": 4})
    attentions = [backbone.get_submodule(f"layer{stage}")[0].attention for stage in (1, 2, 3)]
    assert [attention.pooled_size for attention in attentions] == [56, 28, 14]
    assert attentions[0].fc[0].out_features == 4


def test_only_the_asked_stages_are_handed_on_at_their_strides():
    maps = small()(torch.randn(1, 1, 96, 64))
    assert [tuple(y.shape) for y in maps] == [(1, 32, 12, 8), (1, 64, 6, 4)]


def test_frozen_stages_do_not_learn_and_keep_their_statistics():
    backbone = small(frozen_stages=1)
    backbone.init_weights()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1)
    sum(y.square().mean() for y in backbone(torch.randn(2, 1, 64, 64))).backward()
    optimizer.step()
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in changed)
    assert {"layer2.0.conv1.weight", "layer2.0.bn1.running_mean", "layer3.0.conv2.weight"} <= changed


def test_norm_eval_keeps_the_statistics_and_lets_the_weights_learn():
    backbone = small(norm_eval=True)
    backbone.train()
    sum(y.square().mean() for y in backbone(torch.randn(2, 1, 64, 64))).backward()
    assert torch.equal(backbone.bn1.running_mean, torch.zeros(16))
    assert backbone.bn1.weight.grad is not None
    assert not backbone.bn1.training
    assert backbone.conv1.training


def test_by_default_the_normalisation_learns_its_statistics():
    backbone = small()
    backbone.train()
    backbone(torch.randn(2, 1, 64, 64))
    assert not torch.equal(backbone.bn1.running_mean, torch.zeros(16))


@pytest.mark.parametrize("attention", ["se", "eca", "fca", "fanet"])
def test_all_weights_but_the_attentions_are_the_same_whatever_the_attention(attention):
    states = []
    for name in ("none", attention):
        torch.manual_seed(7)
        backbone = small(attention=name)
        backbone.init_weights()
        states.append((backbone.state_dict(), torch.rand(())))
    (none, drawn), (attended, drawn_then) = states
    assert all(torch.equal(value, attended[name]) for name, value in none.items())
    assert len(attended) > len(none)
    assert drawn == drawn_then  # and so is what is drawn after


def test_grey_networks_take_the_sum_of_the_filters_of_the_three_colours(tmp_path):
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    checkpoint = {"type": "Pretrained", "checkpoint": str(tmp_path / "resnet18.pth")}
    ours = AttentionResNet("basic", (2, 2, 2, 2), in_channels=1, init_cfg=checkpoint, attention="se")
    ours.init_weights()
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight.sum(dim=1, keepdim=True))


def test_weights_of_another_network_are_refused(tmp_path):
    with torch.device("cpu"):
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "other": torch.zeros(1)}, tmp_path / "other.pth")
    backbone = AttentionResNet(
        "basic", (2, 2, 2, 2), init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "other.pth")}
    )
    with pytest.raises(InputError, match="weights must be those of a ResNet of this design"):
        backbone.init_weights()


WRONG = {
    "block": ({"block": "basik"}, "Did you mean 'basic'"),
    "attention": ({"attention": "fan"}, "`attention` must be one of"),
    "option": ({"attention": "se", "attention_options": {"reductoin": 4}}, "Did you mean 'reduction'"),
    "stage": ({"out_indices": (3,)}, "`out_indices` must name stages from 0 to 2"),
    "initial weights": ({"init_cfg": {"type": "Kaiming"}}, "must be None or have the type 'Pretrained'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_backbone_is_refused_with_its_reason(case, without_type_checks):
    arguments, reason = WRONG[case]
    with pytest.raises(UsageError, match=reason):
        small(**arguments)


def test_a_missing_file_and_an_unknown_name_of_weights_are_named(tmp_path):
    absent = small(init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "absent.pth")})
    with pytest.raises(InputError, match=r"absent\.pth does not exist"):
        absent.init_weights()
    unknown = small(init_cfg={"type": "Pretrained", "checkpoint": "torchvision://resnet35"})
    with pytest.raises(UsageError, match="it has none named 'resnet35'"):
        unknown.init_weights()
