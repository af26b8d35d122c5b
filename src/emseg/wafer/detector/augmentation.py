"""Two steps of a training pipeline that mmdet has not: quarter turns and a change of grey values.

A quarter turn moves the pixel (r, c) of an image of W columns to (W - 1 - c, r): counter-clockwise, as `numpy.rot90`
does it. Boxes are continuous, so x1' = y1, x2' = y2, y1' = W - x2, y2' = W - x1. Nothing is interpolated.

The change of grey values is g' = (1 + a) (g - m) + m + 255 b, with a and b uniform in [-amount, amount] and m the
image's mean: a microscope's contrast and brightness, which differ from day to day.

Both draw from NumPy's global generator, as mmdet's transforms do; `DrawDataset` seeds it for each draw.
"""

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

with redirect_stdout(StringIO()):  # it prints which other vendors' data sets it does not find
    import mmdet.datasets  # noqa: F401

GREY_RANGE = 255.0


def turned_boxes(boxes: NDArray[np.float32], n_columns: int) -> NDArray[np.float32]:
    """Return boxes x1, y1, x2, y2 after one counter-clockwise quarter turn of an image of so many columns."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([y1, n_columns - x2, y2, n_columns - x1], axis=1)


@TRANSFORMS.register_module()
class QuarterTurns(BaseTransform):  # type: ignore[misc]
    """Turns image, masks and boxes by 0 to 3 quarters, each as often."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn one image and its truth."""
        n_turns = int(np.random.randint(4))  # noqa: NPY002
        image, masks, boxes = results["img"], results["gt_masks"].masks, results["gt_bboxes"].numpy()
        for _ in range(n_turns):
            boxes = turned_boxes(boxes, image.shape[1])
            image, masks = np.rot90(image), np.rot90(masks, axes=(1, 2))
        height, width = image.shape[:2]
        results["img"], results["img_shape"] = np.ascontiguousarray(image), (height, width)
        results["gt_masks"] = BitmapMasks(np.ascontiguousarray(masks), height, width)
        results["gt_bboxes"] = HorizontalBoxes(boxes)
        return results


@TRANSFORMS.register_module()
class GreyJitter(BaseTransform):  # type: ignore[misc]
    """Changes brightness by up to `amount` of the whole range and contrast by up to `amount` of itself."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the grey values of one image."""
        image = results["img"].astype(np.float32)
        contrast, brightness = np.random.uniform(-self.amount, self.amount, 2)  # noqa: NPY002
        mean = image.mean()
        image = (1 + contrast) * (image - mean) + mean + GREY_RANGE * brightness
        results["img"] = np.clip(image, 0, GREY_RANGE).astype(np.uint8)
        return results
