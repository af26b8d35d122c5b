"""What a detector finds in tiles, with its masks as the network gives them: probabilities on a small grid in each box.

mmdet pastes every mask into a separate image and cuts it at a threshold, which costs more time than the network on
tiles full of sections and leaves an outline on the pixel grid. Here the grid stays: cell (i, j) of M x M is centred at

    row = top + (i + 1/2) (bottom - top) / M,   column = left + (j + 1/2) (right - left) / M

so that the level 1/2, interpolated, is the outline that mmdet's pasted mask approximates (its `_do_paste_mask` samples
the same grid bilinearly, with zeros beyond). Scores are those of `emseg.wafer.detector.predict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import nn

from emseg.training.devices import AUTOCAST_DTYPES
from emseg.wafer.detector.detector_prediction import n_channels


@dataclass(frozen=True, eq=False)
class SoftDetections:
    """What was found in one tile; `boxes` are (top, left, bottom, right) in its pixels, `masks` contain probabilities.

    `capped` states that the network's limit of detections or proposals a tile was reached, so that some may be missing.
    """

    boxes: Float32[np.ndarray, "detection 4"]
    scores: Float32[np.ndarray, " detection"]
    labels: Int64[np.ndarray, " detection"]
    masks: Float32[np.ndarray, "detection grid grid"]
    capped: bool = False


def predict_soft(
    model: nn.Module,
    tiles: Sequence[UInt8[np.ndarray, "height width"]],
    *,
    least_score: float = 0.0,
    precision: str = "fp32",
) -> list[SoftDetections]:
    """Return what `model` finds in each 8-bit grey tile at scores of at least `least_score`; tiles may differ in size.

    The model is left in evaluation mode. `precision` is "fp32", "bf16" or "fp16".
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import bbox2roi

    detector: Any = model.eval()
    device, dtype = next(model.parameters()).device, AUTOCAST_DTYPES[precision]
    inputs = [torch.from_numpy(np.array(tile))[None].expand(n_channels(model), -1, -1) for tile in tiles]
    shapes = [{"img_shape": tile.shape, "ori_shape": tile.shape, "scale_factor": (1.0, 1.0)} for tile in tiles]
    samples = [DetDataSample(metainfo=shape) for shape in shapes]
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        batch = detector.data_preprocessor({"inputs": inputs, "data_samples": samples}, False)
        maps = detector.extract_feat(batch["inputs"])
        proposals = detector.rpn_head.predict(maps, batch["data_samples"], rescale=False)
        metas, head = [sample.metainfo for sample in batch["data_samples"]], detector.roi_head
        results = head.predict_bbox(maps, metas, proposals, head.test_cfg, rescale=False)
        # the proposals' own limit is reached in every tile, as proposals of nothing fill it up
        capped = [len(one) >= head.test_cfg.max_per_img for one in results]
        found = [one[one.scores >= least_score] for one in results]
        labels = torch.cat([one.labels for one in found])
        scores = torch.cat([one.scores for one in found]).float()
        if len(labels):
            places = torch.arange(len(labels), device=labels.device)
            answer = head._mask_forward(maps, bbox2roi([one.bboxes for one in found]))
            masks = answer["mask_preds"][places, labels].float()
            if getattr(head, "mask_iou_head", None) is not None:
                scores = scores * head.mask_iou_head(answer["mask_feats"], masks)[places, labels].float()
            masks = masks.sigmoid()
        else:
            masks = scores.new_zeros(0, 1, 1)
    sizes = [len(one) for one in found]
    split = (torch.split(one, sizes) for one in (labels, scores.clamp(0, 1), masks))
    parts = zip(found, *split, capped, strict=True)
    return [
        SoftDetections(
            one.bboxes[:, [1, 0, 3, 2]].float().cpu().numpy(),
            score.cpu().numpy(),
            label.cpu().numpy(),
            mask.cpu().numpy(),
            full,
        )
        for one, label, score, mask, full in parts
    ]
