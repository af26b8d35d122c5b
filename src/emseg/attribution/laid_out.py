"""Weights and maps in the layout that a device's backward passes like: channels last on a CPU, where that is faster.

Also the weights of convolutions whose batch normalisation was folded into them. Both are made once for all points of
the path.
"""

import torch
from torch import Tensor


class LaidOut:
    """Weights in the layout that the device likes, made once for all points of the path."""

    def __init__(self, device: torch.device) -> None:
        self.memory_format = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}
        self._scaled: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def weight(self, weight: Tensor) -> Tensor:
        """Return `weight` laid out; parameters are remembered, casts of autocast are not."""
        if not isinstance(weight, torch.nn.Parameter):
            return weight.contiguous(memory_format=self.memory_format)
        if id(weight) not in self._weights:
            self._weights[id(weight)] = (weight, weight.detach().contiguous(memory_format=self.memory_format))
        return self._weights[id(weight)][1]

    def map(self, values: Tensor) -> Tensor:
        """Return a map [point, channel, row, column] laid out as the gradients will be."""
        return values.contiguous(memory_format=self.memory_format) if values.ndim == 4 else values

    def scaled(self, weight: Tensor, factor: Tensor, variance: Tensor) -> Tensor:
        """Return `weight`, laid out before, times one factor for each of its output channels."""
        key = (id(weight), id(variance))
        if key not in self._scaled:
            product = (weight * factor[:, None, None, None].to(weight.dtype)).contiguous(
                memory_format=self.memory_format
            )
            if weight.dtype != torch.float32:
                return product
            self._scaled[key] = (weight, variance, product)
        return self._scaled[key][2]
