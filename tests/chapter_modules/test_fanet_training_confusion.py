"""What is taken for what, and which errors are the worst."""

from typing import Any

import numpy as np
import pytest
from reference.confusion import Pixels, textbook_confusion
from wafer.section_scenes import detection, random_scene, rectangle, truth_of

from chapters.fanet_training import confusion_matrix, paper_scores, report_scores
from emseg.errors import InputError, UsageError
from emseg.reported import load_reported, select_reported
from emseg.runs.session import Run
from emseg.wafer.scores import failures, score_detections
from emseg.wafer.scores.coco_masks import decoded

TRUE_MASK = rectangle(20, 20, 40, 40)


def pixels(entry: dict[str, Any]) -> Pixels:
    """Return the mask of a COCO entry as a set of (row, column)."""
    rle = entry["segmentation"]
    mask = decoded({"size": rle["size"], "counts": rle["counts"].encode()})
    return frozenset(map(tuple, np.argwhere(mask).tolist()))


@pytest.mark.parametrize(("iou", "score"), [(0.5, 0.5), (0.3, 0.0), (0.75, 0.2), (0.5, 1.0)])
def test_confusion_is_the_textbooks(iou: float, score: float) -> None:
    truth, found = random_scene(3, n_images=6, crowds=False, n_classes=4)
    images = [
        (
            [(one["category_id"] - 1, pixels(one)) for one in truth["annotations"] if one["image_id"] == image["id"]],
            [(one["category_id"] - 1, one["score"], pixels(one)) for one in found if one["image_id"] == image["id"]],
        )
        for image in truth["images"]
    ]
    matrix = confusion_matrix(truth, found, iou=iou, score=score)
    assert matrix.counts.tolist() == textbook_confusion(images, 4, iou=iou, score=score)
    assert (matrix.counts.diagonal()[:-1].sum() > 0) == (score < 1)


def test_every_section_and_every_detection_counts_once() -> None:
    truth, found = random_scene(5, crowds=False)
    counts = confusion_matrix(truth, found, score=0.4).counts
    assert counts[:-1].sum() == len(truth["annotations"])
    assert counts[:, :-1].sum() == sum(one["score"] >= 0.4 for one in found)
    assert counts[-1, -1] == 0


def test_the_matrix_says_what_it_shows() -> None:
    """One good found as fold, one found right, one missed, one false alarm."""
    other, third = rectangle(100, 20, 40, 40), rectangle(20, 100, 40, 40)
    truth = truth_of([(1, 1, TRUE_MASK), (1, 2, other), (1, 4, third)], 1)
    found = [
        detection(1, 3, TRUE_MASK, 0.9),
        detection(1, 2, other, 0.8),
        detection(1, 1, rectangle(110, 110, 30, 30), 0.7),
        detection(1, 4, third, 0.4),
    ]
    matrix = confusion_matrix(truth, found)
    shown = {
        (row, column): int(matrix.counts[i, k])
        for i, row in enumerate([*matrix.class_names, "nothing there"])
        for k, column in enumerate([*matrix.class_names, "missed"])
        if matrix.counts[i, k]
    }
    assert shown == {
        ("good", "fold"): 1,
        ("incomplete", "incomplete"): 1,
        ("damaged", "missed"): 1,
        ("nothing there", "good"): 1,
    }
    assert matrix.recall == pytest.approx(2 / 3)
    assert matrix.precision == pytest.approx(2 / 3)
    assert matrix.sorting_accuracy == pytest.approx(1 / 2)


def test_without_detections_all_are_missed() -> None:
    matrix = confusion_matrix(truth_of([(1, 1, TRUE_MASK)], 1), [])
    assert matrix.counts[0, -1] == matrix.counts.sum() == 1
    assert (matrix.recall, matrix.precision, matrix.sorting_accuracy) == (0, None, None)


def test_a_detection_within_a_crowd_does_not_count() -> None:
    truth = truth_of([(1, 1, TRUE_MASK), (1, -1, rectangle(80, 0, 70, 150))], 1)
    found = [detection(1, 1, rectangle(90, 10, 30, 30), 0.9), detection(1, 1, rectangle(0, 100, 30, 30), 0.9)]
    counts = confusion_matrix(truth, found).counts
    assert counts[-1, 0] == 1
    assert counts.sum() == 2
    assert [one.kind for one in failures(truth, found)] == ["missed", "false alarm"]


@pytest.mark.parametrize(
    ("found", "kind", "severity", "labels"),
    [
        ([], "missed", 1.0, ("good", None)),
        ([detection(1, 1, TRUE_MASK, 0.3)], "missed", 0.7, ("good", None)),
        ([detection(1, 2, TRUE_MASK, 0.9)], "wrong class", 0.9, ("good", "incomplete")),
        ([detection(1, 1, rectangle(20, 20, 40, 24), 0.9)], "poor outline", 0.4, ("good", "good")),
        ([detection(1, 2, rectangle(20, 20, 40, 8), 0.9)], "poor outline", 0.8, ("good", "incomplete")),
    ],
)
def test_each_error_has_its_kind_and_severity(found, kind, severity, labels) -> None:
    (only,) = failures(truth_of([(1, 1, TRUE_MASK)], 1), found)
    assert only.kind == kind
    assert only.severity == pytest.approx(severity)
    assert (only.truth_label, only.label) == labels
    assert only.box == (20, 20, 40, 40)
    assert only.image_id == 1


