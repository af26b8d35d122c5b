"""LinkNet: like a U-Net, but the encoder's maps are added instead of joined, which keeps the decoder narrow.

    x_l = block(x_{l+1}) + encoder map l,    block = 1 x 1 to a quarter of the width, transposed 4 x 4, 1 x 1

The decoder is smp's, unchanged. With a ResNet of standard width the whole is smp's `Linknet`, key for key. The paper's
prose agrees with it: a 7 x 7 convolution of stride 2, a 3 x 3 maximum of stride 2, residual blocks of a ResNet-18.

Deviation: smp joins four maps, the original three; transposed convolutions are 4 x 4 instead of 3 x 3; the end is one
more block and a 1 x 1 convolution instead of two transposed convolutions around a 3 x 3 one. With the plain encoder,
whose first map has full resolution, all maps are added and no block follows.

Source: Chaurasia and Culurciello 2017; Shi et al. 2022 (U-RISC), Segmentation Networks; segmentation-models-pytorch.
"""

from segmentation_models_pytorch.base import SegmentationHead  # type: ignore[import-untyped]
from segmentation_models_pytorch.base.initialization import (  # type: ignore[import-untyped]
    initialize_decoder,
    initialize_head,
)
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder  # type: ignore[import-untyped]
from torch import Tensor, nn

from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork


class Linknet(MembraneNetwork):
    """A LinkNet of `design` around `encoder`."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__(design, encoder)
        last = design.base_channels // 2  # 32, smp's, at the standard width
        self.decoder = LinknetDecoder(
            encoder_channels=self.map_channels, prefinal_channels=last, n_blocks=design.encoder_depth
        )
        # The plain encoder's finest map has full resolution; the decoder ends where it has been added.
        head_channels = last if self.encoder.first_map_is_image else design.base_channels
        self.segmentation_head = SegmentationHead(head_channels, 1, kernel_size=1)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The head's only convolution."""
        return self.segmentation_head[0]  # type: ignore[no-any-return]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of membrane alone."""
        return (self.segmentation_head(self.decoder(self.maps(x))),)
