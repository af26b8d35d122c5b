"""Made-up tiles with sections and detections of known faults, in COCO's formats, for the tests of scoring."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_masks

CLASSES = ("good", "incomplete", "fold", "damaged")
SIZE = 160


def rectangle(row: int, column: int, height: int, width: int, size: tuple[int, int] = (SIZE, SIZE)) -> NDArray[Any]:
    """Return a mask with one filled rectangle."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[max(row, 0) : row + height, max(column, 0) : column + width] = 1
    return mask


def encoded(mask: NDArray[Any]) -> dict[str, Any]:
    """Return a mask as COCO's results hold it, `counts` as text."""
    rle = rle_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def truth_of(
    regions: list[tuple[int, int, NDArray[Any]]], n_images: int, *, classes: tuple[str, ...] = CLASSES
) -> dict[str, Any]:
    """Return a truth; a region is (image id from 1, category id from 1, mask), a negative category a crowd of it."""
    return {
        "images": [
            {"id": i + 1, "height": SIZE, "width": SIZE, "file_name": f"{i}.png", "wafer": f"wafer {i % 3}"}
            for i in range(n_images)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
        "annotations": [
            {
                "id": place + 1,
                "image_id": image,
                "category_id": abs(category),
                "segmentation": encoded(mask),
                "area": int(mask.sum()),
                "bbox": [0, 0, 1, 1],
                "iscrowd": int(category < 0),
            }
            for place, (image, category, mask) in enumerate(regions)
        ],
    }


def detection(image: int, category: int, mask: NDArray[Any], score: float) -> dict[str, Any]:
    """Return one entry of a results list."""
    rle = encoded(mask)
    bbox = rle_masks.toBbox({"size": rle["size"], "counts": rle["counts"].encode()}).tolist()
    return {"image_id": image, "category_id": category, "segmentation": rle, "bbox": bbox, "score": score}


def random_scene(
    seed: int, *, n_images: int = 12, n_each: int = 5, crowds: bool = True, n_classes: int = 3
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a truth and faulty detections of it: shifted, of a wrong class, missed, doubled, invented.

    Regions are of all of COCO's three sizes; the last image has no truth; classes above `n_classes` have no region.
    """
    rng = np.random.default_rng(seed)
    regions, found = [], []
    for image in range(1, n_images + 1):
        for _ in range(0 if image == n_images else n_each):
            height, width = rng.choice([14, 24, 40, 70, 110, 130], size=2)
            row, column = rng.integers(0, SIZE - height + 1), rng.integers(0, SIZE - width + 1)
            category = int(rng.integers(1, n_classes + 1))
            crowd = crowds and rng.random() < 0.15
            regions.append((image, -category if crowd else category, rectangle(row, column, height, width)))
            for _ in range(rng.choice([0, 1, 2], p=[0.2, 0.6, 0.2])):
                shift = rng.integers(-6, 7, size=4)
                mask = rectangle(row + shift[0], column + shift[1], height + shift[2], width + shift[3])
                label = category if rng.random() < 0.8 else int(rng.integers(1, n_classes + 1))
                found.append(detection(image, label, mask, float(rng.random())))
        for _ in range(2):
            mask = rectangle(*rng.integers(0, 90, size=2), *rng.integers(8, 60, size=2))
            found.append(detection(image, int(rng.integers(1, n_classes + 1)), mask, float(rng.random())))
    return truth_of(regions, n_images), found
