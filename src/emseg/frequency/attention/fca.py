"""FcaNet's channel attention: pool the map to a small square, then take one orthonormal frequency a channel group.

    z = pool(x) to n x n, if x has another size
    F = Eq. 5 of FANet on z, "ortho", index (h, w) read as (h * (n // 7), w * (n // 7))
    x' = sigmoid(W2 relu(W1 F)) x

    n   56, 28, 14, 7 by stage of the backbone: what the stages measure on an image of 224 pixels

Pooling first means that what is summed are not the map's cosines but staircases: `emseg.frequency.aliasing`.

Deviation: the cosines are not stored with the weights (FcaNet keeps a buffer `dct_layer.weight` of the size of a map);
`load_state_dict` of FcaNet's own weights therefore needs them removed.

Source: Qin et al. 2021 (FcaNet), section 3 and code.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emseg.frequency.attention.gate import gate_layers, scale_channels
from emseg.frequency.dct import TOP16, require_size, resolve_frequencies
from emseg.frequency.pooling import dct_pool, require_groups

# What FcaNet pools each stage to: the sizes of the four stages on a 224-pixel image.
FCANET_SIZES = (56, 28, 14, 7)


class FcaAttention(nn.Module):
    """FcaNet's channel attention for maps that are pooled to `pooled_size` pixels a side."""

    def __init__(
        self,
        channels: int,
        pooled_size: int,
        *,
        reduction: int = 16,
        frequencies: Sequence[tuple[int, int]] = TOP16,
    ) -> None:
        super().__init__()
        self.pooled_size = require_size(pooled_size, "pooled_size")
        resolve_frequencies(frequencies, self.pooled_size, self.pooled_size, "scaled")
        self.frequencies = tuple((h, w) for h, w in frequencies)
        require_groups(channels, len(self.frequencies))
        self.fc = gate_layers(channels, reduction)

    def describe(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
        """Return F, what the attention knows of each channel."""
        size = (self.pooled_size, self.pooled_size)
        # An exporter may leave the size open; pooling to the size that a map has leaves it as it is.
        if torch.compiler.is_exporting() or x.shape[-2:] != size:
            x = functional.adaptive_avg_pool2d(x, size)
        return dct_pool(x, self.frequencies, normalization="ortho", indexing="scaled")

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Return the weighted feature map."""
        return scale_channels(x, self.fc(self.describe(x)))

    def extra_repr(self) -> str:
        """Return what the printed module says of itself."""
        return f"pooled_size={self.pooled_size}, {len(self.frequencies)} frequencies"
