"""Prediction: the same in any batches, in the image's own pixels, and as COCO's tools want it."""

import numpy as np
import pytest
import torch
from wafer.detector.toy_sections import TINY, TINY_DESIGN, change_truth, toy_folder

from emseg.errors import InputError, UsageError
from emseg.files import read_json, write_json
from emseg.wafer.detector.detector_build import build_design
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_prediction import predict, predict_folder
from emseg.wafer.scores import read_detections, read_truth

NOISE = np.random.default_rng(0).integers(0, 255, (5, 64, 96)).astype(np.uint8)
EAGER = {**TINY, "score_threshold": 0.0, "max_per_image": 10}  # an untrained detector that finds something
pytestmark = pytest.mark.filterwarnings("ignore:.*the most that this detector outputs")


@pytest.fixture(scope="module", params=["mask_rcnn", "ms_rcnn"])
def model(request):
    return build_design(DetectorDesign(detector=request.param, depth=18, size="small", changes=EAGER)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_folder(tmp_path_factory.mktemp("toy"))


def test_detections_do_not_depend_on_the_batches(model):
    for one, other in zip(predict(model, NOISE, batch_size=1), predict(model, NOISE, batch_size=4), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        assert len(one) == 10


def test_the_same_call_gives_the_same_detections(model):
    for one, other in zip(predict(model, NOISE), predict(model, iter(NOISE)), strict=True):
        assert one.coco(0, [1, 2, 3, 4]) == other.coco(0, [1, 2, 3, 4])


def test_detections_come_best_first_with_scores_from_0_to_1_and_lie_in_the_image(model):
    with torch.no_grad():
        if hasattr(model.roi_head, "mask_iou_head"):  # a regression that has left [0, 1]
            model.roi_head.mask_iou_head.fc_mask_iou.bias.add_(5.0)
    for found in predict(model, NOISE):
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.min() >= 0
        assert found.scores.max() <= 1
        assert (found.boxes[:, :2] >= 0).all()
        assert (found.boxes[:, 2] <= 64).all()
        assert (found.boxes[:, 3] <= 96).all()
        assert found.mask(0).shape == (64, 96)


def test_a_scaled_image_has_its_detections_in_its_own_pixels(model):
    (found,) = predict(model, NOISE[:1], scale=192)
    assert found.mask(0).shape == (64, 96)
    assert found.boxes[:, 3].max() <= 96


def test_masks_lie_in_their_boxes(model):
    for found in predict(model, NOISE):
        for place, (top, left, bottom, right) in enumerate(found.boxes):
            rows, columns = np.nonzero(found.mask(place))
            if len(rows):
                assert rows.min() >= top - 1.5
                assert rows.max() <= bottom + 1
                assert columns.min() >= left - 1.5
                assert columns.max() <= right + 1


def test_the_results_of_a_folder_survive_a_file_and_suit_the_scores(model, folder, tmp_path):
    results = predict_folder(model, folder, "crops")
    write_json(tmp_path / "results.json", results)
    assert read_json(tmp_path / "results.json") == results
    truth = read_truth(folder / "annotations" / "crops" / "validation.json")
    assert len(read_detections(results, truth)) == len(results) > 0


@pytest.mark.filterwarnings("error")
def test_reaching_the_most_detections_is_reported_and_said_once(model):
    """Whoever counts sections must learn that there may be more."""
    with pytest.warns(UserWarning, match="5 of 5 images have 10 detections, the most that this detector outputs"):
        found = predict(model, NOISE)
    assert all(one.at_limit for one in found)
    strict = build_design(DetectorDesign(depth=18, size="small", changes={**TINY, "score_threshold": 1.0}))
    assert not predict(strict, NOISE[:1])[0].at_limit


@pytest.mark.parametrize(("size", "n_sections"), [("paper", 162), ("small", 70)])
def test_a_dense_tile_has_fewer_sections_than_the_detector_can_output(size, n_sections):
    """The paper's tiles have up to 162 sections; 70 of 60 px fill a tile of 512 px."""
    numbers = DetectorDesign(size=size).numbers
    assert numbers.max_per_image >= 5 * n_sections
    assert numbers.test_proposals >= 5 * n_sections


def test_an_image_without_any_detection_is_an_empty_list():
    strict = build_design(DetectorDesign(depth=18, size="small", changes={**TINY, "score_threshold": 1.0}))
    (found,) = predict(strict, NOISE[:1])
    assert len(found) == 0
    assert found.coco(1, [1]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), dtype=np.uint16), r"images must be 8-bit arrays \[row, column\]; image 0 is uint16"),
        (np.zeros((64, 64)), "image 0 is float64"),
        (np.zeros((64, 64, 3), dtype=np.uint8), r"image 0 is uint8 of shape \[64, 64, 3\]"),
        (np.zeros((0, 64), dtype=np.uint8), r"of shape \[0, 64\]"),
    ],
)
def test_an_array_that_is_no_grey_image_is_refused(model, image, message):
    with pytest.raises(InputError, match=message):
        predict(model, [image])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
        ({"precision": "fp8"}, "`precision` must be one of"),
    ],
)
def test_a_wrong_request_is_refused(model, options, message):
    with pytest.raises(UsageError, match=message):
        predict(model, NOISE, **options)


def test_a_detector_of_other_classes_is_refused(folder):
    design = DetectorDesign(depth=18, size="small", changes=TINY, num_classes=1)
    with pytest.raises(UsageError, match=r"it knows 1, .* has 4"):
        predict_folder(build_design(design), folder, "crops")


def test_an_image_of_another_size_than_its_annotations_is_refused(tmp_path):
    folder = toy_folder(tmp_path / "toy")
    change_truth(folder, "validation", "height", 100)
    with pytest.raises(InputError, match=r"has 64 x 64 pixels .* gives 100 x 64"):
        predict_folder(build_design(TINY_DESIGN), folder, "crops")
