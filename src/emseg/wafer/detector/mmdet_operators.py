"""mmcv's compiled operators, as far as Mask R-CNN and Mask Scoring R-CNN use them, by torchvision's kernels.

mmdet calls compiled operators through a module `mmcv._ext`, which has to be compiled for every version of torch and is
often missing. `provide_operators` puts one in its place, before mmdet is imported: `nms`, `roi_align_forward` (means of
bilinear samples in each cell of a grid over each region) and `roi_align_backward`, its derivative. They use the kernels
of torchvision, which serve the CPU and CUDA; half precision is sampled in float32 and rounded once.

On small maps on a CPU the derivative is two matrix products an image instead of torchvision's loop over samples, 2.4 to
54 times faster. A cell is the mean over `sampling_ratio`^2 bilinear samples on a grid along the axes, so the weight of
map pixel (i, j) in cell (p, q) is a product A[p, i] B[q, j], and

    d loss / d map[c, i, j] = sum over regions r, p, q of A[r, p, i] g[r, c, p, q] B[r, q, j]

    g [region, channel, p, q]   the derivative with respect to the cells
    A [region, p, i], B [region, q, j]   means of bilinear weights; points more than one pixel outside count nothing

It needs a fixed number of samples: with `sampling_ratio` 0 each region would have its own.

Deviation: regions of negative width, which mmcv refuses on the CPU, are sampled as torchvision samples them. The
maximum instead of the mean ("max") is not offered; neither detector uses it. Source: He et al. 2017.
"""

import importlib.util
import sys
from types import ModuleType
from typing import NoReturn

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor

NAME = "mmcv._ext"
LARGEST_MAP = 128 * 128  # beyond, most weights are zero and the products do more than the loop


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes x1, y1, x2, y2 that remain, highest score first, as mmcv's operator does.

    A box goes if its intersection over union with a better box that remains exceeds the threshold. Its width is x2 - x1
    + `offset`.
    """
    boxes = bboxes.float()
    if offset:  # both widths and overlaps grow by the offset if the far corner does
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    kept: Tensor = torchvision.ops.nms(boxes, scores.float(), float(iou_threshold))
    return kept


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the cells of each region, [region, channel, aligned_height, aligned_width], into `output`.

    `rois` has rows of image number, x1, y1, x2, y2 in pixels of the image, `spatial_scale` pixels of the map each.
    """
    _require_mean(pool_mode)
    maps, regions = _in_one_dtype(input, rois)
    with torch.autocast(input.device.type, enabled=False):
        sampled = torch.ops.torchvision.roi_align(
            maps, regions, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    output.copy_(sampled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the derivative with respect to the map into `grad_input`."""
    _require_mean(pool_mode)
    gradient, regions = _in_one_dtype(grad_output, rois)
    shape = grad_input.shape
    with torch.autocast(grad_output.device.type, enabled=False):
        if is_worthwhile(shape, sampling_ratio, gradient.device):
            options = {"spatial_scale": spatial_scale, "sampling_ratio": sampling_ratio, "aligned": aligned}
            spread = roi_align_gradient(gradient, regions, shape, **options)  # type: ignore[arg-type]
        else:
            spread = torch.ops.torchvision._roi_align_backward(
                gradient, regions, spatial_scale, aligned_height, aligned_width, *shape, sampling_ratio, aligned
            )
    grad_input.copy_(spread)


def provide_operators() -> bool:
    """Register these operators as `mmcv._ext` unless a compiled one is installed; return whether ours are in use."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = _Operators(NAME)
    return isinstance(sys.modules.get(NAME), _Operators)


class _Operators(ModuleType):
    """Replaces the compiled module; mmcv asks for the names of all operators, and calls the few that are needed."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise NotImplementedError(
                f"the operator {name!r} of mmcv is compiled, and no compiled mmcv is installed; only nms and "
                "roi_align have replacements. Install mmcv with its operators, or choose a model without this one."
            )

        return missing


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
    start: Float[Tensor, " region"], cell: Float[Tensor, " region"], n_cells: int, n_samples: int, length: int
) -> Float[Tensor, "region cell pixel"]:
    """Return the weight of each pixel of an axis in each cell of a region's grid."""
    steps = torch.arange(n_cells * n_samples, dtype=start.dtype, device=start.device) + 0.5
    points = start[:, None] + steps * (cell[:, None] / n_samples)
    inside = (points >= -1) & (points <= length)
    pixels = torch.arange(length, dtype=start.dtype, device=start.device)
    hats = (1 - (points.clamp(0, length - 1)[:, :, None] - pixels).abs()).clamp_(min=0) * inside[:, :, None]
    return hats.view(len(start), n_cells, n_samples, length).mean(2)


def _in_one_dtype(maps: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 if the maps are, else in float32: a region's corners do not fit in half precision."""
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return maps.to(dtype).contiguous(), rois.to(dtype).contiguous()


def _require_mean(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with the maximum instead of the mean is compiled in mmcv only, and no compiled mmcv is "
            'installed. Use pool_mode="avg".'
        )
