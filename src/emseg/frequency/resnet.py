"""Residual networks whose blocks contain a channel attention, behind the last normalization and before the residual
sum.

    y = relu(attention(norm(conv(...))) + shortcut(x))

    basic        3 x 3, 3 x 3                        (ResNet-18, -34)
    bottleneck   1 x 1, 3 x 3, 1 x 1, four times as many channels out as within      (ResNet-50); stride on the 3 x 3

With the attention "none" and a standard design they are torchvision's networks, key for key; `load_weights` reads its
files and the published ones of FcaNet and SENet. Narrow, shallow and grey networks serve for repeated experiments.

Source: He et al. 2016; FANet, Fig. 3, and Hu et al. 2018, Fig. 3, for the place of the attention; torchvision's
`models/resnet.py` for names, stride and initial weights.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.checks import Count, Items, validated
from emseg.errors import InputError, UsageError
from emseg.frequency.attention import FcaAttention, build_attention

Block = Literal["basic", "bottleneck"]

# Makes the attention of one block from its number of channels and its stage, 1 to 4.
AttentionMaker = Callable[[int, int], nn.Module]

N_STAGES = 4


@validated
class ResNetDesign:
    """The shape of a residual network; the defaults are ResNet-34's.

    `depths` contains the number of blocks of each stage, one to four stages; `base_channels` the width of the first,
    which doubles from stage to stage.
    """

    block: Block = "basic"
    depths: Items[Count] = (3, 4, 6, 3)
    base_channels: Count = 64
    in_channels: Count = 3
    n_classes: Count = 1000

    def __post_init__(self) -> None:
        if not 1 <= len(self.depths) <= N_STAGES:
            raise UsageError(f"`depths` must have one to {N_STAGES} entries, one for each stage; got {self.depths!r}.")

    @property
    def expansion(self) -> int:
        """Channels of a block's output over the channels within it."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps of each stage."""
        return tuple(self.base_channels * 2**stage * self.expansion for stage in range(len(self.depths)))


RESNET18 = ResNetDesign(depths=(2, 2, 2, 2))
RESNET34 = ResNetDesign()
RESNET50 = ResNetDesign(block="bottleneck")


def _conv(channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return what brings the input to the shape of the output, or None where it has that shape."""
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(_conv(channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, the attention, the residual sum. `attention` must suit `width` channels."""

    def __init__(self, channels: int, width: int, *, stride: int = 1, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.attention = nn.Identity() if attention is None else attention
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Float[Tensor, "_ _ _ _"]) -> Float[Tensor, "_ _ _ _"]:
        """Return the map that the next block reads."""
        out = self.bn1(self.conv1(x)).relu_()
        out = self.attention(self.bn2(self.conv2(out)))
        return (out + (x if self.downsample is None else self.downsample(x))).relu_()  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1 x 1 to `width` channels, 3 x 3, 1 x 1 to 4 x `width` (which `attention` must suit), the residual sum."""

    def __init__(self, channels: int, width: int, *, stride: int = 1, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.attention = nn.Identity() if attention is None else attention
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Float[Tensor, "_ _ _ _"]) -> Float[Tensor, "_ _ _ _"]:
        """Return the map that the next block reads."""
        out = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out)).relu_()
        out = self.attention(self.bn3(self.conv3(out)))
        return (out + (x if self.downsample is None else self.downsample(x))).relu_()  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A classifier of `design` with an attention in every block: a name of `build_attention`, or a maker.

    With a `generator` the initial weights depend on nothing else, and all weights but the attention's are the same
    whatever the attention.
    """

    def __init__(
        self,
        design: ResNetDesign = RESNET34,
        attention: str | AttentionMaker = "none",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.design = design
        block = Bottleneck if design.block == "bottleneck" else BasicBlock
        channels = design.base_channels
        self.conv1 = nn.Conv2d(design.in_channels, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (depth, out_channels) in enumerate(zip(design.depths, design.out_channels, strict=True), start=1):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 1 and number == 0 else 1
                if isinstance(attention, str):
                    layer = build_attention(attention, out_channels, stage=stage)
                else:
                    layer = attention(out_channels, stage)
                blocks.append(block(channels, out_channels // design.expansion, stride=stride, attention=layer))
                channels = out_channels
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, design.n_classes)
        initialize(self, generator)

    def features(self, x: Float[Tensor, "batch channel height width"]) -> list[Float[Tensor, "_ _ _ _"]]:
        """Return the maps of each stage."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu_())
        maps = []
        for stage in range(1, len(self.design.depths) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return one logit a class."""
        return self.fc(self.features(x)[-1].mean(dim=(2, 3)))  # type: ignore[no-any-return]


def initialize(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Set torchvision's initial weights, the attention's last: He's for convolutions, torch's own for linear layers."""
    for _, module in sorted(network.named_modules(), key=lambda part: ".attention" in part[0]):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)


_RENAMED = (  # from FcaNet's code, senet.pytorch and timm
    (r"^module\.", ""),
    (r"\.(att|se)\.", ".attention."),
    (r"\.attention\.fc1\.", ".attention.fc.0."),
    (r"\.attention\.fc2\.", ".attention.fc.2."),
)


def load_weights(network: ResNet, weights: Mapping[str, Tensor], *, head: bool = True) -> None:
    """Load a state dict of torchvision's ResNet, of FcaNet's code, or of an SE-ResNet of senet.pytorch or timm.

    FcaNet's need the attention "fca", senet.pytorch's "se", and timm's `SqueezeExcite(channels, bias=True)`. Where the
    weights contain no attention, the network's own stays. A network of one input channel gets the sum of the filters of
    the three colours: what they give on a grey image in colour. `head=False` leaves the classifier as it is. Raises
    `InputError` for weights of another network, and then leaves the network untouched.
    """
    own, given = network.state_dict(), dict[str, Tensor]()
    for name, value in weights.items():
        for pattern, repair in _RENAMED:
            name = re.sub(pattern, repair, name)
        given[name] = value.flatten(1) if ".attention.fc." in name and value.ndim == 4 else value
    if not head:
        given = {name: value for name, value in given.items() if not name.startswith("fc.")}
    if network.design.in_channels == 1 and "conv1.weight" in given:
        given["conv1.weight"] = given["conv1.weight"].sum(dim=1, keepdim=True)
    layers = dict(network.named_modules())
    for name in [name for name in given if name.endswith(".dct_layer.weight")]:
        layer = layers.get(name.removesuffix(".dct_layer.weight"))
        if isinstance(layer, FcaAttention):
            cosines, wanted = given.pop(name), layer.stored_cosines()
            if cosines.shape != wanted.shape or (cosines - wanted.to(cosines)).abs().max() > 1e-3:
                raise InputError(f"{name!r} contains other cosines than the network's; give it their `frequencies`.")
    unknown = sorted(set(given) - set(own))
    with_attention = any(".attention." in name for name in given)
    left = {name for name in own if (".attention." in name and not with_attention) or (not head and name[:3] == "fc.")}
    missing = sorted(set(own) - set(given) - left)
    shapes = sorted(name for name in set(own) & set(given) if own[name].shape != given[name].shape)
    for problem, names in (("contains unknown", unknown), ("lacks", missing), ("has other shapes for", shapes)):
        if names:
            repairs = {"fc.": ", or leave the classifier out with head=False."}
            raise InputError(
                f"the weights must be those of a ResNet of this design and attention; the state dict {problem} "
                f"{len(names)} entries, the first {names[0]!r}. Choose the design that they were made for"
                + repairs.get(names[0][:3], ", and its attention." if ".attention." in names[0] else ".")
            )
    network.load_state_dict(given, strict=False)
