"""Images of any size for networks that halve it several times: padded to a multiple of the stride, and cut back.

Rows are added below and columns at the right, so that the grid of halvings stays where it was. They mirror the image
(without repeating its edge); an image smaller than its padding repeats its edge instead.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emseg.errors import InputError


def require_images(x: Tensor, min_size: int = 1, channels: int = 1) -> None:
    """Raise `InputError` unless `x` is a batch of images of so many channels, at least `min_size` a side."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise InputError(
            f"this membrane network takes images of {'one channel' if channels == 1 else f'{channels} channels'}, "
            f"[batch, {channels}, height, width]; got {list(x.shape)}. Average the colours, or add the axes that are "
            "missing."
        )
    if not x.is_floating_point():
        raise InputError(
            f"a membrane network takes floating-point images, (grey / 255 - 0.5) / 0.5; got {x.dtype}. Scale them."
        )
    if min(x.shape[2:]) < min_size:
        raise InputError(
            f"this membrane network takes images of at least {min_size} pixels a side; got {list(x.shape)}. Use larger "
            "images or crops, or an encoder of less depth."
        )


def pad_to_stride(x: Float[Tensor, "batch channel height width"], stride: int) -> Float[Tensor, "batch channel _ _"]:
    """Return the images with height and width rounded up to multiples of `stride`."""
    height, width = x.shape[-2:]
    below, right = -height % stride, -width % stride
    # The two axes apart: one may be large enough to be mirrored, the other not.
    for rows, columns, size in ((below, 0, height), (0, right, width)):
        if rows or columns:
            mode = "reflect" if rows + columns < size else "replicate"
            x = functional.pad(x, (0, columns, 0, rows), mode=mode)
    return x
