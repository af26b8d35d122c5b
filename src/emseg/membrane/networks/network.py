"""What all membrane networks have in common: an encoder, a design, images of any size, logits of membrane.

forward(x)            logits of membrane [batch, 1, height, width], of the size of the images
training_outputs(x)   all logits that the loss supervises; the last one is forward(x)

x    [batch, channel, height, width]: (grey / 255 - 0.5) / 0.5, one channel unless the design has more
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.padding import pad_to_stride, require_images


class MembraneNetwork(nn.Module, ABC):
    """A network of `design` around `encoder`, an encoder of smp's interface that also tells `first_map_is_image`."""

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__()
        self.design = design
        self.encoder: Any = encoder

    @property
    def stride(self) -> int:
        """How many pixels one pixel of the coarsest map stands for."""
        return self.design.stride

    @property
    def in_channels(self) -> int:
        """Channels of the images that it takes."""
        return self.design.in_channels

    @property
    def min_size(self) -> int:
        """Smallest height and width of an image."""
        return self.design.min_size

    @property
    @abstractmethod
    def last_convolution(self) -> nn.Conv2d:
        """The convolution that makes the answer."""

    @property
    def map_channels(self) -> list[int]:
        """Channels of `maps`."""
        channels: list[int] = list(self.encoder.out_channels)
        return channels if self.encoder.first_map_is_image else [self.design.in_channels, *channels]

    def maps(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """Return the image and the encoder's maps, fine to coarse: what smp's decoders take, who drop the image."""
        maps: list[Tensor] = self.encoder(x)
        return maps if self.encoder.first_map_is_image else [x, *maps]

    @abstractmethod
    def outputs(self, x: Float[Tensor, "batch channel height width"]) -> tuple[Tensor, ...]:
        """Return all supervised logits of images whose height and width the stride divides."""

    def training_outputs(self, x: Float[Tensor, "batch channel height width"]) -> tuple[Tensor, ...]:
        """Return all logits that the loss supervises, the network's answer last."""
        require_images(x, self.min_size, self.in_channels)
        height, width = x.shape[-2:]
        return tuple(logits[..., :height, :width] for logits in self.outputs(pad_to_stride(x, self.stride)))

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch 1 height width"]:
        """Return the logits of membrane."""
        return self.training_outputs(x)[-1]
