"""Gradients of convolutions in windows: the weights are frozen, so that nothing of the input is kept.

convolution             its gradient is a transposed convolution of the window, cut to what lies in the input
transposed convolution  its gradient is a convolution of the window, filled up with zeros to whole kernels
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from emseg.attribution.passes import Box
from emseg.attribution.window_rule import Axis, Rule, reach_of

aten = torch.ops.aten
FEW_CHANNELS = 2
"""Up to this many input channels, a convolution's gradient is faster by a matrix product; measured on a CPU."""


class Convolution(Rule):
    """A two-dimensional convolution with frozen weights."""

    def __init__(
        self,
        weight: Tensor,
        axes: tuple[Axis, Axis],
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        memory_format: torch.memory_format,
    ) -> None:
        self.weight, self.axes, self.memory_format = weight, axes, memory_format
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def reach(self, box: Box) -> list[Box]:
        """Return what the kernel covers."""
        return [reach_of(self.axes, box)]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return torch's gradient of the window, computed with padding only along axes that it fills."""
        sizes, padding, cuts = [], [], []
        for axis, begin, end, pad in zip(self.axes, box[::2], box[1::2], self.padding, strict=True):
            if (begin, end) == (0, axis.n_out):
                sizes.append(axis.n_in)
                padding.append(pad)
                cuts.append(slice(0, axis.n_in))
            else:
                first, stop = axis.span(begin, end)
                low, high = axis.reach(begin, end)
                sizes.append(stop - first)
                padding.append(0)
                cuts.append(slice(low - first, high - first))
        if self.groups == 1 and self.weight.shape[1] <= FEW_CHANNELS and values.device.type == "cpu":
            return [self._pull_by_columns(values, sizes, padding)[:, :, cuts[0], cuts[1]]]
        shape = (values.shape[0], self.weight.shape[1] * self.groups, *sizes)
        like = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=self.memory_format)
        (gradient, _, _) = aten.convolution_backward(
            values, like, self.weight, None, self.stride, padding, self.dilation, False, [0, 0], self.groups,
            [True, False, False],
        )  # fmt: skip
        return [gradient[:, :, cuts[0], cuts[1]]]

    def _pull_by_columns(self, values: Tensor, sizes: list[int], padding: list[int]) -> Tensor:
        """Return the same by one matrix product and a sum of its patches: faster where the input has few channels."""
        patches = self.weight.flatten(1).T @ values.flatten(2)
        kernel = self.weight.shape[2:]
        size, pad = tuple(sizes), tuple(padding)
        return functional.fold(patches, size, tuple(kernel), tuple(self.dilation), pad, tuple(self.stride))


class TransposedConvolution(Rule):
    """A transposed convolution with frozen weights: its gradient is a convolution."""

    def __init__(self, weight: Tensor, axes: tuple[Axis, Axis], stride: Any, dilation: Any, groups: int) -> None:
        # `axes` are those of the convolution from this operation's output (as n_in) to its input (as n_out).
        self.weight, self.axes, self.stride, self.dilation, self.groups = weight, axes, stride, dilation, groups

    def reach(self, box: Box) -> list[Box]:
        """Return the places whose kernels meet the box."""
        ends: list[int] = []
        for axis, begin, end in zip(self.axes, box[::2], box[1::2], strict=True):
            low = -(-(begin + axis.padding - (axis.kernel - 1) * axis.dilation) // axis.stride)
            high = (end - 1 + axis.padding) // axis.stride + 1
            low = min(max(low, 0), axis.n_out - 1)
            ends += [low, max(min(high, axis.n_out), low + 1)]
        return [(ends[0], ends[1], ends[2], ends[3])]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the convolution of the window, filled up with zeros to whole kernels."""
        reach = self.reach(box)[0]
        fill: list[int] = []
        for axis, low, high, begin, end in zip(self.axes, reach[::2], reach[1::2], box[::2], box[1::2], strict=True):
            first, stop = axis.span(low, high)
            fill = [begin - first, stop - end, *fill]
        filled = functional.pad(values, fill)
        return [functional.conv2d(filled, self.weight, None, self.stride, 0, self.dilation, self.groups)]
