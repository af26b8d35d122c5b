"""The contracting path of the original U-Net: double convolutions, with a 2 x 2 maximum between them.

    level 0   two 3 x 3 convolutions at full resolution, `base_channels` wide
    level l   2 x 2 maximum, then two 3 x 3 convolutions, `base_channels` 2^l wide, stride 2^l

It obeys the interface of smp's encoders. The first of its maps has full resolution and is no mere copy of the image;
smp's decoders drop a first map, so the networks put the image in front of the list (`emseg.membrane.networks.network`).

Deviation: convolutions are padded, so that maps keep their size, and each is followed by batch normalisation.

Source: Ronneberger et al. 2015 (U-Net), section 2.
"""

from jaxtyping import Float
from segmentation_models_pytorch.encoders._base import EncoderMixin  # type: ignore[import-untyped]
from torch import Tensor, nn

from emseg.membrane.networks.attention_places import BlockAttention


class DoubleConvolution(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified, and the attention."""

    def __init__(self, in_channels: int, channels: int, attention: nn.Module) -> None:
        super().__init__()
        for number, width in enumerate((in_channels, channels), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(width, channels, 3, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
        self.add_module("attention", attention)


class PlainEncoder(nn.Module, EncoderMixin):  # type: ignore[misc]  # smp carries no types
    """The encoder of `depth` halvings for images of so many channels."""

    first_map_is_image = False

    def __init__(self, base_channels: int, depth: int, attention: BlockAttention, in_channels: int = 1) -> None:
        super().__init__()
        channels = [base_channels * 2**level for level in range(depth + 1)]
        self._depth, self._in_channels, self._output_stride = depth, in_channels, 2**depth
        self._out_channels = channels
        self.maxpool = nn.MaxPool2d(2)
        self.levels = nn.ModuleList(
            DoubleConvolution(before, width, attention(width, 2**level))
            for level, (before, width) in enumerate(zip([in_channels, *channels], channels, strict=False))
        )

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """Return the maps of all levels, fine to coarse."""
        maps = [self.levels[0](x)]
        for level in self.levels[1:]:
            maps.append(level(self.maxpool(maps[-1])))
        return maps
