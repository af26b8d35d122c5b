"""Targets computed in the window that they depend on have the maps of the whole image, at the border too."""

import numpy as np
import pytest
import torch
from attribution.small_networks import TinyUNet, make, make_image
from torch import Tensor, nn

from emseg.attribution import attribute_pixels
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.tiling.receptive_field import Dependence, measure_dependence, theoretical_receptive_field


@pytest.mark.parametrize(
    ("name", "shape"),
    [("local", (40, 48)), ("tiny U-Net", (60, 72)), ("layer-normed", (60, 72)), ("ResNet U-Net", (64, 96))],
)
@pytest.mark.parametrize("backward", ["full", "windowed"])
def test_maps_in_windows_are_those_of_the_whole_image(name, shape, backward, monkeypatch):
    network, image = make(name), make_image(*shape)
    targets = [(20, 21), (0, shape[1] - 1), (shape[0] - 1, 0), (33, 40)]
    found = attribute_pixels(network, image, targets, n_steps=3, backward=backward)
    monkeypatch.setattr("emseg.attribution.attribute.measure_dependence", lambda *_: None)
    whole = attribute_pixels(network, image, targets, n_steps=3, backward=backward)
    assert whole.settings["n_windows"] == 1
    assert (found.settings["n_windows"] > 1) == (name != "ResNet U-Net")
    np.testing.assert_allclose(found.maps, whole.maps, atol=1e-5 * np.abs(whole.maps).max())
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.baseline_scores, whole.baseline_scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", [(100, 100), (3, 190), (199, 0)])
def test_a_u_net_of_the_library_is_cut_on_its_grid(target):
    network = build_network(NetworkDesign(encoder="plain", encoder_depth=2, base_channels=4), seed=1).eval()
    image = make_image(200, 202)
    found = attribute_pixels(network, image, [target], n_steps=3)
    assert found.settings["n_windows"] == 1
    assert found.maps.any(axis=(0, 2)).sum() < 80
    full = attribute_pixels(lambda x: network(x), image, [target], n_steps=3, backward="full")
    np.testing.assert_allclose(found.maps, full.maps, atol=1e-5 * np.abs(full.maps).max())


def test_targets_near_each_other_share_a_window():
    network, image = make("local"), make_image(64, 64)
    settings = attribute_pixels(network, image, [(10, 10), (10, 11), (50, 50)], n_steps=2).settings
    assert settings["n_windows"] == 2


def test_the_stride_and_the_reach_are_measured():
    assert measure_dependence(make("local"), 512) == Dependence((3, 3), (3, 3), 1)
    field = theoretical_receptive_field(TinyUNet().eval(), stride=2)
    assert measure_dependence(make("tiny U-Net"), 512) == Dependence((5, 5), (5, 5), 2)
    assert field.reach == 5
    assert measure_dependence(make("gated"), 512) is None


def test_a_window_is_on_the_networks_grid_and_inside_the_image():
    assert Dependence((5, 5), (5, 5), 4).window((20, 46), (40, 48)) == (12, 28, 40, 48)


class Placed(nn.Module):
    """A network that knows where in the image a pixel is."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.linspace(0, 1, x.shape[3])


@pytest.mark.parametrize("network", [Placed(), lambda x: x - x.mean() + torch.zeros_like(x)])
def test_a_network_that_depends_on_the_whole_image_is_not_cut(network):
    image = make_image(64, 80)
    found = attribute_pixels(network, image, [(10, 70)], n_steps=2)
    point = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(point[None, None])[0, 0, 10, 70], point)
    np.testing.assert_allclose(found.maps[0], image * gradient, atol=1e-6)
