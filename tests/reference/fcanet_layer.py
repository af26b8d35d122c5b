"""FcaNet's attention layer, rederived from its paper and from what its code is known to do: filters stored as one
[channel, n, n] tensor, the map pooled to n x n when it has another size, the filtered map summed, two linear layers.
"""

from collections.abc import Sequence

import torch
from reference.dct import fcanet_filter_row
from torch import Tensor
from torch.nn import functional


def fcanet_filters(channels: int, size: int, frequencies: Sequence[tuple[int, int]]) -> Tensor:
    """The stored filters [channel, size, size] for indices of the 7 x 7 division."""
    part_size, scale = channels // len(frequencies), size // 7
    filters = torch.zeros(channels, size, size, dtype=torch.float64)
    for number, (h, w) in enumerate(frequencies):
        down, across = fcanet_filter_row(size, h * scale), fcanet_filter_row(size, w * scale)
        for row in range(size):
            for column in range(size):
                filters[number * part_size : (number + 1) * part_size, row, column] = down[row] * across[column]
    return filters


def fcanet_description(x: Tensor, size: int, frequencies: Sequence[tuple[int, int]]) -> Tensor:
    """What FcaNet's layer knows of each channel."""
    if x.shape[2] != size or x.shape[3] != size:
        x = functional.adaptive_avg_pool2d(x, (size, size))
    return (x * fcanet_filters(x.shape[1], size, frequencies)).sum(dim=(2, 3))


def fcanet_attention(
    x: Tensor, size: int, frequencies: Sequence[tuple[int, int]], squeeze: Tensor, excite: Tensor
) -> Tensor:
    """FcaNet's layer with the weights of its two linear layers."""
    hidden = (fcanet_description(x, size, frequencies) @ squeeze.T).clamp(min=0)
    factors = 1 / (1 + torch.exp(-(hidden @ excite.T)))
    return x * factors.reshape(*factors.shape, 1, 1).expand_as(x)
