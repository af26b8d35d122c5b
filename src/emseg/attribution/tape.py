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

from emseg.attribution.convolution_rules import Convolution
from emseg.attribution.laid_out import LaidOut
from emseg.attribution.pixel_rules import ChannelFactor, Elementwise
from emseg.attribution.rule_choice import RuleChoice
from emseg.attribution.torch_gradient_rule import TorchGradient
from emseg.attribution.window_rule import NotWindowedError, Rule

aten = torch.ops.aten
_ELEMENTWISE = {
    "sigmoid", "tanh", "silu", "gelu", "elu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "softplus", "mish",
    "exp", "neg", "square", "clamp", "relu6",
}  # fmt: skip
_STOPS = {aten.detach.default}


@dataclass(frozen=True, eq=False)
class Node:
    """An operation: the rule of its gradient, the values it took that depend on the image, and the one it made."""

    rule: Rule
    inputs: tuple[int, ...]
    output: int


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
        # not by way of the tape, which would then hold itself, and all its maps, until garbage is collected
        numbers = self._numbers
        self._choice = RuleChoice(laid_out, lambda value: isinstance(value, Tensor) and value in numbers)

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
        rule = self._choice.of(func, args, kwargs, first, out, inputs)
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
                rule = before.rule
                scaled = self.laid_out.scaled(rule.weight, node.rule.factor, node.rule.variance)
                folded = Convolution(
                    scaled, rule.axes, rule.stride, rule.padding, rule.dilation, rule.groups, rule.memory_format
                )
                self.nodes[makers[before.output]] = Node(folded, before.inputs, node.output)
                self.nodes[place] = Node(node.rule, (), -1)
        self.nodes = [node for node in self.nodes if node.output >= 0]
        return number
