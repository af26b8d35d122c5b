"""How far a network can look, by its layers, and how far it does look, by its gradients.

The theoretical receptive field of an output pixel t is the set of input pixels p from which a path leads to it. It is
read off the support of a gradient: with positive weights, a positive input, averages in place of maxima and no
rectifier that is off, no path can cancel another, so

    p belongs to the field of t   if and only if   d y_t / d x_p != 0        (in float64)

A field reaches differently far for each place of t within the network's stride, so each place is tried, on strips that
are as narrow as the stride. The effective receptive field is the mean of |d y_t / d x_p| or of its square over real
images and targets, each shifted so that its target lies in the middle.

Source: Luo, Li, Urtasun, Zemel: Understanding the effective receptive field in deep convolutional networks, NeurIPS
2016. Deviation: they propagate random gradients; the mean here is over images and targets, as the network is used.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from emseg.errors import InputError, UsageError

FIRST_LENGTH_PX = 256
LONGEST_PX = 4096
_MAX_POOLS = (functional.max_pool2d, torch.max_pool2d, functional.max_pool2d_with_indices)
_MEAN_POOLS: dict[Any, Any] = {functional.adaptive_max_pool2d: functional.adaptive_avg_pool2d}


@dataclass(frozen=True)
class ReceptiveField:
    """How many pixels beyond its own an output pixel sees up, down, left and right, at most; None: all there are."""

    up: int | None
    down: int | None
    left: int | None
    right: int | None

    @property
    def is_global(self) -> bool:
        """Whether the network sees the whole image, however large."""
        return None in (self.up, self.down, self.left, self.right)

    @property
    def height(self) -> int | None:
        """Rows of the field, its own included; None where it has no end."""
        return None if self.up is None or self.down is None else self.up + 1 + self.down

    @property
    def width(self) -> int | None:
        """Columns of the field, its own included; None where it has no end."""
        return None if self.left is None or self.right is None else self.left + 1 + self.right

    @property
    def reach(self) -> int | None:
        """The largest of the four distances; None where one has no end."""
        distances = (self.up, self.down, self.left, self.right)
        return None if self.is_global else max(distance for distance in distances if distance is not None)

    def area_nm2(self, pixel_size_nm: float, height: int, width: int) -> float:
        """Return the field's area in nm^2 within an image of `height` x `width` pixels."""
        rows = height if self.height is None else min(self.height, height)
        columns = width if self.width is None else min(self.width, width)
        return float(rows * columns * pixel_size_nm**2)


def theoretical_receptive_field(network: nn.Module, *, stride: int = 32, n_channels: int = 1) -> ReceptiveField:
    """Return the receptive field of an output pixel, the largest over all places within `stride`.

    `stride` must be a multiple of the network's own (32 suits encoders of five halvings). The network's weights play no
    part and stay as they are. A side that still reaches the border of 4096 pixels is None: the network pools globally.
    Raises `UsageError` for a network that answers with another size than it was given.
    """
    if stride < 1:
        raise UsageError(f"`stride` must be at least 1; got {stride}. Give the network's largest downsampling factor.")
    positive = _positive_copy(network)
    up, down = _reach_along(positive, 2, stride, n_channels)
    left, right = _reach_along(positive, 3, stride, n_channels)
    return ReceptiveField(up, down, left, right)


