"""Our scores are COCO's, for all images and for every resample of them; what cannot be scored is named."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.coco_scores import (
    coco_evaluation,
    coco_scores,
    textbook_average_precision,
    with_images_drawn,
)
from wafer.section_scenes import CLASSES, SIZE, detection, encoded, random_scene, rectangle, truth_of

from emseg.errors import InputError, UsageError
from emseg.intervals import percentile_interval
from emseg.wafer.scores import (
    METRICS,
    average_precision,
    match,
    read_detections,
    read_truth,
    score_detections,
)
from emseg.wafer.scores.average_precision import precision_curve
from emseg.wafer.scores.coco_masks import decoded, run_lengths
from emseg.wafer.scores.detection_scores import COCO_MAX_DETECTIONS, metric_values, resample_weights

Scene = tuple[dict[str, Any], list[dict[str, Any]]]


def as_coco(values: list[float | None]) -> list[float]:
    """Return percents as COCO's shares, -1 for None."""
    return [-1.0 if value is None else value / 100 for value in values]


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Return detections equal to the truth."""
    return [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "segmentation": one["segmentation"],
            "score": 0.9,
        }
        for one in truth["annotations"]
        if not one["iscrowd"]
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crowds", [False, True])
def test_scores_are_pycocotools(seed: int, crowds: bool) -> None:
    """All six, with crowds, an empty class, an image without truth, and areas without regions."""
    truth, found = random_scene(seed, crowds=crowds)
    scores = score_detections(truth, found, n_resamples=0)
    ours = as_coco([scores.overall[metric].value for metric in METRICS])
    assert ours == pytest.approx(coco_scores(truth, found), abs=1e-12)
    assert 0.05 < ours[0] < 0.9  # the scene is neither hopeless nor solved


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_a_class_are_pycocotools_of_that_class_alone(seed: int) -> None:
    truth, found = random_scene(seed)
    scores = score_detections(truth, found, n_resamples=0)
    precision = coco_evaluation(truth, found).eval["precision"][..., -1]  # threshold, recall, class, area
    for label, name in enumerate(CLASSES):
        selected = [
            precision[:, :, label, 0],
            precision[0, :, label, 0],
            precision[5, :, label, 0],
            *(precision[:, :, label, area] for area in (1, 2, 3)),
        ]
        expected = [part.mean() for part in selected]
        assert as_coco([scores.by_class[name][metric].value for metric in METRICS]) == pytest.approx(
            expected, abs=1e-12
        )


def test_precision_curves_are_pycocotools() -> None:
    truth, found = random_scene(1)
    known = read_truth(truth)
    matches = match(known, read_detections(found, known))
    expected = coco_evaluation(truth, found).eval["precision"][..., 0, -1]
    for threshold in (0, 5, 9):
        for label in range(3):
            assert precision_curve(matches, label, threshold) == pytest.approx(expected[threshold, :, label], abs=1e-12)
    assert np.isnan(precision_curve(matches, 3, 0)).all()


@pytest.mark.parametrize("seed", range(3))
def test_class_agnostic_scores_are_pycocotools_without_categories(seed: int) -> None:
    truth, found = random_scene(seed)
    scores = score_detections(truth, found, n_resamples=0, class_agnostic=True)
    ours = as_coco([scores.overall[metric].value for metric in METRICS])
    assert ours == pytest.approx(coco_scores(truth, found, use_classes=False), abs=1e-12)
    assert scores.class_names == ("section",)


@pytest.mark.parametrize("seed", range(8))
def test_a_resample_is_pycocotools_on_images_that_often(seed: int) -> None:
    """Weights 0, 1, 2, ... give what COCO gives for a data set in which each image stands that often."""
    truth, found = random_scene(seed, n_images=7)
    drawn = np.random.default_rng(seed).multinomial(7, np.full(7, 1 / 7))
    known = read_truth(truth)
    precisions = average_precision(match(known, read_detections(found, known)), drawn[None])
    ours = [float(metric_values(precisions, metric)[0]) for metric in METRICS]
    copied = coco_scores(*with_images_drawn(truth, found, drawn))
    assert as_coco([None if np.isnan(value) else value for value in ours]) == pytest.approx(copied, abs=1e-12)


def test_equal_scores_in_different_images_rank_as_in_pycocotools() -> None:
    """Ties are kept in the order of the images, in the whole and in a resample."""
    truth, found = random_scene(2, n_images=6)
    rng = np.random.default_rng(0)
    for image in range(1, 7):  # within an image scores differ, between images they tie
        own = [one for one in found if one["image_id"] == image]
        for one, score in zip(own, rng.permutation(len(own)), strict=True):
            one["score"] = (1 + float(score)) / 20
    drawn = np.array([2, 0, 1, 3, 0, 0])
    known = read_truth(truth)
    precisions = average_precision(match(known, read_detections(found, known)), np.stack([np.ones(6, int), drawn]))
    ours = metric_values(precisions, "ap") / 100
    assert ours[0] == pytest.approx(coco_scores(truth, found)[0], abs=1e-12)
    assert ours[1] == pytest.approx(coco_scores(*with_images_drawn(truth, found, drawn))[0], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=12, unique_by=lambda one: one[0]),
    st.integers(0, 4),
)
def test_average_precision_is_the_textbooks(outcomes: list[tuple[int, bool]], n_missed: int) -> None:
    """One image a detection, each found exactly or not at all; all IoU thresholds agree."""
    n_regions = sum(is_true for _, is_true in outcomes) + n_missed
    mask, elsewhere = rectangle(10, 10, 20, 20), rectangle(100, 100, 20, 20)
    n_images = len(outcomes) + n_missed + 1
    holding = [i for i, (_, is_true) in enumerate(outcomes, start=1) if is_true]
    missed = range(len(outcomes) + 1, n_images)
    regions = [(i, 1, mask) for i in [*holding, *missed]] + ([] if n_regions else [(n_images, 2, mask)])
    found = [
        detection(i, 1, mask if is_true else elsewhere, score / 10**6)
        for i, (score, is_true) in enumerate(outcomes, start=1)
    ]
    score = score_detections(truth_of(regions, n_images), found, n_resamples=0).by_class["good"]["ap"]
    if n_regions == 0:
        assert score.value is None
    else:
        assert score.value == pytest.approx(100 * textbook_average_precision(outcomes, n_regions), abs=1e-10)


def test_a_perfect_prediction_scores_100_in_every_resample() -> None:
    truth, _ = random_scene(0)
    scores = score_detections(truth, perfect(truth), n_resamples=50)
    for name, score in scores.overall.items():
        assert score.value == pytest.approx(100), name
        assert score.interval == pytest.approx((100, 100)), name


def test_no_detections_score_zero_and_empty_classes_nothing() -> None:
    truth, _ = random_scene(0)
    scores = score_detections(truth, [], n_resamples=20)
    assert scores.overall["ap"].value == 0
    assert scores.overall["ap"].interval == (0, 0)
    assert scores.by_class["damaged"]["ap"].value is None
    assert scores.by_class["damaged"]["ap"].interval is None
    assert scores.by_class["damaged"]["ap"].n_regions == 0
    assert scores.n_detections == 0


def test_an_area_without_regions_has_no_score() -> None:
    mask = rectangle(0, 0, 20, 20)
    scores = score_detections(truth_of([(1, 1, mask)], 2), [detection(1, 1, mask, 0.5)], n_resamples=10)
    assert scores.overall["ap_small"].value == pytest.approx(100)
    assert scores.overall["ap_small"].n_regions == 1
    assert scores.overall["ap_medium"].value is None
    assert scores.overall["ap_large"].value is None


def test_a_crowd_is_neither_found_nor_missed() -> None:
    """Detections within it cost nothing, and without them nothing is missed."""
    mask, crowd = rectangle(0, 0, 40, 40), rectangle(80, 0, 60, 120)
    truth = truth_of([(1, 1, mask), (1, -1, crowd)], 1)
    hit = detection(1, 1, mask, 0.5)
    within = [detection(1, 1, rectangle(85, 10 * i, 30, 30), 0.9) for i in range(5)]
    assert score_detections(truth, [hit, *within], n_resamples=0).overall["ap"].value == pytest.approx(100)
    assert score_detections(truth, [hit], n_resamples=0).overall["ap"].value == pytest.approx(100)


def test_only_the_best_scores_of_an_image_count() -> None:
    mask, elsewhere = rectangle(0, 0, 40, 40), rectangle(100, 100, 40, 40)
    truth = truth_of([(1, 1, mask)], 1)
    found = [detection(1, 1, elsewhere, 0.9), detection(1, 1, mask, 0.5)]
    assert score_detections(truth, found, n_resamples=0, max_detections=1).overall["ap"].value == 0
    assert score_detections(truth, found, n_resamples=0, max_detections=2).overall["ap"].value == pytest.approx(50)


def test_all_detections_count_unless_cocos_hundred_are_asked_for() -> None:
    """A dense tile has more than 100 sections: none of them may be lost to the score in silence."""
    squares = [rectangle(10 * (k // 11), 10 * (k % 11), 8, 8) for k in range(121)]
    truth = truth_of([(1, 1, mask) for mask in squares], 1)
    found = [detection(1, 1, mask, 0.9) for mask in squares]
    whole = score_detections(truth, found, n_resamples=0)
    capped = score_detections(truth, found, n_resamples=0, max_detections=COCO_MAX_DETECTIONS)
    assert (whole.max_detections, capped.max_detections) == (None, 100)
    assert whole.overall["ap"].value == pytest.approx(100)
    assert capped.overall["ap"].value == pytest.approx(100 * 83 / 101)  # of 101 recalls, those up to 100 / 121


def test_a_region_of_id_zero_can_be_found() -> None:
    """Pycocotools takes id 0 for no match; many tools number from 0."""
    mask = rectangle(0, 0, 40, 40)
    truth = truth_of([(1, 1, mask)], 1)
    truth["annotations"][0]["id"] = 0
    found = [detection(1, 1, mask, 0.5)]
    assert coco_scores(truth, found)[0] == 0
    assert score_detections(truth, found, n_resamples=0).overall["ap"].value == pytest.approx(100)


def test_polygons_and_run_lengths_and_files_score_alike(tmp_path) -> None:
    """A truth as polygons, as lists of runs, as codes, in a file or not."""
    mask = rectangle(10, 20, 30, 40)
    corners = [20, 10, 60, 10, 60, 40, 20, 40]
    runs = np.diff(np.flatnonzero(np.diff(np.r_[-1, mask.astype(int).flatten("F"), -1]))).tolist()
    found = [detection(1, 1, rectangle(12, 20, 30, 40), 0.5)]
    values = []
    for segmentation in ([corners], {"size": [SIZE, SIZE], "counts": runs}, encoded(mask)):
        truth = truth_of([(1, 1, mask)], 1)
        truth["annotations"][0]["segmentation"] = segmentation
        values.append(score_detections(truth, found, n_resamples=0).overall["ap"].value)
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
    values.append(score_detections(tmp_path / "truth.json", tmp_path / "found.json", n_resamples=0).overall["ap"].value)
    assert values == pytest.approx([values[0]] * 4)
    assert 50 < values[0] < 100


def test_the_callers_objects_stay_as_they_are() -> None:
    truth, found = random_scene(0)
    before = copy.deepcopy((truth, found))
    score_detections(truth, found, n_resamples=5)
    assert (truth, found) == before


def test_interval_is_of_the_resampled_scores() -> None:
    """It is the central 95 % of scores of the weights drawn, recomputed here one by one."""
    truth, found = random_scene(4)
    known = read_truth(truth)
    matches = match(known, read_detections(found, known))
    weights = resample_weights(known, n_resamples=200, seed=7)
    one_by_one = [metric_values(average_precision(matches, weight[None]), "ap50")[0] for weight in weights]
    score = score_detections(truth, found, n_resamples=200, seed=7).overall["ap50"]
    assert score.interval == pytest.approx(np.quantile(one_by_one, [0.025, 0.975]))
    assert score.interval[0] < score.value < score.interval[1]


def test_the_interval_covers_the_score_of_more_images_about_as_often_as_it_says() -> None:
    """Sixty sets of 40 images each; the score of all of them together lies in 85 to 100 % of the intervals."""
    rng = np.random.default_rng(0)
    mask, elsewhere = rectangle(10, 10, 30, 30), rectangle(100, 100, 30, 30)
    right, wrong = encoded(mask), encoded(elsewhere)

    def outcome(n: int) -> Scene:
        truth = truth_of([(i, 1, mask) for i in range(1, n + 1)], n)
        found = [
            {"image_id": i, "category_id": 1, "segmentation": right if hit else wrong, "score": score}
            for i, (hit, score) in enumerate(zip(rng.random(n) < 0.7, rng.random(n), strict=True), start=1)
        ]
        return truth, found

    population = score_detections(*outcome(4000), n_resamples=0).overall["ap50"].value
    intervals = [score_detections(*outcome(40), n_resamples=200, seed=k).overall["ap50"].interval for k in range(60)]
    covered = np.mean([low <= population <= high for low, high in intervals])
    assert covered >= 0.85


def test_drawing_wafers_keeps_their_images_together() -> None:
    known = read_truth(random_scene(0, n_images=12)[0])
    weights = resample_weights(known, n_resamples=40, seed=0, cluster="wafer")
    for wafer in set(known.wafers):
        own = weights[:, [name == wafer for name in known.wafers]]
        assert (own == own[:, :1]).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_images_of_one_wafer_that_share_their_luck_need_wafers_drawn() -> None:
    """Where all tiles of a wafer succeed or fail together, the interval over wafers is the wider one."""
    mask = rectangle(10, 10, 30, 30)
    truth = truth_of([(i, 1, mask) for i in range(1, 31)], 30)  # three wafers
    found = [detection(i, 1, mask, 0.9) for i in range(1, 31) if (i - 1) % 3]
    widths = []
    for cluster in ("image", "wafer"):
        low, high = score_detections(truth, found, cluster=cluster).overall["ap"].interval
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_the_same_seed_draws_the_same_images() -> None:
    truth, found = random_scene(3)
    first, again, other = (score_detections(truth, found, n_resamples=100, seed=s) for s in (1, 1, 2))
    assert first.overall == again.overall
    assert first.overall != other.overall


def test_class_agnostic_scores_forgive_wrong_classes() -> None:
    truth, _ = random_scene(3, crowds=False)
    right = perfect(truth)
    wrong = [{**one, "category_id": one["category_id"] % 4 + 1} for one in right]
    scores = {
        name: score_detections(truth, one, n_resamples=0).overall["ap"].value
        for name, one in (("right", right), ("wrong", wrong))
    }
    merged = score_detections(truth, wrong, n_resamples=0, class_agnostic=True).overall["ap"].value
    assert scores["wrong"] < 10
    assert merged == pytest.approx(scores["right"]) == pytest.approx(100)


def test_interval_leaves_out_resamples_without_a_score() -> None:
    assert percentile_interval(np.array([np.nan, 1.0, 1.0, np.nan])) == (1, 1)
    assert percentile_interval(np.array([np.nan, 1.0])) is None


CODE = encoded(rectangle(60, 60, 40, 40))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_compressed_code_is_read_as_pycocotools_wrote_it(height: int, width: int, seed: int, share: float) -> None:
    """The runs, counted in the mask itself, column by column, beginning with zeros."""
    mask = np.random.default_rng(seed).random((height, width)) < share
    steps = np.flatnonzero(np.diff(np.r_[0, mask.astype(int).flatten("F")]))
    expected = np.diff(np.r_[0, steps, mask.size])
    found = run_lengths(encoded(mask)["counts"].encode())
    assert found.tolist() == expected.tolist()
    assert np.array_equal(decoded({"size": [height, width], "counts": encoded(mask)["counts"].encode()}), mask)


def one_found() -> Scene:
    mask = rectangle(0, 0, 40, 40)
    return truth_of([(1, 1, mask)], 2), [detection(1, 1, mask, 0.5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, r"`image_id` must be one that the truth has \(1, 2\); detection 0 has 9"),
        ({"category_id": 0}, r"`category_id` must be one that the truth has \(1, 2, 3, 4\); detection 0 has 0"),
        ({"score": float("nan")}, "a score must be a number from 0 to 1; detection 0 has nan"),
        ({"score": 1.5}, "from 0 to 1; detection 0 has 1.5"),
        ({"score": -0.1}, "from 0 to 1; detection 0 has -0.1"),
        ({"score": "0.5"}, "a score must be a number"),
        ({"score": True}, "a score must be a number"),
        ({"segmentation": encoded(np.ones((4, 5)))}, "image's size, 160 x 160 .*; detection 0 has 4 x 5"),
        ({"segmentation": {"size": [SIZE, SIZE]}}, "needs `counts`; detection 0"),
        ({"segmentation": {"size": [SIZE, SIZE], "counts": [3, 4]}}, "must add up to its size; those of detection 0"),
        *(
            ({"segmentation": {**CODE, "counts": counts}}, "must add up to its size; those of detection 0")
            for counts in (CODE["counts"][:-3], CODE["counts"][:5], "", "zzzz", CODE["counts"] + "P2", b"\xff\xff")
        ),
        ({"image_id": [1]}, r"`image_id` must be one that the truth has .*detection 0 has \[1\]"),
        ({"segmentation": [[0, 0, 1, 0, 1, 1]]}, "must be run-length encoded; detection 0"),
    ],
)
def test_bad_detections_are_named(change: dict[str, Any], message: str) -> None:
    truth, found = one_found()
    with pytest.raises(InputError, match=message):
        score_detections(truth, [{**found[0], **change}])


@pytest.mark.parametrize("key", ["image_id", "category_id", "segmentation", "score"])
def test_an_incomplete_detection_is_named(key: str) -> None:
    truth, found = one_found()
    broken = {name: value for name, value in found[0].items() if name != key}
    with pytest.raises(InputError, match=f"each detection must have `{key}`; detection 1 of the list"):
        score_detections(truth, [found[0], broken])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("annotations", {"image_id": 7}, "annotation 1 of the truth belongs to image 7, which is not in the list"),
        ("annotations", {"category_id": 7}, "annotation 1 of the truth is of category 7, which is not one of 1"),
        ("annotations", {"segmentation": []}, "must be polygons .*annotation 1 has neither"),
        ("annotations", {"segmentation": [[0, 0, 5, 5]]}, "must be polygons .*annotation 1 has neither"),
        ("annotations", {"segmentation": [[0, 0, 5, 5, float("nan"), 1]]}, "annotation 1 has neither"),
        ("annotations", {"segmentation": [[0, 0, 5, 5, "x", 1]]}, "annotation 1 has neither"),
        ("annotations", {"segmentation": [[0, 0, 5, 5, 1e12, 1]]}, "annotation 1 has neither"),
        ("annotations", {"segmentation": {"size": None, "counts": [1]}}, "annotation 1 has none. Resize masks"),
        ("annotations", {"segmentation": {"size": [160, 160], "counts": ["x"]}}, "runs of a mask must add up"),
        ("annotations", {"segmentation": encoded(np.ones((9, 9)))}, "image's size.*annotation 1 has 9 x 9"),
        ("annotations", {"iscrowd": 1}, "must contain at least one region to find"),
        ("images", {"id": "a"}, "`id` must be a whole number; image 0 in the truth has 'a'"),
        ("annotations", {"id": None}, "`id` must be a whole number; annotation 0 in the truth has None"),
        ("images", {"height": 0}, "`height` must be a whole number of at least 1; .* in the truth has 0"),
        ("images", {"id": 2}, "image ids must be unique; the truth has 2"),
        ("categories", {"id": 2}, "category ids must be unique; the truth has 2"),
        ("categories", {"name": "fold"}, "category names must be unique; the truth has fold"),
    ],
)
def test_a_bad_truth_is_named(part: str, change: dict[str, Any], message: str) -> None:
    truth, found = one_found()
    truth[part][0].update(change)
    with pytest.raises(InputError, match=message):
        score_detections(truth, found)


def test_a_truth_without_regions_or_parts_is_named(tmp_path) -> None:
    truth, found = one_found()
    with pytest.raises(InputError, match="at least one region to find"):
        score_detections({**truth, "annotations": []}, [])
    with pytest.raises(InputError, match="its list 'categories' is missing"):
        score_detections({"images": [], "annotations": []}, found)
    with pytest.raises(InputError, match="annotation ids must be unique"):
        score_detections({**truth, "annotations": truth["annotations"] * 2}, found)
    with pytest.raises(InputError, match=r"missing\.json does not exist"):
        score_detections(tmp_path / "missing.json", found)
    (tmp_path / "cut.json").write_text('{"images": [', encoding="utf-8")
    with pytest.raises(InputError, match=r"cut\.json is not valid JSON"):
        score_detections(tmp_path / "cut.json", found)


def test_bad_requests_are_named() -> None:
    truth, found = one_found()
    with pytest.raises(UsageError, match=r"must be one of 'image', 'wafer'; got 'wafers'\. Did you mean 'wafer'"):
        score_detections(truth, found, cluster="wafers")
    with pytest.raises(UsageError, match="`n_resamples` must be a whole number of at least 0"):
        score_detections(truth, found, n_resamples=-1)
    with pytest.raises(UsageError, match="`max_detections` must be a whole number of at least 1"):
        score_detections(truth, found, max_detections=0)
    truth["images"][1]["wafer"] = truth["images"][0]["wafer"]
    with pytest.raises(InputError, match="at least 2; all images are of wafer 0"):
        score_detections(truth, found, cluster="wafer")
    del truth["images"][1]["wafer"]
    with pytest.raises(InputError, match="must name its `wafer` to draw wafers; image 2 does not"):
        score_detections(truth, found, cluster="wafer")
    one_image = {**truth, "images": truth["images"][:1]}
    assert score_detections(one_image, found).overall["ap"].interval is None
