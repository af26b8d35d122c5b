"""CASENet: every stage of the backbone says for itself where the membrane is, and a fusion weighs what they say.

    A_s   = bilinear(conv1x1_s(map s))                         one a stage s, M classes, at the size of the image
    slice = concat over m of (A_1m, A_2m, ..., A_Sm)           sliced concatenation: S M channels, class by class
    fused = conv1x1(slice), M groups                           class m is weighed from the S maps of class m alone

    A_s, fused   [batch, M, height, width] logits;  S = 5 stages of a ResNet (first convolution, four stages);  M = 1

What U-RISC says of it (Methods, CASENet), and what stands here: ResNet-152 as backbone; a 1 x 1 convolution and a
bilinear interpolation to the image's size after each block: five; sliced concatenation to 5 M channels; fusion by a
1 x 1 convolution of M groups: each as said. With M = 1 slicing changes no order, and the fusion is five weights and a
bias.

Deviation of U-RISC from Yu et al. 2017, followed here: there sides 1 to 3 give one *feature* map each, not M class
maps, side 4 gives nothing, and the sliced concatenation has 4 M channels (F_1, F_2, F_3, A_5m). Five class maps with
5 M channels are Yu et al.'s baseline "DSN" with their fusion.

Left open by U-RISC, decided here: all five sides and the fusion are supervised (`training_outputs`), as in that
baseline. The backbone keeps its strides (2 to 32), so that encoders and weights are those of the other networks;
Deviation: Yu et al. take stride 1 in the first convolution and dilation in the last stage (1 to 8). The fusion
starts as the mean of the sides (Xie and Tu 2015, HED).

Source: Yu et al. 2017 (CASENet), section 3; Shi et al. 2022 (U-RISC), Segmentation Networks.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from segmentation_models_pytorch.base.initialization import initialize_head  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork


def sliced_concatenation(
    sides: Sequence[Float[Tensor, "batch m height width"]],
) -> Float[Tensor, "batch sm height width"]:
    """Return the maps of all sides ordered by class: those of class 0 from every side, those of class 1, ..."""
    return torch.stack(list(sides), dim=2).flatten(1, 2)


class SideFusion(nn.Module):
    """Classification modules for maps of so many `channels` each, and the fusion of their `n_classes` class maps."""

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


class CaseNet(MembraneNetwork):
    """A CASENet of one class of `design` around `encoder`."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__(design, encoder)
        self.decoder = SideFusion(self.map_channels[1:])

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The fusion of the sides."""
        return self.decoder.fusion

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of every side and the fused ones."""
        return self.decoder(self.maps(x)[1:], (x.shape[-2], x.shape[-1]))  # type: ignore[no-any-return]