def _reach_along(network: nn.Module, axis: int, stride: int, n_channels: int) -> tuple[int | None, int | None]:
    """Return how far the field reaches before and after the target along one axis."""
    length = max(FIRST_LENGTH_PX, 8 * stride)
    length = -(-length // stride) * stride
    while True:
        before, after = _reach_in_strip(network, axis, length, stride, n_channels)
        if before is not None and after is not None:
            return before, after
        if 2 * length > max(LONGEST_PX, 8 * stride):
            return before, after
        length *= 2


def _reach_in_strip(
    network: nn.Module, axis: int, length: int, stride: int, n_channels: int
) -> tuple[int | None, int | None]:
    """Return the reach along a strip `length` long; None where the field touches the strip's end."""
    shape = [1, n_channels, stride, stride]
    shape[axis] = length
    generator = torch.Generator().manual_seed(0)
    strip = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    try:
        with _AveragesForMaxima():
            answer = network(strip)
    except RuntimeError as error:
        raise UsageError(
            f"a receptive field needs an output of the input's size; a strip of {tuple(strip.shape)} could not be "
            f"computed ({error}). Use a network that answers pixel by pixel, or a larger `stride`."
        ) from error
    if not isinstance(answer, Tensor) or answer.shape[-2:] != strip.shape[-2:]:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UsageError(
            f"a receptive field needs an output of the input's size; {tuple(strip.shape)} gave {got}. "
            "Use a network that answers pixel by pixel, or a `stride` that it divides."
        )
    first = length // stride // 2 * stride
    before: list[int | None] = []
    after: list[int | None] = []
    for place in range(first, first + stride):
        line = answer.select(axis, place).sum()
        (gradient,) = torch.autograd.grad(line, strip, retain_graph=True)
        other_axes = tuple(a for a in range(4) if a != axis)
        seen = torch.nonzero((gradient != 0).sum(dim=other_axes)).flatten()
        if not len(seen):
            raise UsageError("a receptive field needs a gradient; the network's output does not depend on its input.")
        low, high = int(seen[0]), int(seen[-1])
        before.append(None if low == 0 else place - low)
        after.append(None if high == length - 1 else high - place)
    return _largest(before), _largest(after)


def _largest(distances: Sequence[int | None]) -> int | None:
    known = [distance for distance in distances if distance is not None]
    return max(0, *known) if len(known) == len(distances) else None


def _positive_copy(network: nn.Module) -> nn.Module:
    """Return a float64 copy in evaluation mode whose weights are positive and keep activations near 1."""
    positive = copy.deepcopy(network).to(device="cpu", dtype=torch.float64).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in positive.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.zero_()
                module.running_var.fill_(1.0)
        for parameter in positive.parameters():
            draws = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
            per_output = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(draws / per_output)
        for buffer in positive.buffers():
            if buffer.is_floating_point():  # fixed cosines of frequency attention: their signs could cancel
                buffer.abs_()
    return positive


class _AveragesForMaxima(TorchFunctionMode):
    """While active, max pooling takes the mean instead, so that a gradient passes to every pixel of its window."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or its averaging counterpart."""
        arguments = kwargs or {}
        if func in _MEAN_POOLS:
            return _MEAN_POOLS[func](*args[:2])
        if func in _MAX_POOLS:
            names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
            given = {**dict(zip(names, args, strict=False)), **arguments}
            if given.get("dilation", 1) not in (1, (1, 1)) or given.get("return_indices", False):
                raise UsageError(
                    "the receptive field of max pooling with dilation or with indices is not defined here. "
                    "Read it off the layers by hand."
                )
            return functional.avg_pool2d(
                given["input"],
                given["kernel_size"],
                given.get("stride") or given["kernel_size"],
                given.get("padding", 0),
                bool(given.get("ceil_mode", False)),
            )
        return func(*args, **arguments)


@dataclass(frozen=True)
class EffectiveField:
    """Mean gradient about the target: `weight` [2 reach + 1, 2 reach + 1], the target in the middle, over `n` pairs."""

    weight: Float64[np.ndarray, "row column"]
    power: int
    n: int

    @property
    def reach(self) -> int:
        """Pixels from the target to the border of `weight`."""
        return (len(self.weight) - 1) // 2


def effective_receptive_field(gradients: Any, targets: Any, reach: int, *, power: Literal[1, 2] = 2) -> EffectiveField:
    """Return the mean of |gradient| to the `power` about the targets, within `reach` pixels of them.

    `gradients` [target, row, column] are the derivatives of each target's logit (method "saliency" of
    `attribute_with_captum`), `targets` [target, 2] their (row, column). What lies outside the image counts as nothing
    and is left out of the mean there. Raises `InputError` for gradients that are not finite or all zero.
    """
    maps = np.asarray(gradients, dtype=np.float64)
    places = np.asarray(targets)
    if maps.ndim != 3 or places.shape != (len(maps), 2):
        raise UsageError(
            f"gradients [target, row, column] need targets [target, 2]; got {maps.shape} and {places.shape}."
        )
    if reach < 1 or power not in (1, 2):
        raise UsageError(f"`reach` must be at least 1 and `power` 1 or 2; got reach={reach}, power={power}.")
    if not len(maps) or not np.isfinite(maps).all() or not maps.any():
        raise InputError("gradients must be finite and not all zero. Check the network for NaN or dead layers.")
    side = 2 * reach + 1
    total, seen = np.zeros((side, side)), np.zeros((side, side))
    height, width = maps.shape[1:]
    for one, (row, column) in zip(np.abs(maps) ** power, places, strict=True):
        top, left = max(0, reach - row), max(0, reach - column)
        bottom, right = min(side, height + reach - row), min(side, width + reach - column)
        total[top:bottom, left:right] += one[
            row - reach + top : row - reach + bottom, column - reach + left : column - reach + right
        ]
        seen[top:bottom, left:right] += 1
    return EffectiveField(np.divide(total, seen, out=np.zeros_like(total), where=seen > 0), power, len(maps))
