"""What the normalisation of the coefficients does to a channel-attention layer: range in half precision, gates at the
start.

The paper drops the constants of Eq. 1 with the remark that this "has no effect on the results". Written out, a learned
layer could absorb any constant. Two things may go wrong before it has learned to:

    range    under "none", f_00 = H W GAP(x); float16 ends at 65,504, so at 256 x 256 it overflows once GAP(x) > 0.9995
    gates    att = sigmoid(fc(F)), Eq. 6: where |fc(F)| is large the sigmoid is flat, and no gradient reaches fc

    F      [map batch, channels]   coefficients, each channel with its frequency
    gates  [map batch, channels]   sigmoid(W2 relu(W1 F)), W1 [channels / 16, channels], W2 back, no bias (FcaNet)

Source: FANet, Eqs. 3 and 6; FcaNet's code for the layer. The random weights are torch's default for a linear layer.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from emseg.errors import InputError
from emseg.frequency.dct import TOP16, Normalization, dct_basis, dct_coefficients

REDUCTION = 16
# A gate whose slope is under a thousandth of the sigmoid's steepest slope, 1/4, has stopped learning.
DEAD_SLOPE = 0.25e-3


@dataclass(frozen=True)
class GateStart:
    """The gates of one normalisation before training."""

    normalization: str
    largest_input: float
    overflow_share: float
    dead_share: float
    spread: float
    gates: Float[Tensor, "group channel"]


def largest_mean_in_half(height: int, width: int, normalization: Normalization) -> float:
    """Return the largest GAP(x) whose coefficient f_00 is finite in float16, on a map of height x width."""
    per_mean = float(
        dct_basis(height, [0], normalization=normalization).sum()
        * dct_basis(width, [0], normalization=normalization).sum()
    )
    return torch.finfo(torch.float16).max / per_mean


def gate_starts(
    maps: Float[Tensor, "map height width"], generator: torch.Generator, n_channels: int = 256
) -> dict[str, GateStart]:
    """Return the gates that a fresh attention layer gives for these maps, one entry for each normalisation.

    Each map yields its 16 coefficients of Table 1; groups of `n_channels` of them make the input of one layer, the
    same random weights under every normalisation. `overflow_share` is the share of coefficients that are infinite in
    float16, `dead_share` that of gates with a slope under `DEAD_SLOPE`, `spread` the standard deviation of a gate
    over the groups.
    """
    groups = maps.shape[0] * len(TOP16) // n_channels
    if groups < 2 or n_channels % REDUCTION:
        raise InputError(
            f"`n_channels` must be a multiple of {REDUCTION}, and `maps` must fill two groups of them, {len(TOP16)} "
            f"coefficients a map; got {n_channels} channels and {maps.shape[0]} maps. Use more maps or fewer channels."
        )
    hidden = n_channels // REDUCTION
    squeeze = (2 * torch.rand(hidden, n_channels, generator=generator) - 1) / n_channels**0.5
    excite = (2 * torch.rand(n_channels, hidden, generator=generator) - 1) / hidden**0.5
    starts = {}
    for normalization in get_args(Normalization):
        values = dct_coefficients(maps.to(torch.float32), normalization=normalization)
        layer_input = values.flatten()[: groups * n_channels].reshape(groups, n_channels)
        gates = torch.sigmoid((layer_input @ squeeze.mT).clamp(min=0) @ excite.mT)
        slope = gates * (1 - gates)
        starts[normalization] = GateStart(
            normalization=normalization,
            largest_input=float(values.abs().max()),
            overflow_share=float(values.to(torch.float16).isinf().to(torch.float32).mean()),
            dead_share=float((slope < DEAD_SLOPE).to(torch.float32).mean()),
            spread=float(gates.std(dim=0).mean()),
            gates=gates,
        )
    return starts
