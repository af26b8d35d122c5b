"""One forward pass for points of the path, then as many backward passes as there are targets.

    logits = f(points)                                   once for all targets
    d/d points of sum over s, t of seed[s, t] f_s(row_t, column_t)     once for each target, or for targets that share

s counts the points that are computed at once; no point's logits depend on another's. The weights of the network are
frozen meanwhile and the graph is kept until the last target is done, so that the backward pass costs what the gradient
of the image costs and no more.

A gradient is returned with the place of its window in the image: `emseg.attribution.windowed` computes only what can
differ from zero; the passes here, torch's own, return the whole image.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emseg.attribution.targets import Network, naming_gradient_errors, require_gradient, require_logits
from emseg.errors import UsageError, suggest

Precision = Literal["fp32", "bf16", "fp16"]
Points = Float[Tensor, "point 1 height width"]
Box = tuple[int, int, int, int]
"""Top, bottom, left, right of the pixels that a logit can depend on; bottom and right are past the last."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """Where a backward pass starts: `values` [point, target] at the pixels (`rows`, `columns`) of all points."""

    rows: list[int]
    columns: list[int]
    values: Float[Tensor, "point target"]


@dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient at each point: `values` [point, row, column] from (`top`, `left`) on; outside of it, it is zero."""

    values: Float[Tensor, "point row column"]
    top: int = 0
    left: int = 0

    def add_to(self, total: Float[Tensor, "height width"], factors: Float[np.ndarray, " point"], cell: Box) -> None:
        """Add the sum over points of factor times gradient to `total`, inside `cell`: top, bottom, left, right."""
        top, left = max(cell[0], self.top), max(cell[2], self.left)
        bottom = min(cell[1], self.top + self.values.shape[1])
        right = min(cell[3], self.left + self.values.shape[2])
        if top >= bottom or left >= right:
            return
        place = total[top:bottom, left:right]
        values = self.values[:, top - self.top : bottom - self.top, left - self.left : right - self.left]
        for factor, one in zip(factors, values, strict=True):
            place.add_(one, alpha=float(factor))


class Pass(Protocol):
    """A forward pass whose graph is kept."""

    def gradient(self, seeds: Seeds) -> Gradient:
        """Return the gradient of the seeded logits."""
        ...


class Passes(Protocol):
    """A way to run a network forward, and backward as often as wanted."""

    def forward(self, points: Points) -> Pass:
        """Run the network on points of the path and keep what the backward passes need."""
        ...

    def boxes(self, targets: Int[np.ndarray, "target 2"]) -> list[Box] | None:
        """Return for each target the pixels that its logit can depend on; None where that is not known."""
        ...


@dataclass(frozen=True)
class Calling:
    """The network and the precision it computes in."""

    network: Network
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        allowed = get_args(Precision)
        if self.precision not in allowed:
            raise UsageError(
                f"`precision` must be one of {', '.join(allowed)}; got {self.precision!r}."
                + suggest(str(self.precision), allowed)
            )

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context that a network of this precision runs in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def answer(self, points: Points) -> object:
        """Return what the network answers."""
        with self.autocast(points.device), naming_gradient_errors():
            return self.network(points)

    def logits(self, points: Points) -> Points:
        """Return the network's logits, checked."""
        return require_logits(self.answer(points), points)

    def scores(
        self, image: Float[Tensor, "height width"], targets: Int[np.ndarray, "target 2"]
    ) -> Float[np.ndarray, " target"]:
        """Return the logits of the targets' pixels of one image as float64, computed without gradients."""
        with torch.no_grad():
            answer = self.logits(image[None, None])
        return np.asarray(answer[0, 0].double().cpu().numpy()[targets[:, 0], targets[:, 1]])


class FullPasses:
    """Torch's own backward pass through the whole network."""

    def __init__(self, calling: Calling) -> None:
        self.calling = calling

    def forward(self, points: Points) -> "FullPass":
        """Run the network and keep torch's graph."""
        leaf = points.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            # The network gets a copy, so that one that works on its input in place does not meet a leaf of the graph.
            logits = require_gradient(self.calling.logits(leaf.clone()))
        return FullPass(leaf, logits)

    def boxes(self, targets: Int[np.ndarray, "target 2"]) -> list[Box] | None:
        """Torch's graph does not say."""
        return None


class FullPass:
    """Torch's graph of a forward pass."""

    def __init__(self, leaf: Tensor, logits: Tensor) -> None:
        self.leaf, self.logits = leaf, logits

    def gradient(self, seeds: Seeds) -> Gradient:
        """Return the gradient over the whole image."""
        start = torch.zeros_like(self.logits)
        start[:, 0, seeds.rows, seeds.columns] = seeds.values.to(start.dtype)
        with naming_gradient_errors():
            (gradient,) = torch.autograd.grad(self.logits, self.leaf, start, retain_graph=True, materialize_grads=True)
        return Gradient(gradient[:, 0])
