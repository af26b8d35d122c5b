"""Refinement: a second network sees the image and a first one's output, and corrects the latter.

    p      = sigmoid(first(x))                          the first network's probability of membrane
    logits = first(x) + second([x, 2 p - 1])            2 p - 1 = tanh(first(x) / 2), on the scale of x

    x              [batch, 1, height, width]
    [x, 2 p - 1]   [batch, 2, height, width]
    logits         [batch, 1, height, width]

The first network is trained and frozen, in evaluation mode. While the second is trained no gradient passes through it;
in evaluation mode gradients with respect to x pass through both, as attribution needs them. The second network's last
convolution starts at zero, so that the sum starts as the first network's logits. Of a CASENet that is the fusion; its
supervised sides each get the first network's logits added.

Source: beyond the U-RISC paper. Qin et al. 2019 (BASNet), section 3.3, for the residual; Tu and Bai 2010 (auto-context)
for the second look at the image and the first one's probabilities.
Deviation: BASNet trains both networks at once and shows the second the coarse map alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.membrane.networks.membrane_network import MembraneNetwork

REFINING_CHANNELS = 2  # the image and the first network's probability


class RefinedNetwork(MembraneNetwork):
    """A frozen `first` network and a `second` one that corrects its logits; `design` and `encoder` are the second's."""

    def __init__(self, first: MembraneNetwork, second: MembraneNetwork) -> None:
        nn.Module.__init__(self)  # it has no encoder besides those of the two networks
        require_refinable(first, second.in_channels)
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


def require_refinable(first: MembraneNetwork, second_channels: int) -> None:
    """Raise `UsageError` unless `first` is a single network and the second sees its output."""
    if first.in_channels != 1:
        raise UsageError(
            f"the first network of a refinement sees the image alone, in_channels=1; got {first.in_channels}."
        )
    if second_channels != REFINING_CHANNELS:
        raise UsageError(
            f"the second network of a refinement sees image and first output, in_channels={REFINING_CHANNELS};"
            f" got {second_channels}. Use replace(design, in_channels={REFINING_CHANNELS})."
        )
    if isinstance(first, RefinedNetwork):
        raise UsageError("the first network of a refinement must be a single one; got a refined network.")
