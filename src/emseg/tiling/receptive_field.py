"""Which input pixels an output pixel can depend on: for the halo of tiles and for the window of an attribution.

The theoretical receptive field of an output pixel t is the set of input pixels p that a path connects to it. It is the
support of a gradient: with positive weights, a positive input, averages instead of maxima and no rectifier that is
off, no path can cancel another, so

    p belongs to the field of t   if and only if   d y_t / d x_p != 0        (in float64)

The extent depends on the position of t within the network's stride, so each position is tried, on strips that are only
as wide as the stride. A trained network uses a small part of its theoretical field.

Source: Araujo, Norris and Sim 2019 (Computing receptive fields of convolutional neural networks) for the notion.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from emseg.errors import UsageError

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
        """Rows of the field, its own included; None if it is unbounded."""
        return None if self.up is None or self.down is None else self.up + 1 + self.down

    @property
    def width(self) -> int | None:
        """Columns of the field, its own included; None if it is unbounded."""
        return None if self.left is None or self.right is None else self.left + 1 + self.right

    @property
    def reach(self) -> int | None:
        """The largest of the four distances, which a tile's halo must cover; None if one is unbounded."""
        distances = (self.up, self.down, self.left, self.right)
        return None if self.is_global else max(distance for distance in distances if distance is not None)

    def area_nm2(self, pixel_size_nm: float, height: int, width: int) -> float:
        """Return the field's area in nm^2 within an image of `height` x `width` pixels."""
        rows = height if self.height is None else min(self.height, height)
        columns = width if self.width is None else min(self.width, width)
        return float(rows * columns * pixel_size_nm**2)


GLOBAL_FIELD = ReceptiveField(None, None, None, None)


def theoretical_receptive_field(network: nn.Module, *, stride: int = 32, n_channels: int = 1) -> ReceptiveField:
    """Return the receptive field of an output pixel, the largest over all positions within `stride`.

    `stride` must be a multiple of the network's own (32 suits encoders of five halvings). The network's weights are
    neither used nor changed. A side that still reaches the border of 4096 pixels is None: the network pools globally.
    Raises `UsageError` for a network whose output has another size than its input.
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
        is_longest = 2 * length > max(LONGEST_PX, 8 * stride)
        before, after = _reach_in_strip(network, axis, length, stride, n_channels, measure_all=is_longest)
        if is_longest or (before is not None and after is not None):
            return before, after
        length *= 2


def _reach_in_strip(
    network: nn.Module, axis: int, length: int, stride: int, n_channels: int, *, measure_all: bool
) -> tuple[int | None, int | None]:
    """Return the reach along a strip `length` long; None where the field touches the strip's end.

    Unless `measure_all`, the first position that touches an end is the last one tried: a longer strip follows.
    """
    shape = [1, n_channels, stride, stride]
    shape[axis] = length
    generator = torch.Generator().manual_seed(0)
    strip = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    output = _output_of(network, strip)
    first = length // stride // 2 * stride
    before: int | None = 0
    after: int | None = 0
    for position in range(first, first + stride):
        line = output.select(axis, position).sum()
        (gradient,) = torch.autograd.grad(line, strip, retain_graph=True)
        other_axes = tuple(a for a in range(4) if a != axis)
        seen = torch.nonzero((gradient != 0).sum(dim=other_axes)).flatten()
        if not len(seen):
            raise UsageError("a receptive field needs a gradient; the network's output does not depend on its input.")
        low, high = int(seen[0]), int(seen[-1])
        before = None if low == 0 or before is None else max(before, position - low)
        after = None if high == length - 1 or after is None else max(after, high - position)
        if (before is None and after is None) or (None in (before, after) and not measure_all):
            break
    return before, after


def _output_of(network: nn.Module, strip: Tensor) -> Tensor:
    """Return the network's output, with averages instead of maxima, checked to have the strip's size."""
    try:
        with _AveragesForMaxima():
            output = network(strip)
    except RuntimeError as error:
        raise UsageError(
            f"a receptive field needs an output of the input's size; a strip of {tuple(strip.shape)} could not be "
            f"computed ({error}). Use a network with an output for every pixel, or a larger `stride`."
        ) from error
    if not isinstance(output, Tensor) or output.shape[-2:] != strip.shape[-2:]:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"a receptive field needs an output of the input's size; {tuple(strip.shape)} gave {got}. "
            "Use a network with an output for every pixel, or a `stride` that it divides."
        )
    return output


def _positive_copy(network: nn.Module) -> nn.Module:
    """Return a float64 copy in evaluation mode whose weights are positive and keep activations near 1."""
    positive = copy.deepcopy(network).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
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
                    "Derive it from the layers by hand."
                )
            return functional.avg_pool2d(
                given["input"],
                given["kernel_size"],
                given.get("stride") or given["kernel_size"],
                given.get("padding", 0),
                bool(given.get("ceil_mode", False)),
            )
        return func(*args, **arguments)
