"""What all membrane networks share: an encoder, a design, images of any size, logits of membrane.

    forward(x)            logits of membrane [batch, 1, height, width], at the size of the images
    training_outputs(x)   all logits that the loss supervises; the last one is forward(x)

    x    [batch, channel, height, width]: (grey / 255 - 0.5) / 0.5, one channel unless the design has more

An image is padded to a multiple of the stride, below and at the right, and the logits are cropped. The padding mirrors
the image without repeating its edge; in an image smaller than the padding it repeats the edge instead.
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emseg.errors import InputError
from emseg.membrane.networks.network_design import NetworkDesign


class MembraneNetwork(nn.Module, ABC):
    """A network of `design` around `encoder` (see `encoders`).

    `in_channels`, `min_size` (smallest height and width) and `stride` are those of the images that it takes.
    """

    def __init__(self, design: NetworkDesign, encoder: nn.Module) -> None:
        super().__init__()
        self.design = design
        self.encoder: Any = encoder
        self.in_channels, self.min_size, self.stride = design.in_channels, design.min_size, design.stride

    @property
    @abstractmethod
    def last_convolution(self) -> nn.Conv2d:
        """The convolution whose output is `forward`."""

    @abstractmethod
    def outputs(self, x: Float[Tensor, "batch channel height width"]) -> tuple[Tensor, ...]:
        """Return all supervised logits of images whose height and width are multiples of the stride."""

    def training_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return all logits that the loss supervises, `forward` last; raises `InputError` for unsuitable images."""
        channels, min_size = self.in_channels, self.min_size
        if x.ndim != 4 or x.shape[1] != channels:
            raise InputError(
                f"this membrane network takes images of {'one channel' if channels == 1 else f'{channels} channels'}, "
                f"[batch, {channels}, height, width]; got {list(x.shape)}. Average the colours, or add the axes that "
                "are missing."
            )
        if not x.is_floating_point():
            raise InputError(
                f"a membrane network takes floating-point images, (grey / 255 - 0.5) / 0.5; got {x.dtype}. Scale them."
            )
        if min(x.shape[2:]) < min_size:
            raise InputError(
                f"this membrane network takes images of at least {min_size} pixels a side; got {list(x.shape)}. Use "
                "larger images or crops, or an encoder of less depth."
            )
        height, width = x.shape[-2:]
        return tuple(logits[..., :height, :width] for logits in self.outputs(pad_to_stride(x, self.stride)))

    def forward(self, x: Tensor) -> Float[Tensor, "batch 1 height width"]:
        """Return the logits of membrane."""
        return self.training_outputs(x)[-1]


def pad_to_stride(x: Float[Tensor, "batch channel height width"], stride: int) -> Float[Tensor, "batch channel _ _"]:
    """Return the images with height and width rounded up to multiples of `stride`."""
    height, width = x.shape[-2:]
    below, right = -height % stride, -width % stride
    # One axis at a time: one may be large enough to be mirrored, the other not.
    for rows, columns, size in ((below, 0, height), (0, right, width)):
        if rows or columns:
            mode = "reflect" if rows + columns < size else "replicate"
            x = functional.pad(x, (0, columns, 0, rows), mode=mode)
    return x
