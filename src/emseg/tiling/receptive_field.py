"""Which input pixels an output pixel can depend on: for the halo of tiles and the window of an attribution.

NaN goes everywhere the value propagates, through weights of zero and rectifiers that are off as well. So the network
is run on strips whose ends are NaN, and the outputs that stay finite depend on the finite middle alone:

    columns    NaN  c ... clean ... e  NaN        input
    outputs    NaN    a ... finite ... b  NaN     left = a - c,  right = e - b

The distances repeat with the network's stride. `theoretical_receptive_field` takes the largest over its positions;
`measure_dependence` those of windows that begin and end on multiples of the stride, and finds the stride: the smallest
shift of the input that shifts the output. A network that pools over the whole map leaves nothing finite.

Source: Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks", for the notion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.tiling.inference import device_of, evaluating

LONGEST_PX = 4096
_FIRST_PX = 256
_NAN_PX = 64
_ALIGNED_PX = 32
_AT_ONCE = 4
Network = nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReceptiveField:
    """How many pixels beyond its own an output pixel sees up, down, left and right, at most; None: all there are."""

    up: int | None
    down: int | None
    left: int | None
    right: int | None

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
        distances = [one for one in (self.up, self.down, self.left, self.right) if one is not None]
        return max(distances) if len(distances) == 4 else None

    def area_nm2(self, pixel_size_nm: float, height: int, width: int) -> float:
        """Return the field's area in nm^2 within an image of `height` x `width` pixels."""
        return float(min(self.height or height, height) * min(self.width or width, width) * pixel_size_nm**2)


GLOBAL_FIELD = ReceptiveField(None, None, None, None)


@dataclass(frozen=True)
class Dependence:
    """Pixels that a window needs `before` (rows, columns) and `after` a target, its edges on multiples of `stride`."""

    before: tuple[int, int]
    after: tuple[int, int]
    stride: int

    def window(self, target: Any, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of the smallest window on the grid that gives the target its logit."""
        sides: list[int] = []
        for place, before, after, side in zip(target, self.before, self.after, shape, strict=True):
            first = max(0, (int(place) - before) // self.stride * self.stride)
            sides += [first, min(side, -(-(int(place) + after + 1) // self.stride) * self.stride)]
        return sides[0], sides[1], sides[2], sides[3]


def theoretical_receptive_field(network: Network, *, stride: int = 32) -> ReceptiveField:
    """Return the receptive field of an output pixel, the largest over all places within `stride`.

    `stride` must be a multiple of the network's own (32 suits encoders of five halvings). The network's weights play no
    part and stay as they are. A side that still reaches the border of 4096 pixels is None: the network pools globally.
    Raises `UsageError` for a network that answers with another size than it was given.
    """
    require_count("stride", stride)
    sides: list[int | None] = []
    for axis in (2, 3):
        found, length = None, -(-max(_FIRST_PX, 8 * stride) // stride) * stride
        while found is None and length <= max(LONGEST_PX, 8 * stride):
            found = _distances(network, axis, length, stride, range(stride))
            length *= 2
        sides += found or [None, None]
    return ReceptiveField(*sides)


def measure_dependence(network: Network, longest_px: int, n_channels: int = 1) -> Dependence | None:
    """Return what windows of a network need; None where more than `longest_px`, or unknown."""
    before, after, length = [], [], _FIRST_PX
    try:
        for axis in (2, 3):
            found = None
            while found is None and length <= max(longest_px, _FIRST_PX):
                found = _distances(network, axis, length, _ALIGNED_PX, (0,), n_channels)
                length = 2 * length if found is None else length
            if found is None:
                return None
            before.append(found[0])
            after.append(found[1])
        stride = _stride(network, length, max(before) + _ALIGNED_PX, max(after) + _ALIGNED_PX, n_channels)
    except Exception:  # a network that refuses strips, by whatever it raises, or NaN
        return None
    return None if stride is None else Dependence((before[0], before[1]), (after[0], after[1]), stride)


def _distances(
    network: Network, axis: int, length: int, side: int, offsets: Sequence[int], n_channels: int = 1
) -> list[int] | None:
    """Return `left` and `right` of the top of this file, the largest over offsets; None where nothing stays finite."""
    edge = -(-_NAN_PX // side) * side
    largest = [0, 0]
    for start in range(0, len(offsets), _AT_ONCE):
        group = offsets[start : start + _AT_ONCE]
        shape = [len(group), n_channels, side, side]
        shape[axis] = length
        strips = torch.zeros(shape)
        for strip, offset in zip(strips, group, strict=True):
            along = strip.movedim(axis - 1, 0)
            along[: edge + offset] = torch.nan
            along[length - edge + offset :] = torch.nan
        lost = _run(network, strips).isnan().any(dim=1).any(dim=5 - axis - 1)
        for one, offset in zip(lost, group, strict=True):
            places = torch.nonzero(one).flatten()
            if not len(places):
                raise UsageError("a receptive field needs an output that depends on the input; this one does not.")
            gaps = places.diff()
            if not len(gaps) or int(gaps.max()) < 2:
                return None
            widest = int(gaps.argmax())
            first, stop = int(places[widest]) + 1, int(places[widest + 1])
            largest = [max(largest[0], first - edge - offset), max(largest[1], length - edge + offset - stop)]
    return largest


def _stride(network: Network, length: int, before: int, after: int, n_channels: int) -> int | None:
    """Return the smallest power of two by which a window may be shifted without a change; None where 32 changes it."""
    known = getattr(network, "stride", 1)
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, n_channels, 32, length), (1, n_channels, length, 32))
    strips = [torch.randn(shape, generator=generator) for shape in shapes]
    wholes = [_run(network, strip).movedim(axis, 0) for strip, axis in zip(strips, (3, 2), strict=True)]

    def changes(shift: int) -> bool:
        for strip, whole, axis in zip(strips, wholes, (3, 2), strict=True):
            part = _run(network, strip.narrow(axis, shift, length - _ALIGNED_PX)).movedim(axis, 0)
            inside = slice(before, len(part) - after)
            theirs = whole[shift : shift + len(part)][inside]
            if not bool((part[inside] - theirs).abs().max() <= 1e-4 * whole.abs().max()):
                return True
        return False

    shift = known if isinstance(known, int) else 1
    while shift <= _ALIGNED_PX and changes(shift):
        shift *= 2
    return shift if shift <= _ALIGNED_PX else None


def _run(network: Network, strips: Tensor) -> Tensor:
    """Return the network's outputs on the CPU, of the input's size."""
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    points = strips.to(device_of(network, None), torch.float32 if first is None else first.dtype)
    needs = "a receptive field needs an output of the input's size;"
    try:
        with evaluating(network):
            answer = network(points)
    except RuntimeError as error:
        raise UsageError(
            f"{needs} a strip of {tuple(strips.shape)} could not be computed ({error}). "
            "Use a network that answers pixel by pixel, or a larger `stride`."
        ) from error
    if not isinstance(answer, Tensor) or answer.ndim != 4 or answer.shape[-2:] != strips.shape[-2:]:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UsageError(
            f"{needs} {tuple(strips.shape)} gave {got}. "
            "Use a network that answers pixel by pixel, or a `stride` that it divides."
        )
    return answer.float().cpu()
