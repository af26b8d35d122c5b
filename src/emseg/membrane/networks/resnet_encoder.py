"""A residual network as an encoder: its maps at strides 2, 4, 8, 16 and 32, with an attention in every block or none.

At `base_channels` = 64 and without attention it is smp's encoder for as many channels, key for key; narrower ones
are the same network with fewer channels. Stages that the depth leaves out are not made.

Source: He et al. 2016; `emseg.frequency.resnet`; segmentation-models-pytorch for the interface.
"""

import torch
from jaxtyping import Float
from segmentation_models_pytorch.encoders._base import EncoderMixin  # type: ignore[import-untyped]
from torch import Tensor

from emseg.frequency.resnet import ResNet, ResNetDesign
from emseg.membrane.networks.attention_places import BlockAttention

FIRST_STAGE_STRIDE = 4


class ResNetEncoder(ResNet, EncoderMixin):  # type: ignore[misc]  # smp carries no types
    """The encoder of a residual network, without its classifier."""

    first_map_is_image = True

    def __init__(
        self, design: ResNetDesign, attention: BlockAttention, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(
            design,
            lambda channels, stage: attention(channels, FIRST_STAGE_STRIDE * 2 ** (stage - 1)),
            generator=generator,
        )
        del self.fc
        self._depth, self._in_channels = len(design.depths) + 1, design.in_channels
        self._output_stride = 2**self._depth
        self._out_channels = [design.in_channels, design.base_channels, *design.out_channels]

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:  # type: ignore[override]
        """Return the image, the map of the first convolution and those of the stages."""
        first = self.bn1(self.conv1(x)).relu_()
        maps = [x, first]
        x = self.maxpool(first)
        for stage in range(1, len(self.design.depths) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps
