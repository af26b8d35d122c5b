"""Residual networks: torchvision's where nothing is added, and the attention where the papers put it."""

import pytest
import timm
import torch
import torchvision
from reference.fcanet_layer import fcanet_attention, fcanet_filters
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.frequency import (
    ATTENTIONS,
    FCANET_SIZES,
    RESNET18,
    RESNET34,
    RESNET50,
    TOP16,
    FanetAttention,
    ResNet,
    ResNetDesign,
    SqueezeExcite,
    build_attention,
    load_weights,
)
from emseg.frequency.resnet import BasicBlock, Bottleneck

SMALL = ResNetDesign(depths=(1, 1, 1), base_channels=16, in_channels=1, n_classes=4)
TORCHVISION = {
    "resnet18": (RESNET18, torchvision.models.resnet18),
    "resnet34": (RESNET34, torchvision.models.resnet34),
    "resnet50": (RESNET50, torchvision.models.resnet50),
}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def torchvision_network(name: str) -> nn.Module:
    """Torchvision's network with random weights, and running means and variances that are not those of a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        network = TORCHVISION[name][1](weights=None).train()
        with torch.no_grad():
            network(images(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", TORCHVISION)
def test_without_attention_it_is_torchvisions_network(name: str) -> None:
    """With the same weights, the logits are the same bits, and so are those of a training step's gradient."""
    theirs = torchvision_network(name)
    ours = ResNet(TORCHVISION[name][0]).eval()
    load_weights(ours, theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = images(2, 3, 96, 64, seed=1)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["se", "eca", "fca", "fanet"])
def test_with_attention_only_the_attentions_weights_are_missing(name: str) -> None:
    """Torchvision's weights go in, the attention's stay; with all factors 1 the network is torchvision's again."""
    theirs = torchvision_network("resnet34")
    ours = ResNet(RESNET34, name).eval()
    kept = {key: value.clone() for key, value in ours.state_dict().items() if ".attention." in key}
    load_weights(ours, theirs.state_dict())
    state = ours.state_dict()
    assert kept
    assert state.keys() - theirs.state_dict().keys() == kept.keys()
    assert all(torch.equal(state[key], value) for key, value in kept.items())
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        assert not torch.allclose(ours(x), theirs(x))
        for block in (block for stage in (1, 2, 3, 4) for block in ours.get_submodule(f"layer{stage}")):
            block.attention = nn.Identity()
        assert torch.equal(ours(x), theirs(x))


