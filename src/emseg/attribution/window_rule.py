"""What an operation does to a window of a gradient: where it reaches in the input, and its values there.

The gradient of one pixel's logit is zero almost everywhere in the last layers, which are the largest. So a gradient is
kept as a window [point, channel, row, column] with its place, and each operation has two functions:

    reach(box)          the box of the input that the box of the output depends on: known without any values
    pull(values, box)   the gradient of the input inside that box

For a convolution with kernel k, stride s, padding p, dilation d, output rows a to b - 1 reach the input rows

    s a - p   to   s (b - 1) - p + d (k - 1)

An operation without a rule of its own gets torch's gradient, over the whole of its input
(emseg.attribution.torch_gradient_rule).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from emseg.attribution.passes import Box


class NotWindowedError(Exception):
    """The network does something that windows of gradients cannot follow; torch's own passes can."""


class Rule:
    """How the gradient of an operation's first output becomes those of its tracked inputs."""

    saved: tuple[Tensor, ...] = ()

    def reach(self, box: Box) -> list[Box]:
        """Return for each tracked input the box that `box` of the output depends on; the same box unless overridden."""
        return [box]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return for each tracked input its gradient within its reach; None where there is none."""
        raise NotImplementedError


def rows_and_columns(tensor: Tensor, box: Box) -> Tensor:
    """Return the window of `tensor` [..., row, column] inside `box`."""
    top, bottom, left, right = box
    if (top, left) == (0, 0) and (bottom, right) == tuple(tensor.shape[-2:]):
        return tensor
    return tensor[..., top:bottom, left:right]


def whole(shape: Sequence[int]) -> Box:
    """Return the box that holds all of a tensor of this shape."""
    return (0, shape[-2], 0, shape[-1]) if len(shape) >= 2 else (0, 1, 0, shape[-1] if len(shape) else 1)


@dataclass(frozen=True, eq=False)
class Axis:
    """A kernel along one axis, from `n_in` to `n_out` places."""

    n_in: int
    n_out: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    def reach(self, begin: int, end: int) -> tuple[int, int]:
        """Return the first input place that outputs `begin` to `end` - 1 depend on, and one past the last."""
        if (begin, end) == (0, self.n_out):
            return 0, self.n_in
        first, stop = self.span(begin, end)
        return min(max(first, 0), self.n_in), max(min(stop, self.n_in), 0)

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """Return the same with the padding, where places below 0 and beyond `n_in` are."""
        first = begin * self.stride - self.padding
        return first, (end - 1) * self.stride - self.padding + (self.kernel - 1) * self.dilation + 1


def axes_of(
    n_in: Sequence[int], n_out: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Axis, Axis]:
    """Return the axes of a two-dimensional kernel; options may be one number for both."""

    def two(value: Any, default: int = 1) -> tuple[int, int]:
        values = list(value) if isinstance(value, Sequence) else [value]
        values = values or [default]
        return int(values[0]), int(values[-1])

    kernels, strides, paddings, dilations = two(kernel), two(stride), two(padding, 0), two(dilation)
    first, second = (Axis(n_in[a - 2], n_out[a - 2], kernels[a], strides[a], paddings[a], dilations[a]) for a in (0, 1))
    return first, second


def reach_of(axes: tuple[Axis, Axis], box: Box) -> Box:
    """Return what a kernel of these axes covers of the input for `box` of the output."""
    return (*axes[0].reach(box[0], box[1]), *axes[1].reach(box[2], box[3]))


def require_unchanged(tensors: Sequence[Tensor], versions: Sequence[int]) -> None:
    """Raise where a tensor was written to since its version was noted."""
    if any(tensor._version != version for tensor, version in zip(tensors, versions, strict=True)):
        raise NotWindowedError("a value that a gradient needs was overwritten in place")
