"""Networks from elsewhere: several maps and channels, colour, float64, and anything that is not in evaluation mode."""

import numpy as np
import pytest
import timm.layers
import torch
import torchvision
from attribution.small_networks import make, make_image
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional

from emseg.attribution import attribute_pixels
from emseg.attribution.captum_methods import CAPTUM_METHODS, CaptumOptions, attribute_with_captum
from emseg.errors import InputError, UsageError

IMAGE = make_image(32, 40)
TARGETS = [(3, 5), (31, 20)]
COLOUR = torch.randn(3, 32, 40, generator=torch.Generator().manual_seed(3))


def colour_network(n_classes: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, n_classes, 3, padding=1)
        ).eval()


def captum_map(network, image: Tensor, channel: int, target: tuple[int, int], n_steps: int) -> np.ndarray:
    method = IntegratedGradients(lambda x: network(x)[:, channel, target[0], target[1]])
    found = method.attribute(image[None], 0 * image[None], n_steps=n_steps, method="riemann_right")
    return found[0].sum(dim=0).detach().numpy()


@pytest.mark.parametrize("backward", ["full", "windowed"])
@pytest.mark.parametrize("channel", [0, 2])
def test_colour_images_and_several_classes_have_captums_maps_summed_over_colours(backward, channel):
    network = colour_network()
    found = attribute_pixels(network, COLOUR, TARGETS, channel=channel, n_steps=5, backward=backward)
    for target, one in zip(TARGETS, found.maps, strict=True):
        theirs = captum_map(network, COLOUR, channel, target, 5)
        np.testing.assert_allclose(one, theirs, atol=1e-5 * np.abs(theirs).max())
    complete = attribute_pixels(network, COLOUR, TARGETS, channel=channel, n_steps=200, quadrature="riemann_middle")
    assert complete.relative_gap.max() < 0.02


@pytest.mark.parametrize("method", CAPTUM_METHODS)
def test_every_method_takes_a_channel_of_a_colour_network(method):
    network = colour_network()
    options = CaptumOptions(layer="0")
    found = (
        attribute_with_captum(network, COLOUR, TARGETS, method=method, channel=1, options=options)
        if (method != "lrp")
        else attribute_with_captum(colour_network(1), COLOUR, TARGETS, method=method)
    )
    assert found.maps.shape == (2, 32, 40)
    assert found.maps.any()
    if method == "saliency":
        point = COLOUR.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(point[None])[0, 1, 3, 5], point)
        np.testing.assert_allclose(found.maps[0], gradient.sum(dim=0), atol=1e-6)
    if method == "occlusion":  # a window of nothing but its own pixel is what its removal changes
        one = CaptumOptions(window_px=1, stride_px=1)
        found = attribute_with_captum(network, COLOUR, TARGETS, method=method, channel=1, options=one)
        without = COLOUR.clone()
        without[:, 3, 5] = 0
        with torch.no_grad():
            change = network(COLOUR[None])[0, 1, 3, 5] - network(without[None])[0, 1, 3, 5]
        assert found.maps[0, 3, 5] == pytest.approx(float(change), abs=1e-5)


def test_torchvisions_dict_of_maps_is_picked_by_output_and_channel():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=2
        ).eval()
    found = attribute_pixels(network, COLOUR, TARGETS, output="out", channel=1, n_steps=3)
    theirs = captum_map(lambda x: network(x)["out"], COLOUR, 1, TARGETS[0], 3)
    np.testing.assert_allclose(found.maps[0], theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_network_in_double_precision_is_computed_in_it():
    network = make("tiny U-Net").double()
    found = attribute_pixels(network, IMAGE, TARGETS, n_steps=4)
    theirs = captum_map(network, IMAGE[None].double(), 0, TARGETS[0], 4)
    np.testing.assert_allclose(found.maps[0], theirs, atol=1e-7 * np.abs(theirs).max())
    double = attribute_pixels(lambda x: network(x), IMAGE.double().numpy(), TARGETS, n_steps=4)
    np.testing.assert_allclose(double.maps, found.maps, atol=1e-7 * np.abs(theirs).max())


class Dropping(nn.Module):
    """Dropout that no mode turns off, behind a convolution."""

    def __init__(self, dropped) -> None:
        super().__init__()
        self.first, self.dropped = nn.Conv2d(1, 1, 3, padding=1), dropped

    def forward(self, x: Tensor) -> Tensor:
        return self.dropped(self.first(x))


class WithDropPath(Dropping):
    def __init__(self) -> None:
        super().__init__(timm.layers.DropPath(0.01))


def training_in_a_function():
    network = make("tiny U-Net").train()
    return lambda x: network(x)


class Hidden:
    """A callable that is no module and no function: what it holds cannot be seen."""

    def __init__(self) -> None:
        self.network = make("tiny U-Net").train()

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x)


