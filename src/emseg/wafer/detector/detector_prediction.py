"""What a detector finds in images: boxes, classes, scores and masks; and the image files that it can use.

The score of a detection is the probability of its class, between 0 and 1; Mask Scoring R-CNN multiplies it by the
overlap that it expects of its mask with the truth, a regression, so the product is clipped to [0, 1]. Detections are
in order of decreasing score. Masks are run-length codes of pycocotools. Batches change detections by rounding alone.
The design's `max_per_image` is far above what tiles contain; an image that reaches it is marked, with one warning.

A tile is 8-bit grey as `emseg.images` reads it, or 8-bit RGB for a detector of three channels, and as large as its
annotations report. mmdet reads images by OpenCV, which accepts anything (16-bit images lose their
lower bits, colour becomes grey), so files are checked before the first step, most from their headers.

Source: mmdet's `predict`, with the thresholds of the detector's design.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools import mask as rle_masks
from torch import nn

from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import decoding
from emseg.images import image_size, read_gray
from emseg.training.devices import AUTOCAST_DTYPES
from emseg.wafer.formats.benchmark_folder import open_benchmark
from emseg.wafer.formats.coco import CocoSet
from emseg.wafer.scores.coco_masks import decoded
from emseg.wafer.splits import VALIDATION

BATCH_SIZE = 4
_REPAIR = "Convert it, for example by `emseg wafer tiles`, which writes 8-bit grey tiles."


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image of `height` x `width` pixels, best first; `labels` are places in the class names.

    `boxes` are (top, left, bottom, right) in pixels, `masks` run-length codes of the image's size. `at_limit` states
    that there are as many as the detector outputs at most, so that more may be in the image.
    """

    height: int
    width: int
    boxes: Float32[np.ndarray, "detection 4"]
    scores: Float32[np.ndarray, "detection"]
    labels: Int64[np.ndarray, "detection"]
    masks: tuple[dict[str, Any], ...]
    at_limit: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    def mask(self, place: int) -> Bool[np.ndarray, "height width"]:
        """Return the mask of the detection at a place in the list."""
        return decoded(self.masks[place])

    def coco(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return the detections as COCO's results format has them; `category_ids` go with the labels."""
        results = []
        for place, (top, left, bottom, right) in enumerate(self.boxes):
            box = [float(side) for side in (left, top, right - left, bottom - top)]
            score, mask = float(self.scores[place]), self.masks[place]
            category = {"image_id": image_id, "category_id": category_ids[self.labels[place]]}
            results.append({**category, "bbox": box, "score": score, "segmentation": dict(mask)})
        return results


def predict(
    model: nn.Module,
    images: Sequence[NDArray[Any]] | Iterator[NDArray[Any]],
    *,
    batch_size: int = BATCH_SIZE,
    scale: int | None = None,
    precision: str = "fp32",
) -> list[Detections]:
    """Return what `model` finds in each of `images`, 8-bit arrays [row, column] or [row, column, 3] (RGB).

    The model is left in evaluation mode. `scale` first resizes the longer side of each image to that many pixels; boxes
    and masks are of the original. `precision` is "fp32", "bf16" or "fp16". Raises `InputError` for other arrays.
    """
    require_count("batch_size", batch_size)
    require_one_of("precision", precision, AUTOCAST_DTYPES)
    model.eval()
    found: list[Detections] = []
    waiting = iter(images)
    while batch := list(islice(waiting, batch_size)):
        found += _predict_batch(model, batch, len(found), scale, precision)
    n_full = sum(one.at_limit for one in found)
    if n_full:
        warnings.warn(
            f"{n_full} of {len(found)} images have {_limit(model)} detections, the most that this detector outputs: "
            "others may be missing. Use smaller images, or a design with a larger `max_per_image`.",
            stacklevel=2,
        )
    return found


def predict_folder(
    model: nn.Module,
    folder: str | Path,
    split: str,
    part: str = VALIDATION,
    *,
    batch_size: int = BATCH_SIZE,
    scale: int | None = None,
    precision: str = "fp32",
) -> list[dict[str, Any]]:
    """Return what `model` finds in one part of a COCO folder's split, as COCO's results format has it."""
    benchmark = open_benchmark(folder)
    coco, files = benchmark.read(split, part), benchmark.split(split)
    image_folder = files.validation_images if part == VALIDATION else files.train_images
    n_classes: Any = model.get_submodule("roi_head.bbox_head").num_classes
    if n_classes != len(coco.class_names):
        raise UsageError(
            f"the detector must have been trained on the classes of the data; it knows {n_classes}, {coco.path} has "
            f"{len(coco.class_names)} ({', '.join(coco.class_names)})."
        )
    require_tiles(coco, image_folder, n_channels(model))
    tiles = (_read_tile(image_folder / image.file_name, n_channels(model)) for image in coco.images)
    found = predict(model, tiles, batch_size=batch_size, scale=scale, precision=precision)
    pairs = zip(coco.images, found, strict=True)
    return [entry for image, detections in pairs for entry in detections.coco(image.id, coco.category_ids)]


def _predict_batch(
    model: nn.Module, images: Sequence[NDArray[Any]], first: int, scale: int | None, precision: str
) -> list[Detections]:
    import mmcv
    from mmdet.structures import DetDataSample

    channels, dtype = n_channels(model), AUTOCAST_DTYPES[precision]
    inputs, samples = [], []
    for place, image in enumerate(images):
        colour = image.ndim == 3 and image.shape[2] == 3 == channels
        if image.dtype != np.uint8 or not (image.ndim == 2 or colour) or not image.size:
            wanted = "[row, column]" if channels == 1 else "[row, column] or [row, column, 3]"
            raise InputError(
                f"images must be 8-bit arrays {wanted}; image {first + place} is {image.dtype} of shape "
                f"{list(image.shape)}. Scale it to 0 to 255 and convert it to uint8."
            )
        shown = image if scale is None else np.asarray(mmcv.imrescale(image, (scale, scale)))
        factor = (shown.shape[1] / image.shape[1], shown.shape[0] / image.shape[0])
        meta = {"img_shape": shown.shape[:2], "ori_shape": image.shape[:2], "scale_factor": factor, "img_id": place}
        samples.append(DetDataSample(metainfo=meta))
        if colour:  # BGR, as OpenCV reads
            inputs.append(torch.from_numpy(np.array(shown[:, :, ::-1])).permute(2, 0, 1))
        else:
            inputs.append(torch.from_numpy(np.array(shown))[None].expand(channels, -1, -1))
    device = next(model.parameters()).device.type
    with torch.inference_mode(), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        predicted = model.test_step({"inputs": inputs, "data_samples": samples})  # type: ignore[operator]
    pairs, limit = zip(predicted, images, strict=True), _limit(model)
    return [_detections(one.pred_instances, *image.shape[:2], limit=limit) for one, image in pairs]


def _detections(found: Any, height: int, width: int, *, limit: int) -> Detections:
    scores = found.scores.float().clamp(0, 1)
    order = scores.argsort(descending=True, stable=True)
    boxes = found.bboxes[order][:, [1, 0, 3, 2]].float().cpu().numpy()
    masks = found.masks[order].cpu().numpy().astype(np.uint8)
    codes = rle_masks.encode(np.asfortranarray(masks.transpose(1, 2, 0))) if len(masks) else []
    texts = tuple({"size": list(code["size"]), "counts": code["counts"].decode("ascii")} for code in codes)
    scores, labels = scores[order].cpu().numpy(), found.labels[order].cpu().numpy()
    return Detections(height, width, boxes, scores, labels, texts, at_limit=len(scores) >= limit)


def _limit(model: nn.Module) -> int:
    heads: Any = model.get_submodule("roi_head")
    return int(heads.test_cfg.max_per_img)


def n_channels(model: nn.Module) -> int:
    """Return how many channels the images of a detector have."""
    return int(model.get_buffer("data_preprocessor.mean").numel())


def require_tiles(coco: CocoSet, folder: Path, in_channels: int) -> None:
    """Raise `InputError` that names the first image file which is not what the annotations and the detector need."""
    for image in coco.images:
        path = folder / image.file_name
        height, width = image_size(path)
        with decoding(path, "image"), Image.open(path) as file:
            mode = file.mode
        if mode != "L" and not (mode == "RGB" and in_channels == 3) and read_gray(path).dtype != np.uint8:
            wanted = "8-bit grey" if in_channels == 1 else "8-bit grey or RGB"
            raise InputError(f"images must be {wanted}; {path} has more bits. {_REPAIR}")
        if (height, width) != (image.height, image.width):
            raise InputError(
                f"an image must be as large as its annotations state; {path} has {height} x {width} pixels (rows x "
                f"columns), {coco.path} gives {image.height} x {image.width}. Annotate the image that is there."
            )


def _read_tile(path: Path, in_channels: int) -> NDArray[Any]:
    if in_channels == 3:
        with decoding(path, "image"), Image.open(path) as image:
            if image.mode == "RGB":
                return np.asarray(ImageOps.exif_transpose(image))
    return read_gray(path)
