"""Backward passes that leave out zeros give torch's gradients, and know the pixels that a logit can depend on."""

import pytest
import torch
from attribution.small_networks import NETWORKS, make, make_image
from torch import Tensor, nn
from torch.nn import functional

from emseg.attribution import attribute_pixels
from emseg.attribution import windowed as module
from emseg.attribution.inputs import Calling
from emseg.attribution.windowed import TorchPass, WindowedPass, differs_from_torch
from emseg.errors import UsageError


def windowed(network, image: Tensor) -> WindowedPass:
    return WindowedPass(Calling(network), image[None, None], {})


def both(network, image: Tensor, row: int, column: int) -> tuple[Tensor, Tensor]:
    """Return the gradient of one logit, by windows and by torch."""
    ours = torch.zeros_like(image)
    values, (top, bottom, left, right) = windowed(network, image).gradient(row, column)
    ours[top:bottom, left:right] = values[0, 0]
    return ours, TorchPass(Calling(network), image[None, None]).gradient(row, column)[0][0, 0]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", [(0, 0), (31, 33), (63, 63), (17, 62)])
def test_gradients_are_torchs(name, target):
    network, image = make(name).requires_grad_(False), make_image(64, 64)
    ours, theirs = both(network, image, *target)
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())
    assert theirs.any()


LAYERS = {
    "stride, padding, dilation": lambda x: (
        functional.conv2d(x, KERNEL, stride=2, padding=4, dilation=2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    ),
    "max pooling with overlap": lambda x: functional.max_pool2d(x, 3, stride=1, padding=1),
    "max pooling, ceiling": lambda x: functional.interpolate(
        functional.max_pool2d(x, 3, stride=2, ceil_mode=True), size=x.shape[2:]
    ),
    "transposed convolution": lambda x: functional.conv_transpose2d(
        functional.conv2d(x, KERNEL, stride=2, padding=2), KERNEL, stride=2, padding=2, output_padding=1
    )[:, :, : x.shape[2], : x.shape[3]],
    "bilinear, corners aligned": lambda x: functional.interpolate(
        functional.avg_pool2d(x, 2), size=x.shape[2:], mode="bilinear", align_corners=True
    ),
    "bilinear by a factor": lambda x: functional.interpolate(
        functional.conv2d(x, KERNEL, stride=2, padding=2), scale_factor=2, mode="bilinear"
    ),
    "a product with itself": lambda x: x * x,
    "sums and differences": lambda x: (2 * x - functional.relu(x + 0.1)) / 3 + 1,
    "in-place sums": lambda x: functional.conv2d(x, KERNEL, padding=2).add_(x),
    "its own mean": lambda x: x * x.mean(),
    "a flip": lambda x: functional.conv2d(x, KERNEL, padding=2).flip(3),
    "a constant map": lambda x: x * torch.linspace(-1, 1, x.shape[3])[None, None, None] + torch.zeros_like(x),
}
KERNEL = torch.randn((1, 1, 5, 5), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("target", [(0, 1), (9, 12), (19, 23)])
def test_each_kind_of_layer_has_torchs_gradient(name, target):
    layer, image = LAYERS[name], make_image(20, 24)

    def network(x: Tensor) -> Tensor:
        return layer(functional.conv2d(x, KERNEL, padding=2))

    ours, theirs = both(network, image, *target)
    assert theirs.any()
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_windows_hold_the_gradient_and_no_more_where_the_network_is_local():
    graph = windowed(make("local").requires_grad_(False), make_image(20, 24))
    assert graph.gradient(10, 12)[1] == (7, 14, 9, 16)
    assert graph.gradient(0, 23)[1] == (0, 4, 20, 24)


@pytest.mark.parametrize("name", ["tiny U-Net", "ResNet U-Net", "LinkNet"])
def test_common_segmentation_networks_need_no_whole_gradient(name, monkeypatch):
    monkeypatch.setattr(module, "_by_torch", lambda *_: pytest.fail("an operation has no rule of its own"))
    windowed(make(name).requires_grad_(False), make_image(64, 64))


def test_windows_keep_less_than_torchs_graph():
    network, points = make("ResNet U-Net").requires_grad_(False), make_image(64, 64)[None, None]
    weights = {weight.data_ptr() for weight in network.parameters()}

    def kept(graph) -> int:
        return sum({t.data_ptr(): t.nbytes for t in graph.tensors if t.data_ptr() not in weights}.values())

    full = TorchPass(Calling(network), points, keep=True)
    assert 0 < kept(WindowedPass(Calling(network), points, {})) < 0.6 * kept(full)


class Straight(torch.autograd.Function):
    """A rounding that passes gradients straight through: its gradient is not that of its operations."""

    @staticmethod
    def forward(ctx, x):
        return x.round() + x.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Estimated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Straight.apply(3 * x)


def test_a_gradient_passed_straight_through_by_detaching_is_followed():
    image = make_image(8, 9)
    ours, theirs = both(lambda x: x * 3 + (x.round() - x).detach(), image, 1, 2)
    assert torch.equal(ours, theirs)
    assert float(ours[1, 2]) == 3


class Aliased(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = 2 * x
        y[:, :, :4].mul_(3)
        return y * 1


@pytest.mark.parametrize(("network", "reason"), [(Estimated(), "setup_context|differ by")])
def test_a_network_that_windows_cannot_follow_is_found_out_and_left_to_torch(network, reason):
    image = make_image(8, 9)
    assert differs_from_torch(Calling(network), image[None, None], [(1, 2)]) is not None
    found = attribute_pixels(network, image, [(1, 2)], n_steps=2)
    assert found.settings["backward"] == "full"
    assert found.maps[0, 1, 2] == pytest.approx(3 * float(image[1, 2]))
    with pytest.raises(UsageError, match=reason):
        attribute_pixels(network, image, [(1, 2)], n_steps=2, backward="windowed")


def test_values_that_are_changed_through_views_or_in_place_are_followed():
    def overwriting(x: Tensor) -> Tensor:
        y = torch.sin(x)
        z = y * x
        y.relu_()
        return z + y

    image = make_image(8, 9)
    found = attribute_pixels(Aliased(), image, [(1, 2)], n_steps=2, backward="windowed")
    assert found.maps[0, 1, 2] == pytest.approx(6 * float(image[1, 2]))
    values, (top, _, left, _) = windowed(overwriting, image).gradient(1, 2)
    x = image[1, 2].clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.sin(x) * x + torch.relu(torch.sin(x)), x)
    assert float(values[0, 0, 1 - top, 2 - left]) == pytest.approx(float(expected), rel=1e-5)
