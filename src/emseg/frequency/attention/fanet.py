"""FANet's channel attention: one frequency of the full-resolution map for each channel group.

    F   = Eq. 5: concat over i of the component (h_i, w_i) of channel part i      `emseg.frequency.pooling.dct_pool`
    att = sigmoid(fc(F))                                                          (Eq. 6)
    x'  = att x

What the paper leaves open, and what stands here unless you say otherwise:

    normalization="mean"   The paper drops the constants. Divided by H W, the component (0, 0) is the mean that SENet
                           pools, at every size of the map, so that SENet is the case of the one frequency (0, 0).
    indexing="raw"         Eq. 4 as printed: h half periods down the map. Section 4.3 speaks of a 7 x 7 division of the
                           DCT space, which could mean FcaNet's scaled index ("scaled"); on large maps that is another,
                           much higher frequency.
    layers=2               Eq. 6 writes one `fc`. SENet and FcaNet, which the paper builds on, mean two layers by it,
                           with a hidden layer `reduction` times narrower. One layer (1) of C x C weights has
                           reduction / 2 times as many; comparisons at equal parameters need two.

Source: Sun et al. 2021 (FANet), section 3.2, Eqs. 4 to 6, Table 1.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from emseg.frequency.attention.gate import gate_layers, scale_channels
from emseg.frequency.dct import TOP16, Indexing, Normalization, forward_weight, resolve_frequencies
from emseg.frequency.pooling import dct_pool, require_groups

# Pairs are checked when the layer is made, against a map larger than any; against the map itself when it is read.
LARGEST_MAP = 2**20


class FanetAttention(nn.Module):
    """FANet's channel attention; no parameter or buffer depends on the size of the map."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        frequencies: Sequence[tuple[int, int]] = TOP16,
        normalization: Normalization = "mean",
        indexing: Indexing = "raw",
        layers: int = 2,
    ) -> None:
        super().__init__()
        forward_weight(1, normalization)
        resolve_frequencies(frequencies, LARGEST_MAP, LARGEST_MAP, indexing)
        self.frequencies = tuple((h, w) for h, w in frequencies)
        require_groups(channels, len(self.frequencies))
        self.normalization: Normalization = normalization
        self.indexing: Indexing = indexing
        self.fc = gate_layers(channels, reduction, layers)

    def describe(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
        """Return F of Eq. 5, what the attention knows of each channel."""
        return dct_pool(x, self.frequencies, normalization=self.normalization, indexing=self.indexing)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Return the weighted feature map."""
        return scale_channels(x, self.fc(self.describe(x)))

    def extra_repr(self) -> str:
        """Return what the printed module says of itself."""
        return f"{len(self.frequencies)} frequencies, normalization={self.normalization!r}, indexing={self.indexing!r}"
