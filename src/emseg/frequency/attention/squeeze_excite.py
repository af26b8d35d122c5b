"""Squeeze and excitation: each channel is weighted by what the means of all channels say.

    F = GAP(x),    x' = sigmoid(W2 relu(W1 F)) x

Deviation: no biases; see `emseg.frequency.attention.gate`.

Source: Hu et al. 2018 (SENet), section 3.
"""

from jaxtyping import Float
from torch import Tensor, nn

from emseg.frequency.attention.gate import gate_layers, scale_channels


class SqueezeExcite(nn.Module):
    """SENet's channel attention for maps of `channels` channels; `reduction` = 16 is the paper's."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.fc = gate_layers(channels, reduction)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """Return the weighted feature map."""
        return scale_channels(x, self.fc(x.mean(dim=(2, 3))))
