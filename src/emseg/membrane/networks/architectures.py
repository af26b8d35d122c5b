"""Encoders, and U-Net, LinkNet and CASENet: three ways from an encoder's maps to the logits of membrane.

    plain    level 0   two 3 x 3 convolutions at full resolution, `base_channels` wide
             level l   2 x 2 maximum, then two 3 x 3 convolutions, `base_channels` 2^l wide, stride 2^l
    resnet   the first convolution at stride 2, the stages at strides 4, 8, 16, 32

An encoder, with an attention in every block or none, returns the image and its maps, fine to coarse, as smp's decoders
expect (they drop the image); `out_channels` has their numbers of channels. At `base_channels` = 64 and without
attention the ResNets are smp's encoders, key for key. The plain encoder is the contracting path of the original U-Net.
Deviation: its convolutions are padded and each is followed by batch normalisation.

    unet     x_l = convolutions(concat(nearest(x_{l+1}), map l)),   logits = conv3x3(x_0)
    linknet  x_l = block(x_{l+1}) + map l,   block = 1 x 1 to a quarter of the width, transposed 4 x 4, 1 x 1
    casenet  A_s = bilinear(conv1x1_s(map s));   fused = conv1x1(concat(A_1, ..., A_S))

    A_s, fused   [batch, 1, height, width] logits of S = 5 stages of a ResNet (first convolution, four stages)

The first two are smp's decoders, unchanged: with a ResNet of standard width its `Unet` and `Linknet`, key for key.

U-Net. U-RISC's prose describes the original (23 convolutional layers), then names ResNet-50 as the encoder. Both
cannotbe true: `encoder="plain"` is the former, `encoder="resnet50"` the latter. Deviation: a 3 x 3 head; nearest
neighbours instead of learned 2 x 2 transposed convolutions; padded convolutions.

LinkNet. Deviation: smp joins four maps, the original three; transposed convolutions are 4 x 4 instead of 3 x 3; it ends
in one more block and a 1 x 1 convolution instead of two transposed convolutions around a 3 x 3 one.

CASENet as U-RISC describes it (Methods): five class maps of M classes, their sliced concatenation of 5 M channels
(class by class: for M = 1 the plain one), a fusion of M groups. Deviation of U-RISC from Yu et al. 2017, followed here:
there sides 1 to 3 give one *feature* map each, side 4 none, and the slice has 4 M channels. U-RISC leaves the
supervision open: here all sides and the fusion are supervised, as in Yu et al.'s baseline DSN, and the fusion starts as
the mean of the sides (Xie and Tu 2015, HED). Deviation: the backbone keeps its strides (2 to 32), so that encoders and
weights are shared; Yu et al. use strides 1 to 8 and dilation.

Sources: Ronneberger et al. 2015; He et al. 2016; Chaurasia and Culurciello 2017; Yu et al. 2017 (CASENet), section 3;
Shi et al. 2022 (U-RISC), Segmentation Networks; segmentation-models-pytorch.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from segmentation_models_pytorch.base import SegmentationHead  # type: ignore[import-untyped]
from segmentation_models_pytorch.base.initialization import (  # type: ignore[import-untyped]
    initialize_decoder,
    initialize_head,
)
from segmentation_models_pytorch.base.modules import SCSEModule  # type: ignore[import-untyped]
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder  # type: ignore[import-untyped]
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from emseg.frequency.attention import BlockAttention
from emseg.frequency.resnet import ResNet, ResNetDesign
from emseg.membrane.networks.membrane_network import MembraneNetwork
from emseg.membrane.networks.network_design import SCSE_REDUCTION, NetworkDesign


class DoubleConvolution(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified, and the attention."""

    def __init__(self, in_channels: int, channels: int, attention: nn.Module) -> None:
        super().__init__()
        for number, width in enumerate((in_channels, channels), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(width, channels, 3, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
        self.add_module("attention", attention)


class PlainEncoder(nn.Module):
    """The encoder of `depth` halvings."""

    def __init__(self, base_channels: int, depth: int, attention: BlockAttention, in_channels: int = 1) -> None:
        super().__init__()
        channels = [base_channels * 2**level for level in range(depth + 1)]
        self.out_channels = [in_channels, *channels]
        self.maxpool = nn.MaxPool2d(2)
        self.levels = nn.ModuleList(
            DoubleConvolution(before, width, attention(width, 2**level))
            for level, (before, width) in enumerate(zip([in_channels, *channels], channels, strict=False))
        )

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """Return the image and the maps of all levels."""
        maps = [x, self.levels[0](x)]
        for level in self.levels[1:]:
            maps.append(level(self.maxpool(maps[-1])))
        return maps


class ResNetEncoder(ResNet):
    """The encoder of a residual network, without its classifier."""

    def __init__(
        self, design: ResNetDesign, attention: BlockAttention, *, generator: torch.Generator | None = None
    ) -> None:
        # the first stage has stride 4
        super().__init__(design, lambda channels, stage: attention(channels, 2 ** (stage + 1)), generator=generator)
        del self.fc
        self.out_channels = [design.in_channels, design.base_channels, *design.out_channels]

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:  # type: ignore[override]
        """Return the image, the map of the first convolution and those of the stages."""
        first = self.bn1(self.conv1(x)).relu_()
        maps = [x, first]
        x = self.maxpool(first)
        for stage in range(1, len(self.design.depths) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps


class DecodedNetwork(MembraneNetwork):
    """A U-Net or LinkNet: `encoder`, smp's decoder and smp's head."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__(design, encoder)
        map_channels = self.encoder.out_channels
        if design.architecture == "unet":
            self.decoder, channels, kernel_size = _unet_decoder(design, map_channels), design.unet_channels[-1], 3
        else:
            last = design.base_channels // 2  # 32, smp's, at the standard width
            self.decoder = LinknetDecoder(map_channels, prefinal_channels=last, n_blocks=design.encoder_depth)
            # The plain encoder's finest map has full resolution; the decoder ends where it has been added.
            channels, kernel_size = design.base_channels if design.resnet is None else last, 1
        self.segmentation_head = SegmentationHead(channels, 1, kernel_size=kernel_size)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The head's only convolution."""
        return self.segmentation_head[0]  # type: ignore[no-any-return]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of membrane alone."""
        return (self.segmentation_head(self.decoder(self.encoder(x))),)


def _unet_decoder(design: NetworkDesign, map_channels: list[int]) -> nn.Module:
    scse, reduction = design.attention == "scse", design.attention_options.get("reduction", SCSE_REDUCTION)
    attention_type = "scse" if scse and reduction == SCSE_REDUCTION else None
    sizes = {"decoder_channels": design.unet_channels, "n_blocks": design.encoder_depth}
    decoder: nn.Module = UnetDecoder(map_channels, **sizes, attention_type=attention_type)
    if scse and reduction != SCSE_REDUCTION:  # smp has no other reduction, which leaves narrow blocks without units
        for block in decoder.blocks:  # type: ignore[union-attr]
            block.attention1.attention = SCSEModule(block.conv1[0].in_channels, reduction=reduction)
            block.attention2.attention = SCSEModule(block.conv2[0].out_channels, reduction=reduction)
    return decoder


class CaseNet(MembraneNetwork):
    """A CASENet of one class."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__(design, encoder)
        self.decoder = SideFusion(self.encoder.out_channels[1:])

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The fusion of the sides."""
        return self.decoder.fusion

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of every side and the fused ones."""
        return self.decoder(self.encoder(x)[1:], (x.shape[-2], x.shape[-1]))  # type: ignore[no-any-return]


class SideFusion(nn.Module):
    """One classifier for each of the maps, which have `channels` each, and the fusion of their outputs."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        sides = [nn.Conv2d(width, 1, 1) for width in channels]
        self.fusion = nn.Conv2d(len(channels), 1, 1)
        for side in sides:
            initialize_head(side)
        nn.init.constant_(self.fusion.weight, 1 / len(channels))
        nn.init.zeros_(self.fusion.bias)  # type: ignore[arg-type]
        self.sides = nn.ModuleList(sides)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the logits of every side and, last, the fused ones, all of `size` (height, width)."""
        sides = [
            functional.interpolate(side(x), size=size, mode="bilinear", align_corners=False)
            for side, x in zip(self.sides, maps, strict=True)
        ]
        return (*sides, self.fusion(torch.cat(sides, dim=1)))
