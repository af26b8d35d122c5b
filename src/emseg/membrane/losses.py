"""The loss of a membrane network: focal and Dice as in the paper, and a term for the boundaries beyond it.

    L        = L_focal + lambda L_dice + mu L_boundary                       lambda = 1, mu = 0
    L_focal  = mean over pixels of  -(1 - p_t)^gamma log p_t                 gamma = 2
    L_dice   = mean over images of  1 - (2 sum(y p) + 1) / (sum(y) + sum(p) + 1)
    L_boundary = mean over images of  1 - 2 P R / (P + R)
               P = (sum(b N(b')) + 1) / (sum(b) + 1),    R = (sum(b' N(b)) + 1) / (sum(b') + 1)
               b = max_3(1 - p) - (1 - p),   b' = max_3(1 - y) - (1 - y),    N = max_5

    y, p   [batch, 1, height, width]   truth, 1 on membrane; p = sigmoid(logits);  p_t = p where y = 1, else 1 - p
    b, b'  boundary of the predicted and of the true membrane: its pixels next to background
    max_k  largest value within k x k pixels: N(b) is b with a tolerance of two pixels

U-RISC's equations are lost in the available copies; its text gives `L = L_focal + lambda L_dice`, lambda = 1, gamma = 2
and "Y is the set of all pixels of one image". These are the definitions of the papers that it cites, without a class
weight. It gives no reductions: here focal is a mean over all pixels, and Dice a mean over images; smp's sums over the
batch. Deviation: the 1 in Dice, P and R is one pixel, so that they are defined on an image without membrane.

Everything is computed from logits in float32 or better, also under autocast: with z = logits where y = 1, else -logits,
-log p_t = softplus(-z) and -log(1 - p_t) = softplus(z), so that nothing overflows and 1 - p_t keeps its digits.

Sources: Lin et al. 2017 (focal), Eq. 4; Dice 1945, Milletari et al. 2016 (with plain sums in the denominator);
Bokhovkin and Burnaev 2019 (boundary), section 3, with theta_0 = 3 and theta = 5; Shi et al. 2022 (U-RISC), Loss
Function.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emseg.checks import NotNegative, validated
from emseg.errors import InputError

SMOOTHING_PX = 1.0
BOUNDARY_SIZE = 3
TOLERANCE_SIZE = 5

Scalar = Float[Tensor, ""]


@validated
class MembraneLoss:
    """The weighted sum of the three terms as a function of logits and truth; the defaults are the paper's."""

    focal_gamma: NotNegative = 2.0
    dice_weight: NotNegative = 1.0
    boundary_weight: NotNegative = 0.0

    def terms(self, logits: Tensor, membrane: Tensor) -> dict[str, Scalar]:
        """Return the terms with a weight above 0 by name, unweighted."""
        terms = {"focal": focal_loss(logits, membrane, gamma=self.focal_gamma)}
        if self.dice_weight:
            terms["dice"] = dice_loss(logits, membrane)
        if self.boundary_weight:
            terms["boundary"] = boundary_loss(logits, membrane)
        return terms

    def __call__(self, logits: Tensor, membrane: Tensor) -> Scalar:
        """Return the loss of a batch, at least 0.

        `logits` and `membrane` are [batch, 1, height, width]; `membrane` is bool, or float from 0 to 1 (mixed labels).
        """
        weights = {"focal": 1.0, "dice": self.dice_weight, "boundary": self.boundary_weight}
        return torch.stack([weights[name] * term for name, term in self.terms(logits, membrane).items()]).sum()


def focal_loss(logits: Tensor, membrane: Tensor, *, gamma: float = 2.0) -> Scalar:
    """Return the focal loss, the mean over all pixels of the batch; gamma = 0 is the cross-entropy."""
    logits, truth = _prepared(logits, membrane)
    if membrane.dtype == torch.bool:
        return _focal(torch.where(membrane, logits, -logits), gamma).mean()
    return (truth * _focal(logits, gamma) + (1 - truth) * _focal(-logits, gamma)).mean()


def _focal(z: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^gamma log p of each pixel, p = sigmoid(z) the probability of its class."""
    return functional.softplus(-z) * (-gamma * functional.softplus(z)).exp()


def dice_loss(logits: Tensor, membrane: Tensor) -> Scalar:
    """Return one minus the soft Dice coefficient (F1) of the membrane of each image, the mean over images: 0 to 1."""
    logits, truth = _prepared(logits, membrane)
    p = logits.sigmoid()
    both, either = _image_sum(truth * p), _image_sum(truth) + _image_sum(p)
    return (1 - (2 * both + SMOOTHING_PX) / (either + SMOOTHING_PX)).mean()


def boundary_loss(logits: Tensor, membrane: Tensor) -> Scalar:
    """Return one minus the soft F1 of the membrane's boundary, with two pixels of tolerance, the mean over images."""
    logits, truth = _prepared(logits, membrane)
    predicted, true = _boundary(logits.sigmoid()), _boundary(truth)
    precision = _fraction_within(predicted, _largest_within(true, TOLERANCE_SIZE))
    recall = _fraction_within(true, _largest_within(predicted, TOLERANCE_SIZE))
    return (1 - 2 * precision * recall / (precision + recall)).mean()


def _fraction_within(boundary: Tensor, neighbourhood: Tensor) -> Tensor:
    return (_image_sum(boundary * neighbourhood) + SMOOTHING_PX) / (_image_sum(boundary) + SMOOTHING_PX)


def _boundary(membrane: Tensor) -> Tensor:
    return _largest_within(1 - membrane, BOUNDARY_SIZE) - (1 - membrane)


def _largest_within(x: Tensor, size: int) -> Tensor:
    """Return the largest of the `size` x `size` values around each pixel; two 1-D passes are cheaper."""
    down = functional.max_pool2d(x, (size, 1), stride=1, padding=(size // 2, 0))
    return functional.max_pool2d(down, (1, size), stride=1, padding=(0, size // 2))


def _image_sum(x: Tensor) -> Tensor:
    return x.sum(dim=(1, 2, 3))


def _prepared(logits: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float32 or better, with their shapes checked."""
    if logits.ndim != 4 or logits.shape[1] != 1 or logits.shape != membrane.shape or logits.numel() == 0:
        raise InputError(
            "the loss takes logits and membrane of one shape [batch, 1, height, width]; got "
            f"{list(logits.shape)} and {list(membrane.shape)}. Add the axis of the channel, or crop one to the other."
        )
    if membrane.dtype != torch.bool and not membrane.is_floating_point():
        raise InputError(
            f"the membrane must be bool, True on membrane, or floating point from 0 to 1; got {membrane.dtype}. "
            "Compare the labels with 0 or 255 first: U-RISC and ISBI code membrane as 0."
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), membrane.to(dtype)