MOVING = [
    (lambda: Dropping(functional.dropout).eval(), "depends on chance"),
    (lambda: WithDropPath().train(), "depends on chance"),
    (lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Dropout()), "depends on chance"),
    (lambda: nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True)).train(), "it changes 0.running_mean"),
    (lambda: nn.BatchNorm2d(1), "it changes running_mean"),
    (training_in_a_function, "it changes .*running_mean"),
    (Hidden, "rest of its batch"),
    (lambda: Dropping(lambda x: x * np.random.default_rng().random()).eval(), "from call to call"),
]


def named_buffers(network) -> list[tuple[str, Tensor]]:
    return list(network.named_buffers()) if isinstance(network, nn.Module) else []


@pytest.mark.parametrize(("network", "reason"), MOVING)
def test_evaluation_mode_is_judged_by_what_a_network_does(network, reason):
    moving = network()
    buffers = {name: value.clone() for name, value in named_buffers(moving)}
    with pytest.raises(UsageError, match=f"in evaluation mode: .*{reason}"):
        attribute_pixels(moving, IMAGE, TARGETS, n_steps=2)
    assert all(torch.equal(value, buffers[name]) for name, value in named_buffers(moving))


@pytest.mark.parametrize(
    "network",
    [
        WithDropPath().eval(),
        Dropping(nn.Identity()).train(),
        nn.Sequential(nn.InstanceNorm2d(1), nn.Conv2d(1, 1, 3, padding=1)).train(),
    ],
)
def test_a_network_that_is_a_function_of_the_image_is_taken_in_any_mode(network):
    assert attribute_pixels(network, IMAGE, TARGETS, n_steps=2).maps.any()


def of_one_image(x: Tensor) -> Tensor:
    return make("tiny U-Net")(x.reshape(1, 1, 32, 40))


def asserting_one_image(x: Tensor) -> Tensor:
    assert x.shape == (1, 1, 32, 40)
    return make("tiny U-Net")(x)


@pytest.mark.parametrize("network", [of_one_image, asserting_one_image])
@pytest.mark.parametrize("steps_at_once", [None, 3])
def test_a_network_of_one_image_at_a_time_gets_one_point_a_pass(network, steps_at_once):
    found = attribute_pixels(network, IMAGE, TARGETS, n_steps=4, steps_at_once=steps_at_once)
    theirs = captum_map(make("tiny U-Net"), IMAGE[None], 0, TARGETS[0], 4)
    np.testing.assert_allclose(found.maps[0], theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency"])
def test_inference_mode_is_named_not_the_network(method):
    with torch.inference_mode(), pytest.raises(UsageError, match=r"torch.inference_mode\(\) forbids it. Leave"):
        attribute_pixels(make("local"), IMAGE, TARGETS, method=method)


def dividing_by_zero(x: Tensor) -> Tensor:
    return x / (1 // 0)


BAD = [
    ({"model": dividing_by_zero}, InputError, r"image of shape \[1, 1, 32, 40\], .* it fails: ZeroDivisionError: "),
    ({"device": "zz"}, UsageError, "`device` must be one of torch's, .* got 'zz'"),
    ({"model": nn.Conv2d(1, 1, 3, padding=1, device="meta").eval()}, UsageError, "`meta` has shapes alone. Load"),
    ({"model": lambda x: {"out": x, "aux": x}}, InputError, "`output=`: 'out' or 'aux'"),
    ({"model": lambda x: {"out": x}, "output": "outs"}, UsageError, "`output` must be one of 'out'; got 'outs'"),
    ({"model": lambda x: (x, x), "output": 2}, UsageError, "`output` must be one of 0, 1; got 2"),
    ({"output": "out"}, UsageError, "returns one tensor; got 'out'"),
    ({"channel": 1}, UsageError, "`channel` must be a whole number from 0 to 0; got 1"),
    ({"channel": "1"}, UsageError, "`channel` must be a whole number"),
    ({"image": COLOUR}, InputError, r"image of shape \[1, 3, 32, 40\]"),
    ({"memory_mib": "4096"}, UsageError, "`memory_mib` must be a finite number greater than 0; got '4096'"),
    ({"baseline": "black"}, UsageError, "`baseline` must be"),
    ({"targets": "middle"}, UsageError, "`targets` must be"),
    ({"targets": [(1, 2), (3,)]}, UsageError, "`targets` must be"),
    ({"image": "scan.png"}, InputError, "`image` must be"),
    ({"model": "unet.pt"}, UsageError, "`model` must be"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_a_wrong_argument_is_named(change, error, match, without_type_checks):
    request = {"model": make("local"), "image": IMAGE, "targets": [(1, 2)], "n_steps": 2, **change}
    with pytest.raises(error, match=match):
        attribute_pixels(request.pop("model"), request.pop("image"), request.pop("targets"), **request)
