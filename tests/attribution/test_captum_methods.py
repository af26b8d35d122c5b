"""Every method gives the value that theory has for a linear network, and is refused where it is not defined."""

import numpy as np
import pytest
import torch
from torch import nn

from emseg.attribution.captum_methods import CAPTUM_METHODS, CaptumOptions, attribute_with_captum
from emseg.errors import InputError, UsageError

TARGETS = [(3, 4), (5, 2)]


def _linear(bias=0.0):
    conv = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1.0, 10.0).reshape(1, 1, 3, 3) - 4.0)
        conv.bias.fill_(bias)
    return nn.Sequential(conv).eval()


def _rectified(seed=0, bias=True):
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1, bias=bias)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return layers.eval()


class WithSkip(nn.Module):
    """A sum around a layer, by an operator."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


IMAGE = np.random.default_rng(0).normal(size=(8, 9)).astype(np.float32)


def _gradient(network):
    """The derivative of each target's logit, by autograd."""
    maps = []
    for row, column in TARGETS:
        x = torch.from_numpy(IMAGE)[None, None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)[0, 0, row, column], x)
        maps.append(gradient[0, 0].numpy())
    return np.stack(maps)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad"])
def test_gradient_methods_give_the_weights_of_a_linear_network(method):
    found = attribute_with_captum(_linear(), IMAGE, TARGETS, method=method)
    assert np.allclose(found.maps, _gradient(_linear()), atol=1e-5)
    assert found.maps[0, 2, 3] == pytest.approx(-3.0, abs=1e-5), "the kernel's first weight; signs are kept"


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "gradient_shap", "lrp"])
def test_complete_methods_give_weight_times_difference_on_a_linear_network(method):
    """Without noise all of these are w (x - b) on a linear network; LRP knows no baseline but 0."""
    baseline = 0.0 if method == "lrp" else np.full_like(IMAGE, -1.0)
    found = attribute_with_captum(
        _linear(), IMAGE, TARGETS, method=method, baseline=baseline, options=CaptumOptions(noise=0.0)
    )
    assert np.allclose(found.maps, _gradient(_linear()) * (IMAGE - baseline), atol=1e-4)
    assert np.allclose(found.completeness_gap, 0, atol=1e-3)


def test_occlusion_of_single_pixels_is_weight_times_difference_on_a_linear_network():
    options = CaptumOptions(window_px=1, stride_px=1)
    found = attribute_with_captum(_linear(), IMAGE, TARGETS, method="occlusion", baseline=-1.0, options=options)
    assert np.allclose(found.maps, _gradient(_linear()) * (IMAGE + 1), atol=1e-4)


def test_occlusion_by_windows_is_the_change_of_the_score():
    network = _rectified()
    options = CaptumOptions(window_px=8, stride_px=8)
    found = attribute_with_captum(network, IMAGE, [(3, 3)], method="occlusion", options=options)
    occluded = torch.from_numpy(IMAGE)[None, None].clone()
    occluded[..., :8, :8] = 0.0
    with torch.no_grad():
        change = float(network(torch.from_numpy(IMAGE)[None, None])[0, 0, 3, 3] - network(occluded)[0, 0, 3, 3])
    assert np.allclose(found.maps[0, :8, :8], change, atol=1e-5)


def test_deeplift_is_complete_through_rectifiers_and_saliency_is_not():
    network = _rectified()
    deeplift = attribute_with_captum(network, IMAGE, TARGETS, method="deeplift")
    assert np.allclose(deeplift.completeness_gap, 0, atol=1e-4)
    saliency = attribute_with_captum(network, IMAGE, TARGETS, method="saliency")
    assert np.abs(saliency.completeness_gap).max() > 0.01


class Reused(nn.Module):
    """One rectifier, called at two places."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.relu = nn.ReLU()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        for layer in self.layers[:2]:
            x = self.relu(layer(x))
        return self.layers[2](x)


def test_deeplift_passes_layers_that_a_network_calls_twice():
    network = Reused().eval()
    found = attribute_with_captum(network, IMAGE, TARGETS, method="deeplift")
    assert np.allclose(found.completeness_gap, 0, atol=1e-3)
    assert isinstance(network.relu, nn.ReLU), "the caller's network stays as it is"


def test_deeplift_refuses_weights_that_are_used_twice():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    with pytest.raises(UsageError, match="has weights and is called 2 times"):
        attribute_with_captum(nn.Sequential(conv, nn.ReLU(), conv).eval(), IMAGE, TARGETS, method="deeplift")


def test_lrp_without_biases_shares_out_the_whole_score():
    found = attribute_with_captum(_rectified(bias=False), IMAGE, TARGETS, method="lrp")
    assert np.allclose(found.maps.sum(axis=(1, 2)), found.scores, rtol=1e-3, atol=1e-3)


def test_grad_cam_of_a_layer_is_the_rectified_mean_weighted_sum():
    network = _rectified()
    found = attribute_with_captum(network, IMAGE, [(3, 4)], method="grad_cam", options=CaptumOptions(layer="0"))
    x = torch.from_numpy(IMAGE)[None, None]
    maps = network[0](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[2](network[1](maps))[0, 0, 3, 4], maps)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()[0].detach().numpy()
    assert np.allclose(found.maps[0], expected, atol=1e-6)
    assert expected.max() > 0


@pytest.mark.parametrize("method", ["smoothgrad", "gradient_shap"])
def test_random_methods_follow_their_seed_and_leave_the_global_state_alone(method):
    network = _rectified()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    maps = [
        attribute_with_captum(network, IMAGE, TARGETS, method=method, options=CaptumOptions(seed=seed, noise=0.3)).maps
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])
    drawn = float(torch.rand(())), np.random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert drawn == (float(torch.rand(())), np.random.random())  # noqa: NPY002


def test_every_method_leaves_the_network_as_it_was():
    network = _rectified()
    before = [parameter.clone() for parameter in network.parameters()]
    for method in CAPTUM_METHODS:
        attribute_with_captum(network, IMAGE, TARGETS[:1], method=method, options=CaptumOptions(layer="2", n_steps=4))
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("network", "arguments", "error", "message"),
    [
        (_linear(), {"method": "saliancy"}, UsageError, "Did you mean 'saliency'"),
        (WithSkip().eval(), {"method": "lrp"}, UsageError, "LRP is defined here for chains.*'add'"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.GELU()).eval(), {"method": "lrp"}, UsageError, "no rule for GELU"),
        (lambda x: x * 2, {"method": "deeplift"}, UsageError, "follows the layers of a torch module"),
        (_rectified(), {"method": "grad_cam"}, UsageError, "Convolutions here: 0, 2"),
        (_linear(), {"targets": [(8, 0)]}, UsageError, "must be inside the image"),
        (_linear(), {"targets": []}, UsageError, "at least one pixel"),
        (nn.Conv2d(1, 2, 3, padding=1).eval(), {}, InputError, "2 channels"),
        (lambda x: (x > 0).float(), {}, InputError, "must have a gradient"),
    ],
)
def test_what_cannot_be_attributed_is_refused(network, arguments, error, message):
    arguments = {"targets": TARGETS, **arguments}
    with pytest.raises(error, match=message):
        attribute_with_captum(network, IMAGE, **arguments)


@pytest.mark.parametrize("change", [{"n_samples": 0}, {"window_px": 2, "stride_px": 3}, {"noise": -1.0}])
def test_options_out_of_range_are_refused(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        CaptumOptions(**change)
