"""The explanation of average precision agrees with pycocotools, and its slider shows every rank."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from reference.coco_scores import textbook_average_precision

from chapters.drawing.detections import DETECTIONS, SCORES, SECTIONS, coco_ap50, plot_detectors, ranked_list

IS_RIGHT = np.array((True, True, False, False, True))


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the IoU of two boxes x, y, width, height, counted on a fine grid."""
    grid = np.arange(0, 120, 0.5) + 0.25
    masks = []
    for x, y, width, height in (first, second):
        masks.append(((grid > y) & (grid < y + height))[:, None] & ((grid > x) & (grid < x + width)))
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def test_the_example_has_a_repeated_and_a_poor_detection():
    """Three detections are correct, one repeats a section that is taken, one overlaps too little."""
    iou = np.array([[box_iou(one, section) for section in SECTIONS] for one in DETECTIONS])
    assert (iou.max(axis=1) >= 0.5).tolist() == [True, True, True, False, True]
    assert iou[0].argmax() == iou[2].argmax()
    assert coco_ap50(SECTIONS, DETECTIONS, SCORES) == pytest.approx(
        textbook_average_precision(list(zip(SCORES, IS_RIGHT, strict=True)), len(SECTIONS))
    )


def test_pycocotools_sees_a_better_or_worse_list():
    """Perfect detections have AP 1; without a correct one it is 0."""
    assert coco_ap50(SECTIONS, SECTIONS, SCORES[:4]) == pytest.approx(1.0)
    assert coco_ap50(SECTIONS, SECTIONS + 60, SCORES[:4]) == pytest.approx(0.0)


def test_the_slider_admits_one_detection_at_a_time():
    """Six frames; precision falls with the wrong ones, and the alternative texts state AP."""
    iou = np.where(IS_RIGHT[:, None], 0.9, 0.4) * np.ones((5, 4))
    figure = ranked_list(iou, IS_RIGHT)
    alts = re.findall(r'alt="([^"]+)"', figure.html)
    ap = [float(re.search(r"AP ([\d.]+) %", alt)[1]) for alt in alts]
    assert ap == [0.0, 25.7, 50.5, 50.5, 50.5, 65.3]
    assert [re.search(r"(\d+) of them correct", alt)[1] for alt in alts[1:]] == ["1", "2", "2", "2", "3"]
    assert "score 0.66 or more" in figure.text
    assert not plt.get_fignums()


def test_only_the_second_detector_scores_its_masks():
    """Both rows share their blocks; the lower one has the branch for the mask's IoU."""
    figure = plot_detectors()
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("class and box") == texts.count("mask") == 2
    assert texts.count("mask IoU") == texts.count("×") == 1
    plt.close(figure)
