"""The derivative of RoIAlign on a CPU as two matrix products an image, in place of one addition for each sample.

A cell of a region's grid is the mean over `sampling_ratio`^2 points of the map, each interpolated bilinearly. The
points form a grid along the axes, so the weight of map pixel (i, j) in cell (p, q) is a product A[p, i] B[q, j], and

    d loss / d map[c, i, j] = sum over regions r, p, q of A[r, p, i] g[r, c, p, q] B[r, q, j]

    g [region, channel, p, q]   the derivative with respect to the cells
    A [region, p, i], B [region, q, j]   means of bilinear weights; points more than one pixel outside count nothing

On small maps this is several times faster than torchvision's loop, which adds sample by sample on one core. It needs a
fixed number of samples: with `sampling_ratio` 0 each region would have its own.

Source: RoIAlign of He et al. 2017, with the border rule of torchvision's kernel.
"""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_MAP = 128 * 128  # beyond, most weights are zero and the products do more than the loop


def is_worthwhile(shape: torch.Size, sampling_ratio: int, device: torch.device) -> bool:
    """Return whether the products are defined and faster for maps of this shape, [image, channel, height, width]."""
    return device.type == "cpu" and sampling_ratio > 0 and int(shape[-2] * shape[-1]) <= LARGEST_MAP


def roi_align_gradient(
    gradient: Float[Tensor, "region channel p q"],
    regions: Float[Tensor, "region 5"],
    shape: torch.Size,
    *,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Float[Tensor, "image channel height width"]:
    """Return the derivative with respect to maps of `shape`; `regions` are rows of image number, x1, y1, x2, y2."""
    n_images, n_channels, height, width = shape
    _, _, n_rows, n_columns = gradient.shape
    left, top, right, bottom = (regions[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    down, across = bottom - top, right - left
    if not aligned:
        down, across = down.clamp(min=1), across.clamp(min=1)
    vertical = _weights(top, down / n_rows, n_rows, sampling_ratio, height)
    horizontal = _weights(left, across / n_columns, n_columns, sampling_ratio, width)
    found = gradient.new_zeros(n_images, n_channels, height, width)
    for image in range(n_images):
        own = (regions[:, 0] == image).nonzero()[:, 0]
        if len(own):
            rows = torch.matmul(gradient[own].flatten(1, 2), horizontal[own])  # [region, channel p, width]
            rows = rows.view(len(own), n_channels, n_rows, width).transpose(0, 1).reshape(n_channels, -1, width)
            found[image] = torch.matmul(vertical[own].flatten(0, 1).T, rows)
    return found


def _weights(
    start: Float[Tensor, " region"],
    cell: Float[Tensor, " region"],
    n_cells: int,
    n_samples: int,
    length: int,
) -> Float[Tensor, "region cell pixel"]:
    """Return how much each pixel of an axis counts in each cell of a region's grid."""
    steps = torch.arange(n_cells * n_samples, dtype=start.dtype, device=start.device) + 0.5
    points = start[:, None] + steps * (cell[:, None] / n_samples)
    inside = (points >= -1) & (points <= length)
    pixels = torch.arange(length, dtype=start.dtype, device=start.device)
    hats = (1 - (points.clamp(0, length - 1)[:, :, None] - pixels).abs()).clamp_(min=0) * inside[:, :, None]
    return hats.view(len(start), n_cells, n_samples, length).mean(2)
