"""A copy of a network in which every layer is called once, for methods that keep what passed through a layer.

DeepLift compares a rectifier's input for the image with that for the baseline, so a rectifier or a pooling layer that a
network calls at several places has no one answer. Layers without weights are the same wherever they stand: each call
gets a copy of its own, in the order of the calls.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from emseg.errors import UsageError


class CalledInTurn(nn.Module):
    """As many copies of a layer as a forward pass calls it; the calls take them in turn."""

    def __init__(self, layer: nn.Module, n_calls: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(layer) for _ in range(n_calls))
        self.n_called = 0

    def forward(self, *inputs: Any) -> Any:
        """Call the copy whose turn it is."""
        layer = self.copies[self.n_called % len(self.copies)]
        self.n_called += 1
        return layer(*inputs)


def untied(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a network in which layers without weights are called once each.

    Raises `UsageError` for a layer with weights that is called more than once: its copies would not be one layer.
    """
    twin = copy.deepcopy(network)
    calls: dict[str, int] = {}
    leaves = {name: layer for name, layer in twin.named_modules() if name and not list(layer.children())}
    hooks = [
        layer.register_forward_pre_hook(lambda _, __, name=name: calls.update({name: calls.get(name, 0) + 1}))
        for name, layer in leaves.items()
    ]
    with torch.no_grad():
        twin(example)
    for hook in hooks:
        hook.remove()
    for name, n_calls in calls.items():
        if n_calls > 1:
            if any(True for _ in leaves[name].parameters()):
                raise UsageError(
                    f"deeplift needs layers that are called once; {name!r} has weights and is called {n_calls} times. "
                    "Use integrated gradients."
                )
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, CalledInTurn(leaves[name], n_calls))
    return twin
