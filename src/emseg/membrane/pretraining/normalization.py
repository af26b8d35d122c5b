"""How grey enters a network, and the same first convolution for another way of entering.

A network that was trained on (g - m_c) / s_c, channel by channel, for grey g from 0 to 1, is to be fed one channel
x = (g - m) / s. With g = s x + m its input is a_c x + b_c, so that its first convolution w gives

    sum_c w_c * (a_c x + b_c) = (sum_c a_c w_c) * x + sum_c b_c sum_ij w_cij
    a_c = s / s_c        b_c = (m - m_c) / s_c

    w   [output, c, row, column]   weights of the first convolution, which has no bias
    *                              convolution

The new weights are sum_c a_c w_c, one channel. The last term is one number an output channel; batch normalisation
subtracts its running mean next, so the number is subtracted from that. One channel from three is exact too: a grey
image shown to a colour network has g in all three.

It holds wherever the convolution sees the image alone. Where it sees zero padding, both networks see 0, which is grey
m_c to the one and grey m to the other: outputs within the padding of the border differ, and everything that they reach.
In training, batch normalisation subtracts the batch's own mean, and the border is all that differs.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from emseg.errors import UsageError


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of grey from 0 to 1, one of each a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"a normalisation has one mean and one std for each channel; got {len(self.mean)} and {len(self.std)}."
            )
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise UsageError(
                f"`mean` must be finite and `std` positive; got mean={self.mean}, std={self.std}. "
                "Give them for grey from 0 to 1."
            )


OURS = Normalization((0.5,), (0.5,))  # what the membrane networks of this book see
CEM500K = Normalization((0.57287007,), (0.12740536,))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fold_normalization(
    weight: Tensor, running_mean: Tensor, was: Normalization, becomes: Normalization = OURS
) -> tuple[Tensor, Tensor]:
    """Return the first convolution [output, 1, row, column] and the running mean [output] for grey that enters anew.

    `weight` [output, channel, row, column] was trained on grey normalised by `was`; `becomes` has one channel.
    """
    if weight.shape[1] != len(was.mean):
        raise UsageError(
            f"a normalisation needs as many channels as the convolution; got {len(was.mean)} for {weight.shape[1]}."
        )
    if len(becomes.mean) != 1:
        raise UsageError(f"the new normalisation has one channel; got {len(becomes.mean)}.")
    exact = weight.double()
    mean, std = exact.new_tensor(was.mean), exact.new_tensor(was.std)
    factor, offset = becomes.std[0] / std, (becomes.mean[0] - mean) / std
    folded = (exact * factor[None, :, None, None]).sum(1, keepdim=True)
    constant = exact.sum((2, 3)) @ offset
    return folded.to(weight.dtype), (running_mean.double() - constant).to(running_mean.dtype)
