"""Gradients of one pixel's logit: torch's own, and ones restricted to the window where they can be nonzero.

The logit of a pixel depends on a few pixels of the last layers' maps, on more of those before, and on all of the small
maps in the middle of a U-Net. Torch computes its gradient on whole maps. Here the operations of a forward pass are
recorded, and the gradient is passed back as a window [point, channel, row, column] that grows from layer to layer, so
that the last layers, at full size, cost next to nothing. For a convolution with kernel k, stride s, padding p and
dilation d, output rows a to b - 1 reach the input rows

    s a - p   to   s (b - 1) - p + d (k - 1)

An operation without a rule here gets torch's gradient on its whole input. The gradients are torch's up to rounding;
`differs_from_torch` compares them on the network itself, and `emseg.attribution.attribute` takes torch's where they are
not. Windows keep less memory, too: the outputs of rectifiers and the places of maxima.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from emseg.attribution.inputs import Calling, Points, naming_gradient_errors, require_gradient, require_logits

Box = tuple[int, int, int, int]
"""Top, bottom, left, right; bottom and right are past the last."""
Window = tuple[Tensor, Box]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.2, "fp16": 0.1}
"""Largest relative difference (L2) from torch's gradient; half precision is compared with itself, which also rounds."""

_FEW_CHANNELS = 2
_aten = torch.ops.aten
_IDENTITIES = {_aten.alias.default, _aten.clone.default}
_NORMS = {_aten._native_batch_norm_legit_no_training.default, _aten.native_batch_norm.default}
_POINTWISE = {
    getattr(getattr(_aten, name), overload)
    for overload, names in {
        "default": "sigmoid tanh silu gelu elu leaky_relu hardtanh hardswish hardsigmoid softplus mish exp neg abs "
        "sqrt rsqrt clamp sin cos _to_copy",
        "Tensor": "add sub mul div",
        "Scalar": "mul div add sub",
        "Tensor_Scalar": "pow",
        "self": "where",
    }.items()
    for name in names.split()
}
_UPSAMPLES = {getattr(_aten, f"upsample_{kind}2d").default for kind in ("nearest", "bilinear", "bicubic")}


class NotWindowedError(Exception):
    """The network does something that windows of gradients cannot follow; torch's own passes can."""


class TorchPass:
    """Torch's own graph of a forward pass; gradients cover the whole image."""

    def __init__(self, calling: Calling, points: Points, *, keep: bool = False) -> None:
        self.tensors = tensors = list[Tensor]()  # what the graph saves, if that is to be kept
        self.leaf = points.detach().clone().requires_grad_(True)

        def note(tensor: Tensor) -> Tensor:
            # Detached, and no `self` in here: else the graph would keep what keeps the graph.
            tensors.append(tensor.detach())
            return tensor.detach()

        noting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor) if keep else nullcontext()
        with torch.enable_grad(), noting:
            # The network gets a copy, so that one that works on its input in place does not meet a leaf of the graph.
            self.logits = require_gradient(calling.logits(self.leaf.clone()))

    def gradient(self, row: int, column: int) -> Window:
        """Return the gradient of one pixel's logit at each point, [point, channel, row, column], and the whole box."""
        start = torch.zeros_like(self.logits)
        start[:, 0, row, column] = 1
        with naming_gradient_errors():
            (found,) = torch.autograd.grad(self.logits, self.leaf, start, retain_graph=True, materialize_grads=True)
        return found, whole(found.shape)


@dataclass(frozen=True, eq=False)
class _Node:
    """One operation: how a window of its output's gradient becomes windows of its tracked inputs'."""

    inputs: tuple[int, ...]
    output: int
    pull: Callable[[Tensor, Box], Sequence[Window | None]]


