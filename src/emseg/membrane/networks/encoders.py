"""The two kinds of encoders, with an attention in every block or none.

    plain     level 0   two 3 x 3 convolutions at full resolution, `base_channels` wide
              level l   2 x 2 maximum, then two 3 x 3 convolutions, `base_channels` 2^l wide, stride 2^l
    resnet    the first convolution at stride 2, the stages at strides 4, 8, 16, 32

An encoder returns the image and its maps, fine to coarse, as smp's decoders expect (they drop the image);
`out_channels` has their numbers of channels. At `base_channels` = 64 and without attention the ResNets are smp's
encoders, key for key. The plain encoder is the contracting path of the original U-Net. Deviation: its convolutions are
padded, so that maps keep their size, and each is followed by batch normalisation.

Sources: Ronneberger et al. 2015 (U-Net), section 2; He et al. 2016 and `emseg.frequency.resnet`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.frequency.attention import BlockAttention
from emseg.frequency.resnet import ResNet, ResNetDesign


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
