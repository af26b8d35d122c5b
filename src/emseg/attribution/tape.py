"""A record of the operations that a network applied to an image, each with the rule of its gradient.

The network runs as it is, without torch's graph; a dispatch mode sees each operation below autograd and autocast and
writes down those that depend on the image. Control flow, attention, casts and repeated modules need no analysis: what
was done is what is recorded. The forward pass is torch's to the last bit, so that the same rectifiers are on. For the
backward passes, weights and what rectifiers keep are laid out with the channels last on a CPU, where that is faster,
and a batch normalisation whose input comes from a convolution, and goes nowhere else, is one factor in its weights.

What windows cannot follow raises `NotWindowedError`: an operation in place on a tensor that shares its memory with
another, batch normalisation in training mode, in-place operations without a rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from emseg.attribution.window_rules import (
    ChannelFactor,
    Channels,
    Convolution,
    Elementwise,
    LinearResizing,
    MaxPooling,
    NearestUpsampling,
    NotWindowedError,
    Product,
    Rectifier,
    Rule,
    Same,
    TorchGradient,
    TransposedConvolution,
    axes_of,
    whole,
)

aten = torch.ops.aten
_NORMS = {
    aten.native_batch_norm.default: (1, 3, 4, 5, 7),
    aten.cudnn_batch_norm.default: (1, 3, 4, 5, 7),
    aten._native_batch_norm_legit_no_training.default: (1, 3, 4, None, 6),
}
"""Where an operation takes its weight, running mean, running variance, training flag and epsilon."""
_ELEMENTWISE = {
    "sigmoid", "tanh", "silu", "gelu", "elu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "softplus", "mish",
    "exp", "neg", "square", "clamp", "relu6",
}  # fmt: skip
_COPIES = {aten.clone.default, aten._to_copy.default, aten.alias.default, aten.lift_fresh.default}
_STOPS = {aten.detach.default}


@dataclass(frozen=True, eq=False)
class Node:
    """An operation: the rule of its gradient, the values it took that depend on the image, and the one it made."""

    rule: Rule
    inputs: tuple[int, ...]
    output: int


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


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what is done to `image` [point, 1, height, width] while active; `close` names the answer."""

    def __init__(self, image: Tensor, laid_out: LaidOut) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.laid_out = laid_out
        self.nodes: list[Node] = []
        self.shapes: list[torch.Size] = [image.shape]
        self.largest = 0
        self._numbers = WeakIdKeyDictionary()
        self._numbers[image] = 0
        self._shared: set[int] = set()
        self._norms: dict[int, Tensor] = {}

    def number_of(self, tensor: object) -> int | None:
        """Return the number of a value that depends on the image."""
        return self._numbers[tensor] if isinstance(tensor, Tensor) and tensor in self._numbers else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it if it depends on the image."""
        kwargs = kwargs or {}
        flat, spec = tree_flatten((args, kwargs))
        inputs = [a for a in flat if self.number_of(a) is not None]
        if not inputs:
            return func(*args, **kwargs)
        numbers = [n for a in flat if (n := self.number_of(a)) is not None]
        in_place = func._schema.is_mutable
        if in_place and any(a.untyped_storage().data_ptr() in self._shared for a in inputs):
            raise NotWindowedError(f"{func} writes to memory that two tensors share")
        name = func.overloadpacket.__name__
        if name.rstrip("_") in _ELEMENTWISE and len(inputs) == 1 and flat[0] is inputs[0]:
            return self._elementwise(func, name, in_place, args, kwargs, numbers)
        out = func(*args, **kwargs)
        if func in _STOPS:
            return out
        first = out[0] if isinstance(out, list | tuple) and out else out
        if not isinstance(first, Tensor):
            return out
        rule = self._rule(func, args, kwargs, first, out, inputs)
        if rule is not None:
            self._record(rule, numbers, first)
            return out
        if in_place:
            raise NotWindowedError(f"{func} works in place")
        self._record_by_torch(func, flat, spec, out, inputs, numbers)
        return out

    def _record(self, rule: Rule, numbers: Sequence[int], out: Tensor) -> None:
        self._numbers[out] = len(self.shapes)
        self.nodes.append(Node(rule, tuple(numbers), len(self.shapes)))
        self.shapes.append(out.shape)
        self.largest = max(self.largest, out.untyped_storage().nbytes())

    def _elementwise(
        self, func: Any, name: str, in_place: bool, args: Any, kwargs: Any, numbers: Sequence[int]
    ) -> Tensor:
        kept = args[0].clone() if in_place else args[0]
        packet = getattr(aten, name.rstrip("_"))
        operation = getattr(packet, func._overloadname)
        out: Tensor = func(*args, **kwargs)
        self._record(Elementwise(lambda x: operation(x, *args[1:], **kwargs), kept), numbers, out)
        return out

    def _record_by_torch(
        self, func: Any, flat: list[Any], spec: Any, out: Any, inputs: Sequence[Tensor], numbers: Sequence[int]
    ) -> None:
        """Record torch's gradient for each output of an operation without a rule."""
        places = [place for place, a in enumerate(flat) if self.number_of(a) is not None]

        def again(*tensors: Tensor) -> Any:
            filled = list(flat)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            args, kwargs = tree_unflatten(filled, spec)
            return func(*args, **kwargs)

        outputs = list(out) if isinstance(out, list | tuple) else [out]
        for place, one in enumerate(outputs):
            if isinstance(one, Tensor) and one.is_floating_point():
                self._record(TorchGradient(again, inputs, one.shape, place), numbers, one)
                if any(one.untyped_storage().data_ptr() == a.untyped_storage().data_ptr() for a in inputs):
                    self._shared.add(one.untyped_storage().data_ptr())

    def _rule(
        self, func: Any, args: Any, kwargs: Any, first: Tensor, out: Any, inputs: Sequence[Tensor]
    ) -> Rule | None:
        """Return the rule of an operation, None where torch's own gradient must do."""
        x = inputs[0]
        if func in _NORMS:
            return self._norm(func, args, len(inputs))
        if func in (aten.relu.default, aten.relu_.default):
            return Rectifier(self.laid_out.map(first))
        if func in _COPIES and func is not aten.alias.default:
            return Same([x.dtype])
        if first.ndim != 4 or any(tensor.ndim != 4 for tensor in inputs):
            return None
        if func in (aten.add.Tensor, aten.add_.Tensor):
            plain = kwargs.get("alpha", 1) == 1 and all(tensor.shape == first.shape for tensor in inputs)
            return Same([tensor.dtype for tensor in inputs]) if plain else None
        if func is aten.mul.Tensor:
            return self._product(args, first)
        if func is aten.cat.default:
            return self._joined(args, kwargs, first)
        if len(inputs) != 1:
            return None
        if func is aten.convolution.default:
            return self._convolution(args, first)
        if func is aten.max_pool2d_with_indices.default:
            return _max_pooling(args, x.shape, x.dtype, out)
        if func is aten.upsample_nearest2d.default:
            down, across = (n_out / n_in for n_out, n_in in zip(first.shape[2:], x.shape[2:], strict=True))
            return NearestUpsampling((int(down), int(across))) if down % 1 == across % 1 == 0 else None
        if func is aten.upsample_bilinear2d.default:
            return _bilinear(args, x, first)
        return None

    def _norm(self, func: Any, args: Any, n_inputs: int) -> Rule | None:
        weight, _, variance, training, epsilon = _NORMS[func]
        if n_inputs != 1 or (training is not None and args[training]):
            raise NotWindowedError("batch normalisation is in training mode")
        factor = torch.rsqrt(args[variance] + args[epsilon])
        if args[weight] is not None:
            factor = factor * args[weight]
        self._norms[len(self.shapes)] = args[variance]
        return ChannelFactor(factor)

    def _product(self, args: Any, out: Tensor) -> Rule | None:
        factors, shapes = [], []
        for mine, other in ((args[0], args[1]), (args[1], args[0])):
            if self.number_of(mine) is None:
                continue
            if not isinstance(other, Tensor) or other.ndim not in (0, 4) or not other.is_floating_point():
                return None
            factors.append(other)
            shapes.append(mine.shape)
        return Product(factors, shapes, (out.shape[2], out.shape[3]))

    def _joined(self, args: Any, kwargs: Any, out: Tensor) -> Rule | None:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if axis % 4 != 1:
            return None
        parts, begin = [], 0
        for tensor in args[0]:
            if self.number_of(tensor) is not None:
                parts.append(slice(begin, begin + tensor.shape[1]))
            begin += tensor.shape[1]
        return Channels(parts)

    def _convolution(self, args: Any, out: Tensor) -> Rule | None:
        x, weight, _, stride, padding, dilation, transposed, _, groups = args
        kernel = weight.shape[2:]
        if weight.ndim != 4:
            return None
        if transposed:
            axes = axes_of(out.shape[2:], x.shape[2:], kernel, stride, padding, dilation)
            return TransposedConvolution(weight, axes, stride, dilation, groups)
        axes = axes_of(x.shape[2:], out.shape[2:], kernel, stride, padding, dilation)
        two = [axis.padding for axis in axes]
        weight = self.laid_out.weight(weight)
        return Convolution(weight, axes, stride, two, dilation, groups, self.laid_out.memory_format)

    def close(self, answer: Tensor) -> int:
        """Return the number of the answer's value, after norms were folded into the convolutions before them."""
        number = self.number_of(answer)
        if number is None:
            raise NotWindowedError("the answer does not depend on the image")
        uses = [0] * len(self.shapes)
        for node in self.nodes:
            for value in node.inputs:
                uses[value] += 1
        uses[number] += 1
        makers = {node.output: place for place, node in enumerate(self.nodes)}
        for place, node in enumerate(self.nodes):
            before = self.nodes[makers[node.inputs[0]]] if node.inputs[0] in makers else None
            if (
                before is not None
                and isinstance(node.rule, ChannelFactor)
                and isinstance(before.rule, Convolution)
                and uses[before.output] == 1
            ):
                rule, variance = before.rule, self._norms[node.output]
                scaled = self.laid_out.scaled(rule.weight, node.rule.factor, variance)
                folded = Convolution(
                    scaled, rule.axes, rule.stride, rule.padding, rule.dilation, rule.groups, rule.memory_format
                )
                self.nodes[makers[before.output]] = Node(folded, before.inputs, node.output)
                self.nodes[place] = Node(node.rule, (), -1)
        self.nodes = [node for node in self.nodes if node.output >= 0]
        return number


