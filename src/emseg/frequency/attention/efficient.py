"""Efficient channel attention: each channel is weighted by the means of its nearest channels, with k weights in all.

    F = GAP(x),    x' = sigmoid(conv_k(F)) x,    k = |log2(C) / 2 + 1 / 2|_odd

    conv_k   one-dimensional convolution along the channels, k weights shared by all channels, no bias
    k        3 for 16 to 127 channels, 5 from 128, 7 from 2048

Source: Wang et al. 2020 (ECA-Net), Eq. 12 with gamma = 2, b = 1. The odd number is taken as their code does: cut to a
whole number, then up by one if even.
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.frequency.attention.gate import scale_channels
from emseg.frequency.dct import require_size


def adaptive_kernel_size(channels: int) -> int:
    """Return k, the odd number of neighbouring channels that ECA-Net looks at."""
    size = int((math.log2(require_size(channels, "channels")) + 1) / 2)
    return size if size % 2 else size + 1


class EfficientChannelAttention(nn.Module):
    """ECA-Net's channel attention; `kernel_size` defaults to `adaptive_kernel_size(channels)`."""

    def __init__(self, channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__()
        size = adaptive_kernel_size(channels) if kernel_size is None else require_size(kernel_size, "kernel_size")
        if size % 2 == 0:
            raise UsageError(
                f"`kernel_size` must be odd, so that it has a middle; got {size}. Use {size - 1} or {size + 1}."
            )
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Return the weighted feature map."""
        means = x.mean(dim=(2, 3))
        return scale_channels(x, self.conv(means[:, None])[:, 0].sigmoid())
