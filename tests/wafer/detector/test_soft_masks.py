"""Soft detections are those of mmdet's own prediction, before its masks are pasted."""

import cv2
import numpy as np
import pytest
from wafer.detector.toy_sections import TINY

from emseg.wafer.detector.detector_build import build_design
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_prediction import predict
from emseg.wafer.detector.soft_masks import predict_soft

NOISE = [np.random.default_rng(0).integers(0, 255, size).astype(np.uint8) for size in ((96, 96), (64, 96))]


@pytest.fixture(scope="module", params=["mask_rcnn", "ms_rcnn"])
def model(request):
    return eager(request.param)


def eager(detector):
    changes = {**TINY, "score_threshold": 0.0, "max_per_image": 12}
    return build_design(DetectorDesign(detector=detector, depth=18, size="small", changes=changes)).eval()


def test_boxes_scores_and_masks_are_those_of_mmdet(model):
    with pytest.warns(UserWarning, match="others may be missing"):
        whole = predict(model, NOISE)
    for tile, found, expected in zip(NOISE, predict_soft(model, NOISE), whole, strict=True):
        order = np.argsort(-found.scores, kind="stable")
        np.testing.assert_allclose(found.scores[order], expected.scores, atol=1e-5)
        # boxes of equal score may change places
        np.testing.assert_allclose(np.sort(found.boxes[order], 0), np.sort(expected.boxes, 0), atol=1e-2)
        for place, (top, left, bottom, right) in zip(order, found.boxes[order], strict=True):
            rows = (np.arange(tile.shape[0]) + 0.5 - top) / (bottom - top) * found.masks.shape[1] - 0.5
            columns = (np.arange(tile.shape[1]) + 0.5 - left) / (right - left) * found.masks.shape[2] - 0.5
            places = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
            pasted = cv2.remap(found.masks[place], *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) >= 0.5
            overlaps = [
                (expected.mask(k) & pasted).sum() / max((expected.mask(k) | pasted).sum(), 1) for k in range(12)
            ]
            assert max(overlaps) > 0.9 or not pasted.any()


def test_low_scores_are_left_out_and_the_limit_is_reported():
    model = eager("mask_rcnn")  # an untrained mask score of the other detector is 0
    every = predict_soft(model, NOISE)
    assert all(one.capped for one in every)
    best = predict_soft(model, NOISE, least_score=float(np.median(every[0].scores)))
    assert 0 < len(best[0].scores) < len(every[0].scores)
    assert set(best[0].scores) <= set(every[0].scores)


def test_a_tile_without_detections_is_empty(model):
    (found,) = predict_soft(model, NOISE[:1], least_score=1.1)
    assert len(found.scores) == len(found.boxes) == len(found.masks) == 0
