"""Backward passes that leave out zeros give torch's gradients, and know the pixels that a logit can depend on."""

import numpy as np
import pytest
import torch
from attribution.small_networks import NETWORKS, make, make_image
from torch import Tensor, nn
from torch.nn import functional

from emseg.attribution import attribute_pixels
from emseg.attribution.laid_out import LaidOut
from emseg.attribution.passes import Calling, FullPasses, Seeds
from emseg.attribution.torch_gradient_rule import TorchGradient
from emseg.attribution.window_rule import NotWindowedError
from emseg.attribution.windowed import WindowedPass, add, differs_from_torch
from emseg.errors import UsageError

CPU = torch.device("cpu")


def windowed(network, image: Tensor) -> WindowedPass:
    return WindowedPass(Calling(network), image[None, None], LaidOut(CPU))


def both(network, image: Tensor, rows: list[int], columns: list[int]) -> tuple[Tensor, Tensor]:
    """Return the gradient of the sum of some logits, by windows and by torch."""
    seeds = Seeds(rows, columns, torch.ones((1, len(rows))))
    ours = torch.zeros_like(image)
    windowed(network, image).gradient(seeds).add_to(ours, np.ones(1), (0, image.shape[0], 0, image.shape[1]))
    return ours, FullPasses(Calling(network)).forward(image[None, None]).gradient(seeds).values[0]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", [(0, 0), (31, 33), (63, 63), (17, 62)])
def test_gradients_are_torchs(name, target):
    network, image = make(name).requires_grad_(False), make_image(64, 64)
    ours, theirs = both(network, image, [target[0]], [target[1]])
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())
    assert theirs.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_targets_together_are_torchs(name):
    network, image = make(name).requires_grad_(False), make_image(64, 64)
    ours, theirs = both(network, image, [3, 60, 30], [8, 5, 63])
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


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

    ours, theirs = both(network, image, [target[0]], [target[1]])
    assert theirs.any()
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_boxes_hold_the_gradient_and_no_more_where_the_network_is_local():
    network, image = make("local").requires_grad_(False), make_image(20, 24)
    graph = windowed(network, image)
    assert graph.boxes(10, 12) == (7, 14, 9, 16)
    assert graph.boxes(0, 23) == (0, 4, 20, 24)
    gradient = graph.gradient(Seeds([10], [12], torch.ones((1, 1))))
    assert (gradient.top, gradient.left, gradient.values.shape[1:]) == (7, 9, (7, 7))


def test_common_segmentation_networks_need_no_whole_gradient():
    for name in ("tiny U-Net", "ResNet U-Net", "LinkNet"):
        rules = [node.rule for node in windowed(make(name).requires_grad_(False), make_image(64, 64)).tape.nodes]
        assert not any(isinstance(rule, TorchGradient) for rule in rules)


def test_windows_add_up_as_images_do():
    generator = torch.Generator().manual_seed(1)
    boxes = [(0, 3, 1, 4), (2, 6, 0, 5), (0, 6, 0, 5), (2, 3, 2, 3), (4, 6, 4, 5)]
    for one in boxes:
        for other in boxes:
            images = torch.zeros((2, 6, 5))
            for image, (top, bottom, left, right) in zip(images, (one, other), strict=True):
                image[top:bottom, left:right] = torch.randn((bottom - top, right - left), generator=generator)
            parts = [
                (image[None, None, b[0] : b[1], b[2] : b[3]], b) for image, b in zip(images, (one, other), strict=True)
            ]
            values, box = add(*parts)
            total = torch.zeros((6, 5))
            total[box[0] : box[1], box[2] : box[3]] = values[0, 0]
            assert torch.equal(total, images.sum(dim=0))


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


class Aliased(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = 2 * x
        y[:, :, :4].mul_(3)
        return y * 1


@pytest.mark.parametrize(("network", "reason"), [(Estimated(), "differ by"), (Aliased(), "share|in place")])
def test_a_network_that_windows_cannot_follow_is_found_out_and_left_to_torch(network, reason):
    image = make_image(8, 9)
    assert differs_from_torch(Calling(network), image, np.array([[1, 2]])) is not None
    found = attribute_pixels(network, image, [(1, 2)], n_steps=2)
    assert found.settings["backward"] == "full"
    assert found.maps[0, 1, 2] == pytest.approx(3 * float(image[1, 2]) * (1 if isinstance(network, Estimated) else 2))
    with pytest.raises(UsageError, match=reason):
        attribute_pixels(network, image, [(1, 2)], n_steps=2, backward="windowed")


def test_values_that_were_overwritten_are_found_out():
    def network(x: Tensor) -> Tensor:
        y = torch.sin(x)
        z = y * x
        y.relu_()
        return z

    graph = windowed(network, make_image(8, 9))
    with pytest.raises(NotWindowedError, match="overwritten"):
        graph.gradient(Seeds([1], [2], torch.ones((1, 1))))
