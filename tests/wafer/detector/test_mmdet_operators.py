"""The stand-ins for mmcv's compiled operators, against their definitions and against torchvision."""

import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.detection_operators import intersection_over_union, roi_aligned, suppressed

from emseg.wafer.detector import mmdet_operators as operators
from emseg.wafer.detector.mmdet_operators import nms, provide_operators

assert provide_operators(), "these tests are about the stand-ins; a compiled mmcv is installed"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv's own, of no interest here
    from mmcv.ops import RoIAlign, batched_nms, roi_align
    from mmcv.ops import nms as mmcv_nms


def random_boxes(rng: np.random.Generator, n: int, size: float = 64.0) -> torch.Tensor:
    """Boxes of which many overlap, on whole and half pixels so that areas are exact."""
    corner = rng.integers(0, int(size), (n, 2)) / 2
    side = rng.integers(0, 40, (n, 2)) / 2
    return torch.from_numpy(np.concatenate([corner, corner + side], axis=1).astype(np.float32))


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_the_boxes_that_stay_are_those_of_the_definition(threshold, offset):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        boxes = random_boxes(rng, 60)
        scores = torch.from_numpy(rng.permutation(60).astype(np.float32) / 60)
        expected = suppressed(boxes.double().numpy(), scores.numpy(), threshold, offset)
        assert nms(boxes, scores, threshold, offset).tolist() == expected


def test_suppression_without_offset_is_torchvisions():
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 500, 256), torch.from_numpy(rng.random(500, dtype=np.float32))
    assert torch.equal(nms(boxes, scores, 0.5), torchvision.ops.nms(boxes, scores, 0.5))


def test_an_offset_of_one_pixel_decides_between_boxes_that_touch():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 9.0, 9.0, 18.0]])
    scores = torch.tensor([0.9, 0.8])
    overlap = intersection_over_union(boxes[0].numpy(), boxes[1].numpy(), 1.0)
    assert overlap == pytest.approx(10 / 190)
    assert nms(boxes, scores, 0.01).tolist() == [0, 1]
    assert nms(boxes, scores, 0.01, offset=1).tolist() == [0]


def test_no_box_gives_no_box():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_mmcv_reaches_the_stand_in_with_its_score_threshold_and_largest_number():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.05])
    kept, places = mmcv_nms(boxes, scores, 0.5, score_threshold=0.1, max_num=2)
    assert places.tolist() == [0, 2]
    assert torch.equal(kept[:, 4], scores[places])


def test_boxes_of_different_classes_do_not_suppress_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]])
    scores, classes = torch.tensor([0.7, 0.9, 0.8]), torch.tensor([0, 1, 0])
    _, places = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.5})
    assert places.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_are_compared_in_float32(dtype):
    rng = np.random.default_rng(1)
    boxes = random_boxes(rng, 80, 100)
    scores = torch.from_numpy(rng.permutation(80).astype(np.float32) / 128)
    rounded_boxes, rounded = boxes.to(dtype), scores.to(dtype)
    assert torch.equal(nms(rounded_boxes, rounded, 0.4), nms(rounded_boxes.float(), rounded.float(), 0.4))


REGIONS = {
    "inside": [0, 8.0, 12.0, 40.0, 36.0],
    "second image": [1, 3.2, 5.9, 29.7, 14.3],
    "across the edge": [0, -10.0, -6.5, 15.0, 20.0],
    "far outside": [1, 200.0, 200.0, 240.0, 230.0],
    "no area": [0, 20.0, 20.0, 20.0, 20.0],
    "thinner than a pixel": [0, 9.0, 9.0, 9.5, 41.0],
    "the whole image": [1, 0.0, 0.0, 64.0, 48.0],
}


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("grid", [(7, 7), (3, 5)])
def test_the_cells_are_those_of_the_definition(grid, samples, aligned):
    rng = np.random.default_rng(2)
    maps = rng.standard_normal((2, 3, 12, 16))
    rois = np.array(list(REGIONS.values()))
    expected = roi_aligned(maps, rois, grid, 0.25, samples, aligned)
    found = roi_align(torch.from_numpy(maps), torch.from_numpy(rois), grid, 0.25, samples, "avg", aligned)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aligned", [True, False])
