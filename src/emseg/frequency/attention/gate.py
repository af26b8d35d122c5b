"""From one number a channel to one factor a channel: the learned half that SE, FcaNet and FANet have in common.

    a     = sigmoid(W2 relu(W1 F))      two layers, W1 [channels / reduction, channels], W2 back (SENet, FcaNet)
    a     = sigmoid(W F)                one layer, W [channels, channels]
    x'_c  = a_c x_c                     the factors weight the feature map

    F, a   [batch, channel]   what was pooled from each channel; the factors, between 0 and 1

None of the layers has a bias, as in FcaNet's code. SENet's authors found that on ResNets removing the biases helps the
layer to model how channels depend on one another.

Source: Hu et al. 2018 (SENet), section 3 and section 6 for the biases; Qin et al. 2021 (FcaNet), code.
"""

from jaxtyping import Float
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.frequency.dct import require_size


def require_reduction(channels: int, reduction: int) -> int:
    """Return the width of the hidden layer, or raise `UsageError` unless it has at least one unit."""
    channels, reduction = require_size(channels, "channels"), require_size(reduction, "reduction")
    if channels < reduction:
        raise UsageError(
            f"`reduction` must not exceed the number of channels, or no hidden unit is left; "
            f"got {channels} channels and reduction={reduction}. Use reduction={channels} or less."
        )
    return channels // reduction


def gate_layers(channels: int, reduction: int = 16, layers: int = 2) -> nn.Sequential:
    """Return the layers that turn F into the factors; `reduction` is that of two layers.

    The weights keep the names of FcaNet's code (`fc.0.weight`, `fc.2.weight`) when the result is called `fc`.
    """
    if layers == 2:
        hidden = require_reduction(channels, reduction)
        return nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )
    if layers == 1:
        return nn.Sequential(nn.Linear(require_size(channels, "channels"), channels, bias=False), nn.Sigmoid())
    raise UsageError(f"`layers` must be 1 or 2; got {layers!r}. SENet and FcaNet have 2.")


def scale_channels(
    x: Float[Tensor, "batch channel height width"], factors: Float[Tensor, "batch channel"]
) -> Float[Tensor, "batch channel height width"]:
    """Return the feature map with each channel multiplied by its factor."""
    return x * factors[:, :, None, None]
