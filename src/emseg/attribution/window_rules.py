"""What each operation does to a window of a gradient: where it reaches in the input, and its values there.

The gradient of one pixel's logit is zero almost everywhere in the last layers, which are the largest. So a gradient is
kept as a window [point, channel, row, column] with its place, and each operation has two functions:

    reach(box)          the box of the input that the box of the output depends on: known without any values
    pull(values, box)   the gradient of the input inside that box

For a convolution with kernel k, stride s, padding p, dilation d, output rows a to b - 1 reach the input rows

    s a - p   to   s (b - 1) - p + d (k - 1)

Weights are frozen, so that a convolution keeps nothing of its input, and a batch normalisation in evaluation mode is
one factor a channel. An operation without a rule of its own gets torch's gradient, over the whole of its input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from emseg.attribution.passes import Box

aten = torch.ops.aten
FEW_CHANNELS = 2
"""Up to this many input channels, a convolution's gradient is faster by a matrix product; measured on a CPU."""


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


def _reach(axes: tuple[Axis, Axis], box: Box) -> Box:
    return (*axes[0].reach(box[0], box[1]), *axes[1].reach(box[2], box[3]))


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
        return [_reach(self.axes, box)]

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


class ChannelFactor(Rule):
    """Batch normalisation in evaluation mode."""

    def __init__(self, factor: Tensor) -> None:
        self.factor = factor

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window times each channel's factor."""
        return [values * self.factor.to(values.dtype)[:, None, None]]


class Rectifier(Rule):
    """max(x, 0), which keeps its output."""

    def __init__(self, output: Tensor) -> None:
        self.output = output
        self.saved = (output,)

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window where the output is positive."""
        return [aten.threshold_backward(values, rows_and_columns(self.output, box), 0)]


class Same(Rule):
    """A sum of tensors of one shape, a copy, a cast: each input gets the gradient, in its own type."""

    def __init__(self, dtypes: Sequence[torch.dtype]) -> None:
        self.dtypes = dtypes

    def reach(self, box: Box) -> list[Box]:
        """Return the box for each input."""
        return [box] * len(self.dtypes)

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window for each input."""
        return [values.to(dtype) for dtype in self.dtypes]


class Channels(Rule):
    """Tensors joined along the channels; `parts` are the channels of the tracked ones."""

    def __init__(self, parts: Sequence[slice]) -> None:
        self.parts = parts

    def reach(self, box: Box) -> list[Box]:
        """Return the box for each input."""
        return [box] * len(self.parts)

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return each input's channels."""
        return [values[:, part] for part in self.parts]