def test_false_alarms_and_doubles_are_named_and_ranked() -> None:
    truth = truth_of([(1, 1, TRUE_MASK)], 1)
    found = [
        detection(1, 1, rectangle(100, 110, 20, 30), 0.95),
        detection(1, 1, TRUE_MASK, 0.99),
        detection(1, 1, rectangle(21, 21, 40, 40), 0.6),
    ]
    errors = failures(truth, found)
    assert [(one.kind, one.score) for one in errors] == [("false alarm", 0.95), ("false alarm", 0.6)]
    assert errors[0].box == (100, 110, 20, 30)
    assert errors[0].truth_label is None


def test_a_perfect_prediction_has_no_failures() -> None:
    truth, _ = random_scene(2, crowds=False)
    keys = ("image_id", "category_id", "segmentation")
    assert failures(truth, [{**{key: one[key] for key in keys}, "score": 1.0} for one in truth["annotations"]]) == ()


@pytest.mark.parametrize("seed", range(3))
def test_failures_agree_with_the_confusion_matrix(seed: int) -> None:
    """Wrong classes are its off-diagonal; missed and false alarms lose those that touch each other."""
    truth, found = random_scene(seed)
    counts = confusion_matrix(truth, found).counts
    kinds = [one.kind for one in failures(truth, found)]
    n_touching = sum(one.kind == "poor outline" and one.iou < 0.5 for one in failures(truth, found))
    assert kinds.count("wrong class") == counts[:-1, :-1].sum() - np.trace(counts[:-1, :-1])
    assert kinds.count("missed") == counts[:-1, -1].sum() - n_touching
    assert kinds.count("false alarm") == counts[-1, :-1].sum() - n_touching
    severities = [one.severity for one in failures(truth, found)]
    assert severities == sorted(severities, reverse=True)
    assert 0 <= min(severities) <= max(severities) <= 1


def test_bad_thresholds_and_input_are_named() -> None:
    truth = truth_of([(1, 1, TRUE_MASK)], 1)
    with pytest.raises(UsageError, match="`iou` must be a finite number greater than 0 and at most 1; got 0"):
        confusion_matrix(truth, [], iou=0)
    with pytest.raises(UsageError, match="`score` must be a finite number at least 0 and at most 1; got 50"):
        confusion_matrix(truth, [], score=50)
    with pytest.raises(UsageError, match=r"must ascend between 0 and 1; got 0\.1, 0\.8, 0\.75"):
        failures(truth, [], iou=0.8)
    with pytest.raises(InputError, match="detection 0 has 5"):
        confusion_matrix(truth, [detection(5, 1, TRUE_MASK, 0.5)])


def test_a_run_notes_what_is_defined_in_percent() -> None:
    truth, found = random_scene(1)
    scores = score_detections(truth, found, n_resamples=50)
    run = Run("fanet/fanet_training", seed=0)
    report_scores(run, scores)
    report_scores(run, scores, prefix="region_")
    noted = run.metrics["ap50_good"]
    assert (noted.value, noted.interval) == (
        scores.by_class["good"]["ap50"].value,
        scores.by_class["good"]["ap50"].interval,
    )
    assert (noted.unit, noted.n) == ("%", 12)
    assert {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ap_fold", "ap75_incomplete"} <= set(run.metrics)
    assert not [name for name in run.metrics if "damaged" in name]  # no region of that class
    assert run.metrics["region_ap"].value == run.metrics["ap"].value
    assert "region" in run.metrics["region_ap"].label
    assert run.metrics["n_regions"].value == scores.n_regions


def test_a_run_of_one_class_does_not_say_it_twice() -> None:
    truth = truth_of([(1, 1, TRUE_MASK)], 2, classes=("mag section",))
    run = Run("fanet/fanet_training", seed=0)
    report_scores(run, score_detections(truth, [detection(1, 1, TRUE_MASK, 0.5)]))
    assert sorted(run.metrics) == ["ap", "ap50", "ap75", "ap_medium", "n_regions"]


def test_the_papers_row_is_table_2() -> None:
    row = paper_scores("ms_rcnn", 50, "fanet")
    assert [row[metric].value for metric in row] == [46.6, 60.0, 52.9, 33.7, 53.4, 29.2]
    assert {one.place for one in row.values()} == {"Table 2"}
    every = [paper_scores(d, n, a)["ap"] for d in ("mask_rcnn", "ms_rcnn") for n in (34, 50) for a in CELLS]
    assert every == list(select_reported(load_reported("fanet"), "mask_ap"))
    assert paper_scores("mask_rcnn", 34, "eca") == {}


CELLS = ("none", "se", "fca", "fanet")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (("mask_rcn", 34, "se"), "`detector` must be one of 'mask_rcnn', 'ms_rcnn'; got 'mask_rcn'. Did you mean"),
        (("mask_rcnn", 18, "se"), "`depth` must be one of '34', '50'; got '18'"),
        (("mask_rcnn", 34, "fcanet"), "`attention` must be one of 'none', 'se', 'fca', 'fanet', 'eca'"),
    ],
)
def test_a_cell_that_the_paper_cannot_have_is_named(cell: tuple[str, int, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        paper_scores(*cell)