def _max_pooling(args: Any, shape: torch.Size, dtype: torch.dtype, out: Any) -> Rule:
    defaults: tuple[Any, ...] = ([], 0, 1, False)
    options: tuple[Any, ...] = (*args[1:], *defaults[len(args) - 2 :])
    kernel, stride, padding, dilation, ceil = options
    indices, n_out = out[1], out[0].shape[2:]
    axes = axes_of(shape[2:], n_out, kernel, stride or kernel, padding, dilation)

    def backward(values: Tensor) -> Tensor:
        like = torch.empty(shape, dtype=dtype, device=values.device)
        given = (kernel, stride or kernel, padding, dilation, ceil)
        places = indices.contiguous()
        gradient: Tensor = aten.max_pool2d_with_indices_backward(values.contiguous(), like, *given, places)
        return gradient

    return MaxPooling(indices, axes, backward)


def _bilinear(args: Any, x: Tensor, out: Tensor) -> Rule:
    shape, n_out, aligned = x.shape, list(out.shape[2:]), bool(args[2])
    scales = (*args[3:], None, None)[:2]

    def matrix(axis: int) -> Tensor:
        eye = torch.eye(shape[axis], dtype=torch.float32, device=x.device)[None, :, :, None]
        size = [n_out[axis - 2], 1]
        return aten.upsample_bilinear2d(eye, size, aligned, scales[axis - 2], None)[0, :, :, 0].T.contiguous()  # type: ignore[no-any-return]

    def backward(values: Tensor) -> Tensor:
        return aten.upsample_bilinear2d_backward(values, n_out, list(shape), aligned, *scales)  # type: ignore[no-any-return]

    return LinearResizing((matrix(2), matrix(3)), whole(out.shape), backward)
