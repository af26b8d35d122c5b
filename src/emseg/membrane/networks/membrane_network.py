"""What all membrane networks share: an encoder, a design, images of any size, logits of membrane.

    forward(x)            logits of membrane [batch, 1, height, width], at the size of the images
    training_outputs(x)   all logits that the loss supervises; the last one is forward(x)

    x    [batch, channel, height, width]: (grey / 255 - 0.5) / 0.5, one channel unless the design has more

An image is padded to a multiple of the stride, below and at the right, and the logits are cropped. The padding mirrors
the image without repeating its edge; in an image smaller than the padding it repeats the edge instead.

Refinement: a second network sees the image and a first one's probability p of membrane, and corrects its logits.

    logits = first(x) + second([x, 2 p - 1])            2 p - 1 = tanh(first(x) / 2), on the scale of x

The first network is trained and frozen, in evaluation mode. While the second is trained no gradient passes through it;
in evaluation mode gradients with respect to x pass through both, as attribution needs them. The second network's last
convolution starts at zero, so that the sum starts as the first network's logits. Of a CASENet that is the fusion; its
supervised sides each get the first network's logits added.

Source of the refinement: beyond the U-RISC paper. Qin et al. 2019 (BASNet), section 3.3, for the residual; Tu and Bai
2010 (auto-context) for the second look at the image and the first one's probabilities. Deviation: BASNet trains both
networks at once and shows the second the coarse map alone.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emseg.errors import InputError, UsageError
from emseg.membrane.networks.network_design import NetworkDesign

REFINING_CHANNELS = 2  # the image and the first network's probability


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


class RefinedNetwork(MembraneNetwork):
    """A frozen `first` network and a `second` one that corrects its logits; `design` and `encoder` are the second's."""

    def __init__(self, first: MembraneNetwork, second: MembraneNetwork) -> None:
        nn.Module.__init__(self)  # it has no encoder besides those of the two networks
        if first.in_channels != 1 or second.in_channels != REFINING_CHANNELS or isinstance(first, RefinedNetwork):
            raise UsageError(
                "a refinement needs a single first network of in_channels=1, which sees the image alone, and a second "
                f"of in_channels={REFINING_CHANNELS}, which sees image and first output; got "
                f"{type(first).__name__} of {first.in_channels} and {second.in_channels}."
            )
        self.design = second.design
        self.first = first.requires_grad_(False)
        self.second = second
        self.in_channels, self.min_size = first.in_channels, max(first.min_size, second.min_size)
        self.stride = max(first.stride, second.stride)  # powers of 2: a multiple of the other
        self.train(second.training)

    @property
    def encoder(self) -> Any:
        """The second network's encoder."""
        return self.second.encoder

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The second network's."""
        return self.second.last_convolution

    def train(self, mode: bool = True) -> "RefinedNetwork":
        """Set the second network's mode; the first stays in evaluation mode."""
        super().train(mode)
        self.first.eval()
        return self

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the first network's logits, corrected by each of the second network's outputs."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            logits = self.first.outputs(x)[-1]
        corrections = self.second.outputs(torch.cat([x, torch.tanh(logits / 2)], dim=1))
        return tuple(logits + correction for correction in corrections)
