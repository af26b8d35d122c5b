"""The rule of an operation that has none of its own: torch's gradient over the whole of its inputs.

The operation is run once more with torch's graph when its gradient is first asked for; the graph is kept for the
further targets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from emseg.attribution.passes import Box
from emseg.attribution.window_rule import Rule, require_unchanged, whole


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
            require_unchanged(self.inputs, self.versions)
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
