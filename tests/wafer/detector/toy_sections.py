"""A COCO folder of a few tiny tiles with bright rectangles, and a detector and a schedule small enough for it."""

import json
from pathlib import Path

import cv2
import numpy as np

from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_plan import SMALL
from emseg.wafer.formats.benchmark_folder import write_annotations, write_tiles
from emseg.wafer.splits import Split
from emseg.wafer.tiles import Tiling, plan_tiles

TILE = 64
TINY = {
    "base_channels": 8,
    "pyramid_channels": 8,
    "strides": (8, 16),
    "anchor_sizes": (16.0, 28.0),
    "rpn_samples": 32,
    "region_samples": 16,
    "fc_channels": 16,
    "mask_channels": 8,
    "mask_iou_channels": 8,
    "mask_iou_fc_channels": 16,
}
TINY_DESIGN = DetectorDesign(detector="ms_rcnn", depth=18, size="small", changes=TINY)
TINY_PLAN = SMALL.changed(steps=6, warm_up_steps=2, checkpoint_interval=2, device="cpu", grey_jitter=0.1)


def toy_folder(folder: Path, *, n_rows: int = 2, n_columns: int = 4, seed: int = 0) -> Path:
    """Write a wafer of `n_rows` x `n_columns` tiles, the last row to validate on, and return the folder."""
    rng = np.random.default_rng(seed)
    image = np.full((n_rows * TILE, n_columns * TILE), 60, dtype=np.uint8)
    sections = []
    for row in range(n_rows):
        for column in range(n_columns):
            height, width = rng.uniform(14, 30, 2)
            top, left = row * TILE + rng.uniform(4, 30), column * TILE + rng.uniform(4, 30)
            outline = np.array([[top, left], [top, left + width], [top + height, left + width], [top + height, left]])
            cv2.fillPoly(image, [outline[:, ::-1].round().astype(np.int32)], 170)
            label = SECTION_CLASSES[(row + column) % len(SECTION_CLASSES)]
            sections.append(Section(outline, label=label))
    image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    wafer = WaferSections("toy", *image.shape, tuple(sections), class_names=SECTION_CLASSES)
    tiles = plan_tiles(wafer, Tiling(tile=TILE, overlap=0))
    n_train = (n_rows - 1) * n_columns
    split = Split("crops", tuple(tiles[:n_train]), tuple(tiles[n_train:]))
    digests = write_tiles(image, tiles, folder)
    write_annotations(
        folder, [split], digests, class_names=SECTION_CLASSES, kind="synthetic", pixel_size_um=None, parameters={}
    )
    return folder


def change_truth(folder: Path, part: str, change: str, value: object) -> None:
    """Set one entry of the first image in a part's annotations."""
    path = folder / "annotations" / "crops" / f"{part}.json"
    document = json.loads(path.read_text())
    document["images"][0][change] = value
    path.write_text(json.dumps(document))
