"""Calling a network on batches of tiles, and refusing answers that do not fit.

A network is a torch module or any function from a batch [tile, channel, row, column] of float32 to one
[tile, class, row, column] of the same height and width. A module is put into evaluation mode for the time of the
prediction, for batch normalisation in training mode would let every tile depend on its batch.

    tiles = (pixels - mean) / scale          on the device, so that 8-bit pixels travel as 8 bits
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.errors import InputError, UsageError, suggest
from emseg.tiling.reading import Band

Tiles = Float[Tensor, "tile channel row column"]
Network = nn.Module | Callable[[Tiles], Tiles]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Calling:
    """On which device, in which precision and on which scale a network sees its tiles."""

    device: torch.device
    precision: Precision = "float32"
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            allowed = get_args(Precision)
            raise UsageError(
                f"`precision` must be one of {', '.join(allowed)}; got {self.precision!r}."
                + suggest(str(self.precision), allowed)
            )
        if not (np.isfinite(self.mean) and np.isfinite(self.scale) and self.scale > 0):
            raise UsageError(
                f"`mean` must be finite and `scale` finite and positive; got mean={self.mean}, scale={self.scale}."
            )


def device_of(network: Network, device: str | torch.device | None) -> torch.device:
    """Return where the tiles go: the module's own device, or for a function the `device` asked for, or the CPU."""
    asked = None if device is None else torch.device(device)
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    if first is None:
        return asked or torch.device("cpu")
    if asked is not None and (asked.type != first.device.type or asked.index not in (None, first.device.index)):
        raise UsageError(
            f"The network's weights are on {first.device}, but `device` is {asked}. "
            f"Move them with network.to({str(asked)!r})."
        )
    return first.device


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Put a module into evaluation mode, without gradients; afterwards each of its parts is as it was."""
    training = [part for part in network.modules() if part.training] if isinstance(network, nn.Module) else []
    if isinstance(network, nn.Module):
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


def call_network(network: Network, tiles: Band, calling: Calling) -> Tiles:
    """Return what the network makes of a batch of tiles, on its device, checked for its shape."""
    pixels = torch.from_numpy(tiles)
    if calling.device.type == "cuda":
        pixels = pixels.pin_memory()
    x = pixels.to(calling.device, non_blocking=True).to(torch.float32)
    if (calling.mean, calling.scale) != (0.0, 1.0):
        x = (x - calling.mean) / calling.scale
    half = calling.precision != "float32"
    with torch.autocast(calling.device.type, getattr(torch, calling.precision)) if half else nullcontext():
        answer = network(x)
    return _require_shape(answer, tiles.shape)


def _require_shape(answer: object, asked: tuple[int, ...]) -> Tiles:
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if not isinstance(answer, Tensor):
        raise InputError(
            f"The network must return one tensor [tile, class, row, column]; got {type(answer).__name__}. "
            "Wrap it in a function that picks the map, for example lambda x: network(x)[0]."
        )
    n, _, height, width = asked
    if (
        answer.ndim != 4
        or len(answer) != n
        or tuple(answer.shape[2:]) != (height, width)
        or not answer.is_floating_point()
    ):
        raise InputError(
            f"The network must return floating-point numbers of shape [{n}, class, {height}, {width}] for tiles of "
            f"shape {list(asked)}; got {answer.dtype} of shape {list(answer.shape)}. It may need tiles divisible by "
            "its stride (`multiple`), a layer that keeps the size, or an added axis for its one class."
        )
    return answer
