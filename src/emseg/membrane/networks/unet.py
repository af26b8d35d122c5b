"""U-Net: maps are enlarged step by step, each joined to the encoder's map of its size and convolved twice.

    x_l = convolutions(concat(nearest(x_{l+1}), encoder map l)),    logits = conv3x3(x_0)

The decoder is smp's, unchanged. With a ResNet of standard width the whole is smp's `Unet`, key for key; its last block
has no map to join, for a ResNet has none at full resolution. With the plain encoder every block has one.

The paper's prose describes the original (23 convolutional layers, a last 1 x 1 convolution from 64 channels) and then
names ResNet-50 as the encoder. Both cannot hold. `encoder="plain"` is the former, `encoder="resnet50"` the latter.

Deviation: smp's head is a 3 x 3 convolution; maps are enlarged to their nearest neighbours instead of by learned 2 x 2
transposed convolutions; convolutions are padded, so that nothing is cropped.

Source: Ronneberger et al. 2015; Shi et al. 2022 (U-RISC), Segmentation Networks; segmentation-models-pytorch.
"""

from segmentation_models_pytorch.base import SegmentationHead  # type: ignore[import-untyped]
from segmentation_models_pytorch.base.initialization import (  # type: ignore[import-untyped]
    initialize_decoder,
    initialize_head,
)
from segmentation_models_pytorch.base.modules import SCSEModule  # type: ignore[import-untyped]
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder  # type: ignore[import-untyped]
from torch import Tensor, nn

from emseg.membrane.networks.attention_places import SCSE_REDUCTION, scse_reduction
from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork


class Unet(MembraneNetwork):
    """A U-Net of `design` around `encoder`."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__(design, encoder)
        channels = design.unet_channels
        scse = design.attention == "scse"
        reduction = scse_reduction(design.attention_options, channels) if scse else SCSE_REDUCTION
        # smp builds scSE with its own reduction, which leaves narrow blocks without hidden units: replaced below.
        self.decoder = UnetDecoder(
            encoder_channels=self.map_channels,
            decoder_channels=channels,
            n_blocks=design.encoder_depth,
            attention_type="scse" if scse and reduction == SCSE_REDUCTION else None,
        )
        if scse and reduction != SCSE_REDUCTION:
            for block in self.decoder.blocks:
                block.attention1.attention = SCSEModule(block.conv1[0].in_channels, reduction=reduction)
                block.attention2.attention = SCSEModule(block.conv2[0].out_channels, reduction=reduction)
        self.segmentation_head = SegmentationHead(channels[-1], 1, kernel_size=3)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The head's only convolution."""
        return self.segmentation_head[0]  # type: ignore[no-any-return]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of membrane alone."""
        return (self.segmentation_head(self.decoder(self.maps(x))),)
