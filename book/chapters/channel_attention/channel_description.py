"""What a channel attention reads: the maps that come to it, and what is left of each map.

maps         [image, channel, height, width]   behind the last normalisation of a block, before the residual sum
description  [image, channel]                  one number a channel: its mean (SE), or one component (FANet)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.frequency.dct import dct2, require_size


def attention_maps(network: nn.Module, images: Float[Tensor, "image _ _ _"]) -> list[Float[Tensor, "image _ _ _"]]:
    """Return the maps that reach the attention of each block, in the order of the blocks, without gradients.

    A block's attention is its submodule called `attention`, as in `emseg.frequency.resnet`.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0].detach().clone(memory_format=torch.contiguous_format))

    layers = [module for name, module in network.named_modules() if name.split(".")[-1] == "attention"]
    if not layers:
        raise UsageError("`network` must have blocks with a submodule `attention`; use emseg.frequency.resnet.ResNet.")
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def mean_spectrum(maps: Float[Tensor, "image channel height width"]) -> Float[Tensor, "height width"]:
    """Return the share of each frequency in the maps' variance: orthonormal components, squared; (0, 0) counts as 0."""
    power = dct2(maps.to(torch.float64), normalization="ortho").square().mean(dim=(0, 1))
    power[0, 0] = 0.0
    return power / power.sum().clamp(min=torch.finfo(torch.float64).tiny)


def maps_of_one_mean(size: int) -> dict[str, Float[Tensor, "size size"]]:
    """Return four drawings of maps, all with the mean one half, that differ in where they are bright."""
    place = (torch.arange(require_size(size), dtype=torch.float64) + 0.5) / size
    down, across = place[:, None].expand(size, size), place[None, :].expand(size, size)
    band = 0.5 * torch.exp(-(((down - across) / 0.12) ** 2))
    return {
        "even": torch.full((size, size), 0.5, dtype=torch.float64),
        "brighter to the left": 1.0 - across,
        "a fold across": band - band.mean() + 0.5,
        "stripes": 0.5 + 0.5 * torch.cos(6 * torch.pi * down),
    }
