"""Backward passes that leave out what cannot differ from zero.

A pixel's logit depends on a few pixels of the last layers' maps, on more of those before, and on all of the small maps
in the middle of a U-Net. Torch computes its gradient on whole maps; here each map's gradient is a window that grows
from layer to layer (emseg.attribution.window_rule), so that the last layers, at full size, cost next to nothing.
The gradients are torch's own up to rounding: `differs_from_torch` compares them on the network itself.

What a pass keeps is small, too: the outputs of rectifiers and the places of maxima, nothing of what convolutions and
batch normalisations took.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emseg.attribution.laid_out import LaidOut
from emseg.attribution.memory import GraphSize, Meter, storages_of
from emseg.attribution.passes import Box, Calling, FullPasses, Gradient, Points, Seeds
from emseg.attribution.tape import Tape
from emseg.attribution.targets import require_logits
from emseg.attribution.window_rule import NotWindowedError, whole

TOLERANCE = {"fp32": 1e-4, "bf16": 0.2, "fp16": 0.1}
"""Largest relative difference (L2) from torch's gradient; half precision is compared with itself, which also rounds."""


class WindowedPass:
    """A recorded forward pass."""

    def __init__(self, calling: Calling, points: Points, laid_out: LaidOut) -> None:
        points = points.detach().clone()
        self.tape = Tape(points, laid_out)
        with torch.no_grad(), self.tape:
            answered = calling.answer(points)
        answer = require_logits(answered, points)
        self.answer = self.tape.close(answer)
        self.dtype = answer.dtype
        self.device = answer.device

    def boxes(self, row: int, column: int) -> Box:
        """Return the pixels of the image that the logit at (row, column) can depend on."""
        boxes: dict[int, Box] = {self.answer: (row, row + 1, column, column + 1)}
        for node in reversed(self.tape.nodes):
            box = boxes.pop(node.output, None)
            if box is not None:
                for value, reach in zip(node.inputs, node.rule.reach(box), strict=True):
                    boxes[value] = union(boxes[value], reach) if value in boxes else reach
        return boxes.get(0, (row, row + 1, column, column + 1))

    def gradient(self, seeds: Seeds) -> Gradient:
        """Return the gradient inside the window that it can differ from zero in."""
        top, left = min(seeds.rows), min(seeds.columns)
        box = (top, max(seeds.rows) + 1, left, max(seeds.columns) + 1)
        n_points = len(seeds.values)
        start = torch.zeros((n_points, 1, box[1] - top, box[3] - left), dtype=self.dtype, device=self.device)
        rows, columns = [row - top for row in seeds.rows], [column - left for column in seeds.columns]
        start[:, 0, rows, columns] = seeds.values.to(self.dtype)
        open_windows: dict[int, tuple[Tensor, Box]] = {self.answer: (start, box)}
        with torch.no_grad():
            for node in reversed(self.tape.nodes):
                window = open_windows.pop(node.output, None)
                if window is None:
                    continue
                for value, values, reach in zip(
                    node.inputs, node.rule.pull(*window), node.rule.reach(window[1]), strict=True
                ):
                    if values is not None:
                        other = open_windows.get(value)
                        open_windows[value] = (values, reach) if other is None else add(other, (values, reach))
        if 0 not in open_windows:
            return Gradient(torch.zeros((n_points, 1, 1), device=self.device), box[0], box[2])
        values, box = open_windows[0]
        return Gradient(values[:, 0], box[0], box[2])


class WindowedPasses:
    """Recorded forward passes of a network, whose backward passes leave out zeros."""

    def __init__(self, calling: Calling, device: torch.device) -> None:
        self.calling = calling
        self.laid_out = LaidOut(device)
        self._shape: Float[Tensor, "1 1 height width"] | None = None

    def forward(self, points: Points) -> WindowedPass:
        """Run the network and record what it does."""
        return WindowedPass(self.calling, points, self.laid_out)

    def measure(self, image: Float[Tensor, "height width"]) -> GraphSize:
        """Return the memory that one point takes."""
        graph = self.forward(image[None, None])
        meter = Meter(storages_of(self.calling.network))
        for node in graph.tape.nodes:
            for tensor in node.rule.saved:
                meter.add(tensor)
        self._latest = graph
        return GraphSize(meter.kept, max(meter.largest, graph.tape.largest))

    def boxes(self, targets: Int[np.ndarray, "target 2"]) -> list[Box] | None:
        """Return for each target the pixels that its logit can depend on."""
        return [self._latest.boxes(int(row), int(column)) for row, column in targets]


def union(one: Box, other: Box) -> Box:
    """Return the smallest box around two."""
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def add(one: tuple[Tensor, Box], other: tuple[Tensor, Box]) -> tuple[Tensor, Box]:
    """Return the sum of two windows of a gradient, in the box around both."""
    if one[1] == other[1]:
        return one[0] + other[0], one[1]
    box = union(one[1], other[1])
    if box == other[1]:
        one, other = other, one
    if box == one[1]:
        total = one[0].clone()
        parts = [other]
    else:
        shape = (*one[0].shape[:-2], box[1] - box[0], box[3] - box[2])
        total = one[0].new_zeros(shape)
        parts = [one, other]
    for values, (top, bottom, left, right) in parts:
        total[..., top - box[0] : bottom - box[0], left - box[2] : right - box[2]] += values
    return total, box


def differs_from_torch(
    calling: Calling, image: Float[Tensor, "height width"], targets: Int[np.ndarray, "target 2"]
) -> str | None:
    """Return how windows' gradients differ from torch's on this network and image, None where they do not."""
    points = image[None, None]
    try:
        windowed = WindowedPass(calling, points, LaidOut(image.device))
    except NotWindowedError as reason:
        return str(reason)
    full = FullPasses(calling).forward(points)
    for row, column in targets:
        seeds = Seeds([int(row)], [int(column)], torch.ones((1, 1), device=image.device))
        try:
            ours = torch.zeros_like(image)
            windowed.gradient(seeds).add_to(ours, np.ones(1), whole(image.shape))
        except NotWindowedError as reason:
            return str(reason)
        theirs = full.gradient(seeds).values[0]
        error = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
        if not error <= TOLERANCE[calling.precision] and bool(torch.isfinite(theirs).all()):
            return f"the gradients differ by {error:.2g} of torch's"
    return None
