"""Gradients of operations that change the number of pixels: upsampling, bilinear resizing, maxima of windows.

The window of the input is where the window of the output was taken from. Of a pooling, the places of the maxima are
kept; resizing keeps nothing but its own two matrices.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from emseg.attribution.passes import Box
from emseg.attribution.window_rule import Axis, Rule, reach_of, rows_and_columns

aten = torch.ops.aten


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
        return [reach_of(self.axes, box)]

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
