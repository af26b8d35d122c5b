"""Refinement: a second network sees the image and what a first one found in it, and corrects that.

    p      = sigmoid(first(x))                          the first network's probability of membrane
    logits = first(x) + second([x, 2 p - 1])            2 p - 1 = tanh(first(x) / 2), on the scale of x

    x              [batch, 1, height, width]
    [x, 2 p - 1]   [batch, 2, height, width]
    logits         [batch, 1, height, width]

The first network is trained and stays as it is, its batch normalisation included: it is always in evaluation mode, and
no training reaches its weights. In training mode no gradient passes through it at all; in evaluation mode gradients
with respect to x pass through both, as attribution needs them.

The second network's last convolution starts at zero, so that the sum starts as the first network's logits. Of a CASENet
that is the fusion; its sides, which are supervised too, each get the first network's logits added.

The second network is trained on images that the first was trained on, and there the first is better than elsewhere.

Source: beyond the U-RISC paper. Qin et al. 2019 (BASNet), section 3.3, for the residual; Tu and Bai 2010 (auto-context)
for the second look at the image and the first one's probabilities.
Deviation: BASNet trains both networks at once and shows the second the coarse map alone.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.membrane.networks.build import build_network
from emseg.membrane.networks.design import NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork

REFINING_CHANNELS = 2  # the image and the first network's probability


class RefinedNetwork(MembraneNetwork):
    """A frozen `first` network and a `second` one that corrects its logits; `design` and `encoder` are the second's."""

    def __init__(self, first: MembraneNetwork, second: MembraneNetwork) -> None:
        nn.Module.__init__(self)  # an encoder of its own it has not
        _require_channels(first.in_channels, second.in_channels)
        if isinstance(first, RefinedNetwork):
            raise UsageError("the first network of a refinement must be a single one; got a refined network.")
        self.design = second.design
        self.first = first.requires_grad_(False)
        self.second = second
        self.train(second.training)

    @property
    def encoder(self) -> Any:
        """The second network's encoder."""
        return self.second.encoder

    @property
    def in_channels(self) -> int:
        """One: the image."""
        return self.first.in_channels

    @property
    def stride(self) -> int:
        """The larger stride of the two, which the other divides."""
        return max(self.first.stride, self.second.stride)

    @property
    def min_size(self) -> int:
        """Smallest height and width that both take."""
        return max(self.first.min_size, self.second.min_size)

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The second network's."""
        return self.second.last_convolution

    def train(self, mode: bool = True) -> "RefinedNetwork":
        """Put the second network into training or evaluation mode; the first is always in the latter."""
        super().train(mode)
        self.first.eval()
        return self

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the first network's logits, corrected by each of the second network's outputs."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            logits = self.first.outputs(x)[-1]
        corrections = self.second.outputs(torch.cat([x, torch.tanh(logits / 2)], dim=1))
        return tuple(logits + correction for correction in corrections)


def build_refined(first: MembraneNetwork, design: NetworkDesign, *, seed: int) -> RefinedNetwork:
    """Return a refinement of a copy of `first` by a network of `design` that answers zero, on the CPU.

    `design` has `in_channels` 2; its other weights are drawn from `seed`. Raises `UsageError` for other designs.
    """
    _require_channels(first.in_channels, design.in_channels)
    second = build_network(design, seed=seed)
    nn.init.zeros_(second.last_convolution.weight)
    if second.last_convolution.bias is not None:
        nn.init.zeros_(second.last_convolution.bias)
    return RefinedNetwork(copy.deepcopy(first).cpu(), second)


def _require_channels(first: int, second: int) -> None:
    if first != 1:
        raise UsageError(f"the first network of a refinement sees the image alone, in_channels=1; got {first}.")
    if second != REFINING_CHANNELS:
        raise UsageError(
            "the second network of a refinement sees the image and the first one's probability of membrane, "
            f"in_channels={REFINING_CHANNELS}; got {second}. Use replace(design, in_channels={REFINING_CHANNELS})."
        )
