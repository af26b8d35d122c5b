"""The derivative by products is torchvision's, whatever the region: outside, tiny, inverted, in any image."""

import numpy as np
import pytest
import torch

from emseg.wafer.detector.mmdet_operators import LARGEST_MAP, is_worthwhile, roi_align_gradient


def drawn_regions(rng: np.random.Generator, n: int, n_images: int, side: float) -> torch.Tensor:
    """Regions of all sizes that also reach over every border."""
    corners = rng.uniform(-0.3 * side, 1.2 * side, (n, 2))
    sizes = rng.choice([0.01, 0.3, 1.0, 1.5], (n, 2)) * rng.uniform(0, side, (n, 2))
    images = rng.integers(0, n_images, (n, 1))
    return torch.tensor(np.hstack([images, corners, corners + sizes]))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "scale"), [(16, 16, 1 / 16), (32, 21, 1 / 8), (1, 40, 1.0)])
def test_it_equals_torchvisions(aligned: bool, sampling_ratio: int, height: int, width: int, scale: float):
    """In float64 to rounding."""
    rng = np.random.default_rng(height + sampling_ratio)
    regions = drawn_regions(rng, 40, 3, max(height, width) / scale)
    gradient = torch.tensor(rng.standard_normal((40, 5, 7, 4)))
    shape = torch.Size((3, 5, height, width))
    wanted = torch.ops.torchvision._roi_align_backward(gradient, regions, scale, 7, 4, *shape, sampling_ratio, aligned)
    found = roi_align_gradient(
        gradient, regions, shape, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=aligned
    )
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    assert wanted.abs().max() > 0


def test_an_image_without_regions_gets_zeros():
    """And no regions at all give zeros everywhere."""
    regions = torch.tensor([[1.0, 2.0, 2.0, 9.0, 9.0]])
    options = {"spatial_scale": 1.0, "sampling_ratio": 2, "aligned": True}
    found = roi_align_gradient(torch.ones(1, 2, 3, 3), regions, torch.Size((2, 2, 12, 12)), **options)
    assert found[0].abs().max() == 0
    assert found[1].sum().item() == pytest.approx(2 * 9, rel=1e-5)  # each cell's weights sum to one
    none = roi_align_gradient(torch.ones(0, 2, 3, 3), regions[:0], torch.Size((2, 2, 12, 12)), **options)
    assert none.abs().max() == 0


def test_it_is_used_only_where_it_is_defined_and_faster():
    """A number of samples that depends on the region, a large map and a GPU are left to torchvision."""
    small = torch.Size((2, 8, 32, 32))
    assert is_worthwhile(small, 2, torch.device("cpu"))
    assert not is_worthwhile(small, 0, torch.device("cpu"))
    assert not is_worthwhile(small, 2, torch.device("cuda"))
    assert not is_worthwhile(torch.Size((1, 8, 1, LARGEST_MAP + 1)), 2, torch.device("cpu"))
