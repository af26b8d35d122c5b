"""Who is compared at one place: functions of one map that pool it, or layers that attend it.

The product with stored cosines is what FcaNet's code does, here at the full size of the map: it holds cosines as large
as one image's map, and writes a product as large as the map before it sums.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from chapters.channel_attention.cost.rows import CHANNELS, Setting
from chapters.channel_attention.cost.timing import Call
from chapters.dct_derivation import stage_sizes
from emseg.frequency.attention import build_attention
from emseg.frequency.dct import TOP16, dct_basis
from emseg.frequency.pooling import dct_pool

OfMap = Callable[[Tensor], Tensor]


def stage_shape(stage: int, image_size: int, batch: int) -> tuple[int, int, int, int]:
    """Return the shape of the maps of a stage, 1 to 4, of a ResNet-50."""
    size = stage_sizes(image_size)[stage - 1]
    return batch, CHANNELS[stage - 1], size, size


def random_map(shape: tuple[int, ...], setting: Setting, generator: torch.Generator) -> Tensor:
    """Return a map of noise of this shape, in the setting's dtype and layout and on its device."""
    x = torch.randn(shape, generator=generator).to(setting.device, getattr(torch, setting.dtype))
    return x.contiguous(memory_format=torch.channels_last) if setting.layout == "channels last" else x


def contenders(setting: Setting, stage: int, x: Tensor) -> dict[str, OfMap]:
    """Return the functions that are compared on the map `x` of a stage, by name."""
    functions: dict[str, OfMap] = {}
    if setting.section == "attention":
        for name in setting.contenders:
            functions[name] = build_attention(name, x.shape[1], stage=stage).to(x.device, x.dtype)
    else:
        poolings: dict[str, OfMap] = {
            "mean": mean,
            "dct_pool": dct_pool,
            "stored cosines": partial(stored_sum, cosines=stored_cosines(x)),
        }
        functions = {name: poolings[name] for name in setting.contenders}
    if setting.mode == "compiled":
        return {name: torch.compile(function, dynamic=False) for name, function in functions.items()}
    return functions


def forward(function: OfMap, x: Tensor) -> Call:
    """Return the call of a function on a map, without gradients."""

    def call() -> Tensor:
        with torch.no_grad():
            return function(x)

    return call


def forward_and_backward(function: OfMap, x: Tensor) -> Call:
    """Return forward and backward with respect to the map; the gradient that comes back is prepared once."""
    x = x.detach().requires_grad_()
    came = torch.ones_like(function(x))
    return lambda: torch.autograd.grad(function(x), x, came)


def mean(x: Tensor) -> Tensor:
    """Return the mean of each channel."""
    return functional.adaptive_avg_pool2d(x, 1)


def stored_cosines(x: Tensor) -> Tensor:
    """Return the cosines of each channel's group, [channel, height, width], in the dtype of the map."""
    rows, columns = (
        dct_basis(size, list(frequencies), normalization="mean")
        for size, frequencies in zip(x.shape[2:], zip(*TOP16, strict=True), strict=True)
    )
    return (rows[:, :, None] * columns[:, None]).repeat_interleave(x.shape[1] // len(TOP16), dim=0).to(x)


def stored_sum(x: Tensor, cosines: Tensor) -> Tensor:
    """Return the components by way of a product as large as the map."""
    return (x * cosines).sum((2, 3))