class WindowedPass:
    """A recorded forward pass; `weights` remembers weights with the channels last from pass to pass."""

    def __init__(self, calling: Calling, points: Points, weights: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.nodes: list[_Node] = []
        self.tensors: list[Tensor] = []
        points = points.detach().clone()
        recorder = _Recorder(self, points, weights)
        with torch.no_grad(), recorder:
            # Functional operations only: what a network does in place or through views becomes plain values.
            output = functionalize(calling)(points)
        logits, place = require_logits(output, points), recorder.place_of(output)
        if place is None:
            raise NotWindowedError("its answer does not depend on the image through recorded operations")
        self.answer, self.dtype, self.points = place, logits.dtype, points.new_empty(points.shape[:2])

    def gradient(self, row: int, column: int) -> Window:
        """Return the same within the window where the gradient can be nonzero, and that window."""
        box = (row, row + 1, column, column + 1)
        start = torch.ones((len(self.points), 1, 1, 1), dtype=self.dtype, device=self.points.device)
        windows: dict[int, Window] = {self.answer: (start, box)}
        with torch.no_grad():
            for node in reversed(self.nodes):
                window = windows.pop(node.output, None)
                if window is None:
                    continue
                for place, found in zip(node.inputs, node.pull(*window), strict=True):
                    if found is not None:
                        windows[place] = _sum(windows[place], found) if place in windows else found
        if 0 not in windows:
            return self.points.new_zeros((*self.points.shape, 1, 1)), box
        values, box = windows[0]
        return values.to(self.points.dtype), box


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, notes every operation on tensors that come from the image."""

    def __init__(self, graph: WindowedPass, points: Tensor, weights: dict[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph, self.weights = graph, weights
        self.mark = object()  # tensors carry it with their number, so that none is kept alive to be recognised
        self.n_values = 0
        self._number(points)

    def _number(self, tensor: Any) -> int:
        tensor._recorded = (self.mark, self.n_values)
        self.n_values += 1
        return self.n_values - 1

    def place_of(self, tensor: Any) -> int | None:
        """Return the number of a tracked tensor."""
        mark, place = getattr(tensor, "_recorded", (None, None))
        return place if mark is self.mark else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it if one of its inputs is tracked."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tracked = [tensor for tensor in _tensors(args) if self.place_of(tensor) is not None]
        if not tracked or func._schema.is_mutable or func is _aten.detach.default:
            return result
        outputs = [result] if isinstance(result, Tensor) else list(result)
        if func in _NORMS or func is _aten.max_pool2d_with_indices.default:
            outputs = outputs[:1]  # the others serve the backward pass alone
        for number, output in enumerate(outputs):
            if isinstance(output, Tensor) and output.is_floating_point():
                inputs, pull = self._rule(func, args, kwargs, output, result, number, tracked)
                self.graph.nodes.append(_Node(inputs, self._number(output), pull))
        return result

    def _rule(
        self, func: Any, args: Any, kwargs: Any, output: Tensor, result: Any, number: int, tracked: list[Tensor]
    ) -> tuple[tuple[int, ...], Callable[[Tensor, Box], Sequence[Window | None]]]:
        """Return the inputs of an operation and how the gradient of its output is passed back to them."""
        inputs = tuple(place for tensor in tracked if (place := self.place_of(tensor)) is not None)
        shape, planes = tracked[0].shape, output.ndim == 4
        alone = planes and len(tracked) == 1 and args[0] is tracked[0]
        if all(one.shape == output.shape and one.dtype == output.dtype for one in tracked) and (
            func in _IDENTITIES or (func is _aten.add.Tensor and not kwargs)
        ):
            return inputs, lambda values, box: [(values, box)] * len(tracked)
        if func is _aten.relu.default:
            self.graph.tensors.append(output)
            return inputs, lambda values, box: [(values * (_cut(output, box) > 0), box)]
        if alone and func is _aten.convolution.default:
            return inputs, _convolution(shape, args, self._laid_out(args[1]))
        if alone and func in _NORMS and not (len(args) == 8 and args[5]):
            factors = (torch.rsqrt(args[4] + args[-1]) * (1 if args[1] is None else args[1]))[:, None, None]
            return inputs, lambda values, box: [(values * factors.to(values.dtype), box)]
        if planes and func is _aten.cat.default and args[1:] == (1,):
            edges = [0, *accumulate(tensor.shape[1] for tensor in args[0])]
            parts = [edges[i : i + 2] for i, one in enumerate(args[0]) if any(tensor is one for tensor in tracked)]
            return inputs, lambda values, box: [(values[:, first:stop], box) for first, stop in parts]
        if func is _aten.max_pool2d_with_indices.default:
            self.graph.tensors.append(result[1])
            return inputs, _max_pool(shape, args, result[1])
        if planes and func in _UPSAMPLES:
            return inputs, _upsample(func, shape, args, output.shape)
        self.graph.tensors += _tensors(args)
        return inputs, _by_torch(func, args, kwargs, output, number, tracked)

    def _laid_out(self, weight: Tensor) -> Tensor:
        """Return kernels in the layout that passes back read, a parameter's from pass to pass."""
        if not isinstance(weight, nn.Parameter):
            return weight
        if id(weight) not in self.weights:
            self.weights[id(weight)] = (weight, weight.detach().contiguous(memory_format=_layout(weight)))
        return self.weights[id(weight)][1]


def _tensors(args: Any) -> Iterator[Tensor]:
    for one in args:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _tensors(one)


def _convolution(shape: torch.Size, args: Any, weight: Tensor) -> Callable[[Tensor, Box], Sequence[Window]]:
    _, _, _, stride, padding, dilation, transposed, _, groups = args
    kernel = weight.shape[2:]

    def pull(values: Tensor, box: Box) -> list[Window]:
        spans = _spans(box, kernel, stride, padding, dilation)
        (top, bottom), (left, right) = spans
        inside = (max(top, 0), min(bottom, shape[2]), max(left, 0), min(right, shape[3]))
        if groups == 1 and shape[1] <= _FEW_CHANNELS and values.device.type == "cpu":
            patches = weight.flatten(1).T @ values.flatten(2)  # faster here: one product and a sum of its patches
            found = functional.fold(patches, (bottom - top, right - left), tuple(kernel), dilation, 0, stride)
            return [(_cut(found, _moved(inside, top, left)), inside)]
        seen = values.new_empty((len(values), shape[1], bottom - top, right - left))  # its size alone counts
        found = _aten.convolution_backward(
            values.contiguous(memory_format=_layout(values)),
            seen.contiguous(memory_format=_layout(values)),
            weight,
            None,
            stride,
            [0, 0],
            dilation,
            False,
            [0, 0],
            groups,
            [True, False, False],
        )[0]
        return [(_cut(found, _moved(inside, top, left)), inside)]

    def pull_transposed(values: Tensor, box: Box) -> list[Window]:
        sides: list[int] = []
        pads: list[int] = []
        for axis in (0, 1):
            begin, end, s, p = box[2 * axis], box[2 * axis + 1], stride[axis], padding[axis]
            reach = dilation[axis] * (kernel[axis] - 1)
            first = max(0, -(-(begin + p - reach) // s))
            last = min(shape[2 + axis] - 1, (end - 1 + p) // s)
            sides += [first, last + 1]
            pads = [begin - (first * s - p), last * s - p + reach + 1 - end, *pads]  # torch pads the last axis first
        found = functional.conv2d(functional.pad(values, pads), weight, None, stride, 0, dilation, groups)
        return [(found, (sides[0], sides[1], sides[2], sides[3]))]

    return pull_transposed if transposed else pull


def _max_pool(shape: torch.Size, args: Any, places: Tensor) -> Callable[[Tensor, Box], Sequence[Window]]:
    kernel = args[1]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding = args[3] if len(args) > 3 else [0, 0]
    dilation = args[4] if len(args) > 4 else [1, 1]

    def pull(values: Tensor, box: Box) -> list[Window]:
        (top, bottom), (left, right) = _spans(box, kernel, stride, padding, dilation)
        top, bottom, left, right = max(top, 0), min(bottom, shape[2]), max(left, 0), min(right, shape[3])
        chosen = _cut(places, box)
        local = (chosen // shape[3] - top) * (right - left) + chosen % shape[3] - left
        found = values.new_zeros((*values.shape[:2], (bottom - top) * (right - left)))
        found.scatter_add_(2, local.flatten(2), values.flatten(2))
        return [(found.view(*values.shape[:2], bottom - top, right - left), (top, bottom, left, right))]

    return pull


def _upsample(func: Any, shape: torch.Size, args: Any, size: torch.Size) -> Callable[[Tensor, Box], Sequence[Window]]:
    """Enlarging is a product with a matrix along each axis; to nearest neighbours by a whole factor, a sum of cells."""
    rows, columns = size[2] // shape[2], size[3] // shape[3]
    by_cells = "nearest" in func.__name__ and (rows * shape[2], columns * shape[3]) == tuple(size[2:])
    matrices: list[Tensor] = []

    def pull_cells(values: Tensor, box: Box) -> list[Window]:
        top, bottom, left, right = box
        inside = (top // rows, -(-bottom // rows), left // columns, -(-right // columns))
        pads = [left - inside[2] * columns, inside[3] * columns - right]
        pads += [top - inside[0] * rows, inside[1] * rows - bottom]
        return [(functional.avg_pool2d(functional.pad(values, pads), (rows, columns)) * (rows * columns), inside)]

    def pull(values: Tensor, box: Box) -> list[Window]:
        if not matrices:
            flags = args[2 : 2 if "nearest" in func.__name__ else 3]
            scales = (*args[2 + len(flags) :], None, None)
            for axis, scale in ((2, scales[0]), (3, scales[1])):
                unit = torch.eye(shape[axis], device=values.device, dtype=values.dtype)[None, :, :, None]
                matrices.append(func(unit, [size[axis], 1], *flags, scale, None)[0, :, :, 0].T)
        parts, sides = [], []
        for axis, matrix in enumerate(matrices):
            part = matrix[box[2 * axis] : box[2 * axis + 1]]
            used = torch.nonzero(part.any(dim=0)).flatten()
            sides += [int(used[0]), int(used[-1]) + 1]
            parts.append(part[:, sides[-2] : sides[-1]])
        return [(parts[0].T @ values @ parts[1], (sides[0], sides[1], sides[2], sides[3]))]

    return pull_cells if by_cells else pull


def _by_torch(
    func: Any, args: Any, kwargs: Any, output: Tensor, number: int, tracked: list[Tensor]
) -> Callable[[Tensor, Box], Sequence[Window | None]]:
    """Run the operation again and let torch differentiate it: pixel by pixel in the window, others on all they take."""
    shape = output.shape
    local = func in _POINTWISE and len(shape) == 4

    def pull(values: Tensor, box: Box) -> list[Window | None]:
        def cut(tensor: Tensor) -> tuple[Tensor, Box]:
            top, bottom, left, right = whole(tensor.shape)
            if local and tensor.ndim >= 2 and tensor.shape[-2] == shape[-2]:  # else the rows are broadcast
                top, bottom = box[:2]
                tensor = tensor[..., top:bottom, :]
            if local and tensor.ndim >= 1 and tensor.shape[-1] == shape[-1]:
                left, right = box[2:]
                tensor = tensor[..., left:right]
            return tensor, (top, bottom, left, right)

        leaves, boxes = [], []
        replaced: dict[int, Tensor] = {}
        for tensor in tracked:
            part, place = cut(tensor)
            if id(tensor) not in replaced:
                replaced[id(tensor)] = part.detach().requires_grad_(True)
            leaves.append(replaced[id(tensor)])
            boxes.append(place)

        def rebuilt(one: Any) -> Any:
            if isinstance(one, Tensor):
                return replaced[id(one)] if id(one) in replaced else cut(one)[0]
            return [rebuilt(part) for part in one] if isinstance(one, list | tuple) else one

        with torch.enable_grad():
            result = func(*(rebuilt(one) for one in args), **kwargs)
            again = result if isinstance(result, Tensor) else result[number]
            start = values if local else _widened(values, box, shape)
            if not again.requires_grad:
                return [None] * len(leaves)
            unique = list(replaced.values())
            found = torch.autograd.grad(again, unique, start.to(again.dtype), allow_unused=True)
        gradients = dict(zip(map(id, unique), found, strict=True))
        answer: list[Window | None] = []
        for leaf, place in zip(leaves, boxes, strict=True):
            gradient = gradients.pop(id(leaf), None)  # an input that comes twice has its whole gradient once
            answer.append(None if gradient is None else (gradient, place))
        return answer

    return pull


def whole(shape: Sequence[int]) -> Box:
    """Return the box that contains all of a tensor of this shape."""
    return (0, shape[-2], 0, shape[-1]) if len(shape) >= 2 else (0, 1, 0, shape[-1] if len(shape) else 1)


def union(one: Box, other: Box) -> Box:
    """Return the smallest box around two."""
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def _cut(tensor: Tensor, box: Box) -> Tensor:
    return tensor[..., box[0] : box[1], box[2] : box[3]]


def _moved(box: Box, top: int, left: int) -> Box:
    return box[0] - top, box[1] - top, box[2] - left, box[3] - left


def _widened(values: Tensor, box: Box, shape: Sequence[int]) -> Tensor:
    if tuple(values.shape) == tuple(shape):
        return values
    wide = values.new_zeros((*values.shape[:-2], *shape[-2:]))
    _cut(wide, box).copy_(values)
    return wide


def _sum(one: Window, other: Window) -> Window:
    """Return the sum of two windows of a gradient, in the box around both."""
    if one[1] == other[1]:
        return one[0] + other[0], one[1]
    box = union(one[1], other[1])
    if other[1] == box:
        one, other = other, one
    if one[1] == box:
        total = one[0].clone()  # in its own layout: a sum of two layouts takes several times as long
    else:
        total = one[0].new_zeros((*one[0].shape[:-2], box[1] - box[0], box[3] - box[2]))
        _cut(total, _moved(one[1], box[0], box[2])).copy_(one[0])
    _cut(total, _moved(other[1], box[0], box[2])).add_(other[0])
    return total, box


def _spans(box: Box, kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[tuple[int, int]]:
    """Return along both axes the input places that a kernel covers for `box` of the output, padding included."""
    k, s, p, d = (tuple(one) * 2 if len(one) == 1 else tuple(one) for one in (kernel, stride, padding, dilation))
    return [(box[2 * a] * s[a] - p[a], (box[2 * a + 1] - 1) * s[a] - p[a] + d[a] * (k[a] - 1) + 1) for a in (0, 1)]


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.device.type == "cpu" else torch.contiguous_format


def differs_from_torch(calling: Calling, points: Points, targets: Sequence[tuple[int, int]]) -> str | None:
    """Return how windows' gradients differ from torch's on this network and image, None where they do not."""
    theirs_pass = TorchPass(calling, points)
    try:
        windowed = WindowedPass(calling, points, {})
        for row, column in targets:
            ours = torch.zeros_like(points)
            values, box = windowed.gradient(row, column)
            _cut(ours, box).copy_(values)
            theirs = theirs_pass.gradient(row, column)[0]
            error = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
            if not error <= TOLERANCE[calling.precision] and bool(torch.isfinite(theirs).all()):
                return f"the gradients differ by {error:.2g} of torch's"
    except (NotWindowedError, RuntimeError, NotImplementedError) as reason:
        return str(reason).split("\n")[0]
    return None