class NearestUpsampling(Rule):
    """Each pixel repeated `factors` times along the rows and columns."""

    def __init__(self, factors: tuple[int, int]) -> None:
        self.factors = factors

    def reach(self, box: Box) -> list[Box]:
        """Return the pixels that were repeated into the box."""
        down, across = self.factors
        return [(box[0] // down, -(-box[1] // down), box[2] // across, -(-box[3] // across))]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the sums over each pixel's repetitions."""
        (top, bottom, left, right), (down, across) = self.reach(box)[0], self.factors
        fill = [box[2] - left * across, right * across - box[3], box[0] - top * down, bottom * down - box[1]]
        if any(fill):
            values = functional.pad(values, fill)
        shape = [*values.shape[:2], bottom - top, right - left]
        return [aten.upsample_nearest2d_backward(values, [shape[2] * down, shape[3] * across], shape)]


class LinearResizing(Rule):
    """Bilinear resizing: one matrix along the rows and one along the columns, [output, input]."""

    def __init__(self, matrices: tuple[Tensor, Tensor], whole_box: Box, backward: Callable[[Tensor], Tensor]) -> None:
        self.matrices, self.whole_box, self.backward = matrices, whole_box, backward
        self.ends = []
        for matrix in matrices:
            present = (matrix != 0).int()
            last = matrix.shape[1] - present.flip(1).argmax(dim=1)
            self.ends.append((present.argmax(dim=1).tolist(), last.tolist()))

    def reach(self, box: Box) -> list[Box]:
        """Return the inputs that the box is interpolated from."""
        (first_row, stop_row), (first_column, stop_column) = self.ends
        return [(first_row[box[0]], stop_row[box[1] - 1], first_column[box[2]], stop_column[box[3] - 1])]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the transposed matrices times the window."""
        if box == self.whole_box:
            gradient = self.backward(values.contiguous())
            return [rows_and_columns(gradient, self.reach(box)[0])]
        top, bottom, left, right = self.reach(box)[0]
        down = self.matrices[0][box[0] : box[1], top:bottom].to(values)
        across = self.matrices[1][box[2] : box[3], left:right].to(values)
        return [down.T @ values @ across]


class MaxPooling(Rule):
    """Maxima of windows, which keep where they were found: `indices` into each input plane."""

    def __init__(self, indices: Tensor, axes: tuple[Axis, Axis], backward: Callable[[Tensor], Tensor]) -> None:
        self.indices, self.axes, self.backward = indices, axes, backward
        self.saved = (indices,)

    def reach(self, box: Box) -> list[Box]:
        """Return what the pooling windows cover."""
        return [_reach(self.axes, box)]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window's values where the maxima were."""
        if box == (0, self.axes[0].n_out, 0, self.axes[1].n_out):
            return [self.backward(values)]
        (top, bottom, left, right), n_columns = self.reach(box)[0], self.axes[1].n_in
        places = rows_and_columns(self.indices, box)
        places = (places // n_columns - top) * (right - left) + (places % n_columns - left)
        gradient = values.new_zeros((*values.shape[:2], (bottom - top) * (right - left)))
        gradient.scatter_add_(2, places.flatten(2), values.flatten(2))
        return [gradient.reshape(*values.shape[:2], bottom - top, right - left)]


class Elementwise(Rule):
    """A function of each value alone, such as sigmoid: its derivative at the input, computed when first needed."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.function, self.x, self.version = function, x, x._version
        self.derivative: Tensor | None = None
        self.saved = (x, x)  # and the derivative, of the same size

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window times the derivative."""
        if self.derivative is None:
            _require_unchanged([self.x], [self.version])
            with torch.enable_grad():
                leaf = self.x.detach().requires_grad_(True)
                (self.derivative,) = torch.autograd.grad(self.function(leaf).sum(), leaf)
        return [values * rows_and_columns(self.derivative, box)]


class Product(Rule):
    """A product of two tensors, of which one may be broadcast: attention gates, and factors."""

    def __init__(self, factors: Sequence[Tensor | None], shapes: Sequence[torch.Size], n_rows_columns: tuple[int, int]):
        # For each tracked input: the other factor, and the input's own shape.
        self.factors, self.shapes, self.n_out = factors, shapes, n_rows_columns
        kept = [factor for factor in factors if factor is not None]
        self.saved = tuple(kept)
        self.versions = [factor._version for factor in kept]

    def reach(self, box: Box) -> list[Box]:
        """Return the box, but the only row or column of an input that was broadcast along it."""
        boxes = []
        for shape in self.shapes:
            rows = (0, 1) if shape[2] == 1 and self.n_out[0] != 1 else box[:2]
            columns = (0, 1) if shape[3] == 1 and self.n_out[1] != 1 else box[2:]
            boxes.append((*rows, *columns))
        return boxes

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window times the other factor, summed over what was broadcast."""
        _require_unchanged(self.saved, self.versions)
        gradients: list[Tensor | None] = []
        for factor, shape in zip(self.factors, self.shapes, strict=True):
            if factor is None:
                gradients.append(None)
                continue
            if factor.ndim == 4:
                top, bottom = (0, 1) if factor.shape[2] == 1 else box[:2]
                left, right = (0, 1) if factor.shape[3] == 1 else box[2:]
                factor = factor[:, :, top:bottom, left:right]
            gradient = values * factor
            summed = [axis for axis in (1, 2, 3) if shape[axis] == 1 and gradient.shape[axis] != 1]
            gradients.append(gradient.sum(dim=summed, keepdim=True) if summed else gradient)
        return gradients


class TorchGradient(Rule):
    """Any other operation: torch's own gradient over the whole of its inputs."""

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[Tensor], out_shape: torch.Size, place: int
    ) -> None:
        self.function, self.inputs, self.out_shape, self.place = function, list(inputs), out_shape, place
        self.versions = [tensor._version for tensor in inputs]
        self.saved = tuple(inputs)
        self.leaves: list[Tensor] | None = None
        self.answer: Tensor | None = None

    def reach(self, box: Box) -> list[Box]:
        """Return all of each input."""
        return [whole(tensor.shape) for tensor in self.inputs]

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return torch's gradient."""
        if self.leaves is None:
            _require_unchanged(self.inputs, self.versions)
            with torch.enable_grad():
                self.leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in self.inputs]
                answer = self.function(*self.leaves)
            self.answer = answer[self.place] if isinstance(answer, list | tuple) else answer
        assert self.answer is not None
        if not self.answer.requires_grad:
            return [None] * len(self.inputs)
        if values.shape != self.out_shape:
            filled = values.new_zeros(self.out_shape)
            filled[..., box[0] : box[1], box[2] : box[3]] = values
            values = filled
        wanted = [leaf for leaf in self.leaves if leaf.requires_grad]
        found = torch.autograd.grad(self.answer, wanted, values, retain_graph=True, allow_unused=True)
        gradients = iter(found)
        return [next(gradients) if leaf.requires_grad else None for leaf in self.leaves]


def _require_unchanged(tensors: Sequence[Tensor], versions: Sequence[int]) -> None:
    if any(tensor._version != version for tensor, version in zip(tensors, versions, strict=True)):
        raise NotWindowedError("a value that a gradient needs was overwritten in place")
