"""mmcv's compiled operators, as far as Mask R-CNN and Mask Scoring R-CNN use them, by torchvision's kernels.

mmdet calls compiled operators through a module `mmcv._ext`, which has to be compiled for every version of torch and is
often not there. `provide_operators` puts one in its place, before mmdet is imported:

    nms                    non-maximum suppression of boxes x1, y1, x2, y2; a box of width x2 - x1 + offset
    roi_align_forward      means of bilinear samples in each cell of a grid over each region        (He et al. 2017)
    roi_align_backward     its derivative

Every other name raises `NotImplementedError` when it is called, with the name in the message. Where a compiled
`mmcv._ext` is installed, nothing is done. torchvision's kernels serve the CPU and CUDA; half precision is sampled in
float32 and rounded once. On small maps on a CPU the derivative is worked out by products (`roi_align_gradient`).

Deviation: regions of negative width, which mmcv refuses on the CPU, are sampled as torchvision samples them. The
maximum in place of the mean ("max") is not offered; neither detector uses it.
"""

import importlib.util
import sys
from types import ModuleType
from typing import NoReturn

import torch
import torchvision
from torch import Tensor

from emseg.wafer.detector.roi_align_gradient import is_worthwhile, roi_align_gradient

NAME = "mmcv._ext"


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes that stay, highest score first, as mmcv's operator does.

    A box goes if its intersection over union with a better box that stays exceeds the threshold.
    """
    boxes = bboxes.float()
    if offset:
        # Both widths and overlaps grow by the offset if the far corner does.
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

    `rois` holds rows of image number, x1, y1, x2, y2 in pixels of the image, `spatial_scale` pixels of the map each.
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
    with torch.autocast(grad_output.device.type, enabled=False):
        if is_worthwhile(grad_input.shape, sampling_ratio, gradient.device):
            spread = roi_align_gradient(
                gradient,
                regions,
                grad_input.shape,
                spatial_scale=spatial_scale,
                sampling_ratio=sampling_ratio,
                aligned=aligned,
            )
            grad_input.copy_(spread)
            return
        spread = torch.ops.torchvision._roi_align_backward(
            gradient, regions, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
        )
    grad_input.copy_(spread)


def provide_operators() -> bool:
    """Register these operators as `mmcv._ext` unless a compiled one is installed; return whether ours are in use.

    Must be called before anything imports `mmcv.ops`; calling it again changes nothing.
    """
    present = sys.modules.get(NAME)
    if present is None and importlib.util.find_spec(NAME) is None:
        present = _Operators(NAME)
        sys.modules[NAME] = present
    return isinstance(present, _Operators)


class _Operators(ModuleType):
    """Stands for the compiled module; mmcv asks for the names of all operators, and calls the few that are needed."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise NotImplementedError(
                f"the operator {name!r} of mmcv is compiled, and no compiled mmcv is installed; only nms and "
                "roi_align have stand-ins. Install mmcv with its operators, or choose a model without this one."
            )

        return missing


def _in_one_dtype(maps: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 if the maps are, else in float32: a region's corners do not fit in half precision."""
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return maps.to(dtype).contiguous(), rois.to(dtype).contiguous()


def _require_mean(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with the maximum in place of the mean is compiled in mmcv only, and no compiled mmcv is "
            'installed. Use pool_mode="avg".'
        )