def test_values_and_derivatives_are_torchvisions(aligned):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 32, 32, generator=generator)
    corners = 128 * torch.rand(40, 2, generator=generator)
    sides = 90 * torch.rand(40, 2, generator=generator)
    rois = torch.cat([torch.randint(0, 2, (40, 1), generator=generator), corners, corners + sides], dim=1)
    weight = torch.randn(40, 8, 7, 7, generator=generator)
    results = []
    for operator in (
        lambda x: roi_align(x, rois, (7, 7), 0.125, 2, "avg", aligned),
        lambda x: torchvision.ops.roi_align(x, rois, (7, 7), 0.125, 2, aligned),
    ):
        leaf = maps.clone().requires_grad_(True)
        cells = operator(leaf)
        (cells * weight).sum().backward()
        results.append((cells.detach(), leaf.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=2e-5)  # another order of sums
    assert results[0][1].abs().max() > 0


def test_the_derivative_is_that_of_the_values():
    maps = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    rois = torch.tensor([[0, 3.0, 4.0, 20.0, 19.0], [0, -4.0, -4.0, 9.0, 30.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (3, 2), 0.25, 2, "avg", True), (maps,))


@given(seed=st.integers(0, 2**16), aligned=st.booleans())
@settings(max_examples=15, deadline=None)
def test_cells_of_a_constant_map_are_that_constant_inside(seed, aligned):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(4, 40, (5, 2))
    rois = torch.from_numpy(np.hstack([np.zeros((5, 1)), corners, corners + rng.uniform(4, 20, (5, 2))])).float()
    cells = RoIAlign((7, 7), 0.25, 0, aligned=aligned)(torch.full((1, 1, 16, 16), 3.0), rois)
    torch.testing.assert_close(cells, torch.full_like(cells, 3.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_sampled_in_float32_and_rounded_once(dtype):
    maps = torch.randn(1, 4, 20, 20, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_(True)
    rois = torch.tensor([[0, 5.0, 9.0, 60.0, 71.0]])
    with torch.autocast("cpu", dtype=dtype):
        cells = roi_align(maps, rois, (7, 7), 0.25, 2, "avg", True)
    exact = torchvision.ops.roi_align(maps.detach().float(), rois, (7, 7), 0.25, 2, True)
    assert cells.dtype == dtype
    assert torch.equal(cells.detach(), exact.to(dtype))
    cells.float().sum().backward()
    assert maps.grad is not None
    assert maps.grad.dtype == dtype


def test_the_maps_memory_order_does_not_matter():
    maps = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    rois = torch.tensor([[1, 5.0, 9.0, 60.0, 51.0]])
    last = maps.to(memory_format=torch.channels_last)
    expected = roi_align(maps, rois, (7, 7), 0.25, 2, "avg", True)
    torch.testing.assert_close(roi_align(last, rois, (7, 7), 0.25, 2, "avg", True), expected)


def test_no_region_gives_no_cell():
    assert roi_align(torch.zeros(1, 2, 8, 8), torch.zeros(0, 5), (7, 7), 0.25, 2, "avg", True).shape == (0, 2, 7, 7)


def test_any_other_operator_is_named_in_the_error():
    from mmcv.ops import soft_nms

    with pytest.raises(NotImplementedError, match="'softnms' of mmcv is compiled"):
        soft_nms(torch.zeros(1, 4), torch.zeros(1))


def test_the_maximum_in_place_of_the_mean_is_refused():
    with pytest.raises(NotImplementedError, match="maximum instead of the mean"):
        roi_align(torch.zeros(1, 2, 8, 8), torch.zeros(1, 5), (7, 7), 0.25, 2, "max", True)


def test_a_compiled_module_that_is_imported_stays(monkeypatch):
    compiled = ModuleType("compiled")
    monkeypatch.setitem(sys.modules, operators.NAME, compiled)
    assert not provide_operators()
    assert sys.modules[operators.NAME] is compiled


def test_a_compiled_module_that_is_installed_is_left_to_be_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, operators.NAME)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, loader=None))
    assert not provide_operators()
    assert operators.NAME not in sys.modules


def test_registering_twice_changes_nothing():
    before = sys.modules[operators.NAME]
    assert provide_operators()
    assert sys.modules[operators.NAME] is before
