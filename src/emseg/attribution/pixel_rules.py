"""Gradients of operations that leave every pixel in its place: factors, rectifiers, sums, joined channels, products.

The window of the input is that of the output. A batch normalisation in evaluation mode is one factor a channel; of a
rectifier its output is kept, of a product the factors, of a smooth function its derivative once it is needed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emseg.attribution.passes import Box
from emseg.attribution.window_rule import Rule, require_unchanged, rows_and_columns

aten = torch.ops.aten


class ChannelFactor(Rule):
    """Batch normalisation in evaluation mode."""

    def __init__(self, factor: Tensor, variance: Tensor) -> None:
        # the running variance tells one normalisation from another
        self.factor, self.variance = factor, variance

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


class Elementwise(Rule):
    """A function of each value alone, such as sigmoid: its derivative at the input, computed when first needed."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.function, self.x, self.version = function, x, x._version
        self.derivative: Tensor | None = None
        self.saved = (x, x)  # and the derivative, of the same size

    def pull(self, values: Tensor, box: Box) -> list[Tensor | None]:
        """Return the window times the derivative."""
        if self.derivative is None:
            require_unchanged([self.x], [self.version])
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
        require_unchanged(self.saved, self.versions)
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
