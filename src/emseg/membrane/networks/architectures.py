"""U-Net, LinkNet and CASENet: three ways from an encoder's maps to the logits of membrane.

    unet     x_l = convolutions(concat(nearest(x_{l+1}), map l)),   logits = conv3x3(x_0)
    linknet  x_l = block(x_{l+1}) + map l,   block = 1 x 1 to a quarter of the width, transposed 4 x 4, 1 x 1
    casenet  A_s = bilinear(conv1x1_s(map s));   slice = concat over m of (A_1m, ..., A_Sm);   fused = conv1x1(slice)

    A_s, fused   [batch, M, height, width] logits of S = 5 stages of a ResNet (first convolution, four stages); M = 1
    slice        sliced concatenation, S M channels, class by class; the fusion has M groups

The first two are smp's decoders, unchanged: with a ResNet of standard width its `Unet` and `Linknet`, key for key.

U-Net. U-RISC's prose describes the original (23 convolutional layers), then names ResNet-50 as the encoder. Both cannot
hold: `encoder="plain"` is the former, `encoder="resnet50"` the latter. Deviation: a 3 x 3 head; nearest neighbours
instead of learned 2 x 2 transposed convolutions; padded convolutions.

LinkNet. Deviation: smp joins four maps, the original three; transposed convolutions are 4 x 4 instead of 3 x 3; it ends
in one more block and a 1 x 1 convolution instead of two transposed convolutions around a 3 x 3 one.

CASENet as U-RISC describes it (Methods): five class maps, 5 M channels, a fusion of M groups. Deviation of U-RISC from
Yu et al. 2017, followed here: there sides 1 to 3 give one *feature* map each, side 4 none, and the slice has 4 M
channels. U-RISC leaves the supervision open: here all sides and the fusion are supervised, as in Yu et al.'s baseline
DSN, and the fusion starts as the mean of the sides (Xie and Tu 2015, HED). Deviation: the backbone keeps its strides (2
to 32), so that encoders and weights are shared; Yu et al. use strides 1 to 8 and dilation.

Sources: Ronneberger et al. 2015; Chaurasia and Culurciello 2017; Yu et al. 2017 (CASENet), section 3; Shi et al. 2022
(U-RISC), Segmentation Networks; segmentation-models-pytorch.
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

from emseg.membrane.networks.membrane_network import MembraneNetwork
from emseg.membrane.networks.network_design import SCSE_REDUCTION, NetworkDesign


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
    """One classifier for each of the maps, which have `channels` each, and the fusion of their `n_classes` maps."""

    def __init__(self, channels: Sequence[int], n_classes: int = 1) -> None:
        super().__init__()
        sides = [nn.Conv2d(width, n_classes, 1) for width in channels]
        self.fusion = nn.Conv2d(len(channels) * n_classes, n_classes, 1, groups=n_classes)
        for side in sides:
            initialize_head(side)
        nn.init.constant_(self.fusion.weight, 1 / len(channels))
        if self.fusion.bias is not None:
            nn.init.zeros_(self.fusion.bias)
        self.sides = nn.ModuleList(sides)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the logits of every side and, last, the fused ones, all of `size` (height, width)."""
        sides = [
            functional.interpolate(side(x), size=size, mode="bilinear", align_corners=False)
            for side, x in zip(self.sides, maps, strict=True)
        ]
        return (*sides, self.fusion(sliced_concatenation(sides)))


def sliced_concatenation(
    sides: Sequence[Float[Tensor, "batch m height width"]],
) -> Float[Tensor, "batch sm height width"]:
    """Return the maps of all sides ordered by class: those of class 0 from every side, those of class 1, ..."""
    return torch.stack(list(sides), dim=2).flatten(1, 2)