def test_a_grey_image_in_colour_gives_the_same_as_the_grey_image() -> None:
    """With one input channel the three colours' filters are added up."""
    theirs = torchvision_network("resnet18")
    ours = ResNet(ResNetDesign(depths=(2, 2, 2, 2), in_channels=1)).eval()
    load_weights(ours, theirs.state_dict())
    x = images(2, 1, 64, 64)
    with torch.no_grad():
        wanted = theirs(x.expand(-1, 3, -1, -1))
        assert (ours(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_another_number_of_classes_keeps_its_own_classifier() -> None:
    """head=False loads everything but the classifier."""
    theirs = torchvision_network("resnet18").state_dict()
    ours = ResNet(ResNetDesign(depths=(2, 2, 2, 2), n_classes=4))
    before = ours.fc.weight.clone()
    load_weights(ours, theirs, head=False)
    assert torch.equal(ours.fc.weight, before)
    assert torch.equal(ours.layer4[1].conv2.weight, theirs["layer4.1.conv2.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer3.2.bn1.running_var"), "lacks 1 entries, the first 'layer3.2.bn1.running_var'"),
        (
            lambda state: state.update({"layer5.weight": torch.zeros(1)}),
            "contains unknown 1 entries, the first 'layer5",
        ),
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), "has other shapes for 1 entries"),
        (lambda state: state.update({"fc.bias": torch.zeros(4)}), "leave the classifier out with head=False"),
        (lambda state: state.clear(), "lacks 218 entries"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(change: object, message: str) -> None:
    state = dict(torchvision_network("resnet34").state_dict())
    change(state)  # type: ignore[operator]
    network = ResNet(RESNET34, "fanet")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_weights(network, state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Recorder(nn.Module):
    """Stands where an attention would, keeps what it is given, and hands on zeros."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return torch.zeros_like(x)


@pytest.mark.parametrize(("block", "last", "widening"), [(BasicBlock, "bn2", 1), (Bottleneck, "bn3", 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_attention_sits_between_the_last_norm_and_the_residual_sum(
    block: type[nn.Module], last: str, widening: int, stride: int
) -> None:
    """It is given what the last normalisation hands on, and what it returns is added to the shortcut."""
    recorder = Recorder()
    module = block(16, 8, stride=stride, attention=recorder).eval()
    x = images(2, 16, 12, 10)
    normed = []
    module.get_submodule(last).register_forward_hook(lambda *call: normed.append(call[-1].clone()))
    out = module(x)
    assert torch.equal(recorder.seen, normed[0])
    assert recorder.seen.shape == (2, 8 * widening, 12 // stride, 10 // stride)
    assert torch.equal(out, module.downsample(x).relu())


@pytest.mark.parametrize("design", [SMALL, ResNetDesign(block="bottleneck", depths=(1, 2), base_channels=16)])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_weight_of_every_network_learns(design: ResNetDesign, attention: str) -> None:
    """After one backward pass each weight has a gradient that is not zero throughout. (With the usual reduction, 16
    channels leave one hidden unit, which may start out dead.)
    """

    def make(channels: int, stage: int) -> nn.Module:
        return build_attention(attention, channels, stage=stage, reduction=2)

    network = ResNet(design, make, generator=torch.Generator().manual_seed(0))
    x = images(4, design.in_channels, 128, 112)
    network(x).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_the_generator_alone_decides_the_initial_weights() -> None:
    """Equal seeds give equal networks, whatever torch's global state, and the same backbone to all attentions."""
    torch.rand(7)
    first = ResNet(SMALL, "fanet", generator=torch.Generator().manual_seed(3)).state_dict()
    torch.rand(5)
    second = ResNet(SMALL, "fanet", generator=torch.Generator().manual_seed(3)).state_dict()
    plain = ResNet(SMALL, "none", generator=torch.Generator().manual_seed(3)).state_dict()
    other = ResNet(SMALL, "fanet", generator=torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert all(torch.equal(value, first[name]) for name, value in plain.items())
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(first["layer1.0.attention.fc.0.weight"], other["layer1.0.attention.fc.0.weight"])


def test_initial_weights_have_the_spread_that_torchvisions_have() -> None:
    """Convolutions: standard deviation sqrt(2 / fan out), within a sample's error; classifier: up to 1 / sqrt(C)."""
    network = ResNet(RESNET18, generator=torch.Generator().manual_seed(0))
    for name in ("conv1", "layer1.0.conv1", "layer4.1.conv2"):
        weight = network.get_submodule(name).weight
        fan_out = weight.shape[0] * weight[0, 0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=6 / weight.numel() ** 0.5)
    assert network.fc.weight.abs().max().item() == pytest.approx(512**-0.5, rel=1e-3)


def test_a_maker_of_attention_is_told_channels_and_stage() -> None:
    """Any attention can be put in: here one frequency for all channels."""
    told = []

    def make(channels: int, stage: int) -> nn.Module:
        told.append((channels, stage))
        return FanetAttention(channels, frequencies=[(2, 1)], reduction=8)

    network = ResNet(SMALL, make)
    assert told == [(16, 1), (32, 2), (64, 3)]
    assert network.layer2[0].attention.frequencies == ((2, 1),)
    assert network(images(2, 1, 64, 64)).shape == (2, 4)


def test_the_maps_of_the_stages_have_the_strides_4_to_32() -> None:
    """features() hands out what a detector reads."""
    shapes = [tuple(maps.shape) for maps in ResNet(RESNET18).eval().features(images(1, 3, 64, 96))]
    assert shapes == [(1, 64, 16, 24), (1, 128, 8, 12), (1, 256, 4, 6), (1, 512, 2, 3)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNetDesign(block="botleneck"), "Did you mean 'bottleneck'"),
        (lambda: ResNetDesign(depths=()), "one to 4 entries"),
        (lambda: ResNetDesign(depths=(1, 1, 1, 1, 1)), "one to 4 entries"),
        (lambda: ResNetDesign(depths=(1, 0)), r"`depths.1` must be at least 1; got 0"),
        (lambda: ResNetDesign(n_classes=0), "`n_classes` must be at least 1; got 0"),
        (lambda: ResNet(SMALL, "senet"), "got 'senet'"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(make: object, message: str, without_type_checks: None) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


class PublishedFca(nn.Module):
    """FcaNet's layer with the names of its published files: stored cosines and two linear layers."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.dct_layer = nn.Module()
        self.dct_layer.register_buffer("weight", fcanet_filters(channels, size, TOP16).float())
        layers = (nn.Linear(channels, channels // 16, bias=False), nn.Linear(channels // 16, channels, bias=False))
        self.fc = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = fcanet_attention(x.double(), self.size, TOP16, self.fc[0].weight.double(), self.fc[2].weight.double())
        return found.float()


class PublishedSe(nn.Module):
    """SENet's layer as senet.pytorch publishes it."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        layers = (nn.Linear(channels, channels // 16, bias=False), nn.Linear(channels // 16, channels, bias=False))
        self.fc = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


def published(name: str, layer: type[nn.Module]) -> nn.Module:
    """Torchvision's ResNet-18 with `layer` as submodule `name` of each block, behind its last normalisation."""
    network = torchvision_network("resnet18")
    for stage, size in enumerate(FCANET_SIZES, start=1):
        for block in network.get_submodule(f"layer{stage}"):
            added = layer(block.bn2.num_features, size)
            block.add_module(name, added)
            block.bn2.register_forward_hook(lambda module, inputs, output, added=added: added(output))
    return network.eval()


@pytest.mark.parametrize(("attention", "name", "layer"), [("fca", "att", PublishedFca), ("se", "se", PublishedSe)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_of_fcanet_and_senet_give_their_networks_logits(
    attention: str, name: str, layer: type[nn.Module], prefix: str
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        theirs = published(name, layer)
    ours = ResNet(RESNET18, attention).eval()
    load_weights(ours, {prefix + key: value for key, value in theirs.state_dict().items()})
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        wanted = theirs(x)
        assert (ours(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()
        ours.layer4[1].attention = nn.Identity()
        assert (ours(x) - wanted).abs().max() > 1e-2 * wanted.abs().max()


def test_timms_se_resnet_whose_layers_have_biases_is_loaded() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        theirs = timm.create_model("seresnet50", pretrained=False).eval()
        for layer in theirs.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.bias)
    ours = ResNet(RESNET50, lambda channels, stage: SqueezeExcite(channels, bias=True)).eval()
    load_weights(ours, theirs.state_dict())
    x = images(1, 3, 96, 96)
    with torch.no_grad():
        wanted = theirs(x)
        assert (ours(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    with pytest.raises(InputError, match=r"contains unknown .*attention\.fc\.0\.bias.* and its attention"):
        load_weights(ResNet(RESNET50, "se"), theirs.state_dict())


def test_published_weights_of_other_frequencies_or_without_a_layer_are_refused() -> None:
    state = published("att", PublishedFca).state_dict()
    other = {**state, "layer1.0.att.dct_layer.weight": state["layer1.0.att.dct_layer.weight"].flip(0)}
    with pytest.raises(InputError, match="contains other cosines"):
        load_weights(ResNet(RESNET18, "fca"), other)
    with pytest.raises(
        InputError, match=r"contains unknown 8 entries, the first 'layer1.0.attention.dct_layer.weight'"
    ):
        load_weights(ResNet(RESNET18, "se"), state)
    state.pop("layer3.0.att.fc.0.weight")
    with pytest.raises(InputError, match=r"lacks 1 entries, the first 'layer3.0.attention.fc.0.weight'"):
        load_weights(ResNet(RESNET18, "fca"), state)
