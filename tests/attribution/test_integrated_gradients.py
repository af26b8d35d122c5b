"""Many targets at once give captum's maps, pixel by pixel, and share out the difference of two scores."""

from typing import get_args

import numpy as np
import pytest
import torch
from attribution.small_networks import make, make_image
from captum.attr import IntegratedGradients
from reference.integrated_gradients import integrated_gradients
from torch import Tensor, nn

from emseg.attribution import attribute_pixels
from emseg.attribution.integrated_gradients import Quadrature, path_rule
from emseg.errors import InputError, UsageError

TARGETS = [(3, 5), (31, 20), (16, 39)]
SHAPE = (32, 40)
AGREEMENT = 1e-4


def captum_map(network: nn.Module, image: Tensor, baseline: Tensor, target: tuple[int, int], n: int, rule: str):
    method = IntegratedGradients(lambda x: network(x)[:, 0, target[0], target[1]])
    found = method.attribute(image[None, None], baseline[None, None], n_steps=n, method=rule, internal_batch_size=1)
    return found[0, 0].detach().numpy()


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("quadrature", get_args(Quadrature))
@pytest.mark.parametrize("backward", ["full", "windowed"])
@pytest.mark.parametrize("name", ["tiny U-Net", "gated"])
def test_agrees_with_captum_at_every_quadrature(name, backward, quadrature):
    network, image, baseline = make(name), make_image(*SHAPE), 0.3 * make_image(*SHAPE, seed=1)
    found = attribute_pixels(
        network, image, TARGETS, baseline=baseline, n_steps=7, quadrature=quadrature, backward=backward
    )
    for target, one in zip(TARGETS, found.maps, strict=True):
        assert relative(one, captum_map(network, image, baseline, target, 7, quadrature)) < AGREEMENT


@pytest.mark.parametrize("name", ["local", "layer-normed", "ResNet U-Net", "LinkNet"])
@pytest.mark.parametrize("backward", ["full", "windowed"])
def test_agrees_with_captum_on_several_networks(name, backward):
    network, image = make(name), make_image(64, 64)
    targets = [(0, 0), (40, 63)]
    found = attribute_pixels(network, image, targets, n_steps=4, backward=backward)
    for target, one in zip(targets, found.maps, strict=True):
        theirs = captum_map(network, image, torch.zeros_like(image), target, 4, "riemann_right")
        assert relative(one, theirs) < AGREEMENT


def test_agrees_with_the_textbook_in_double_precision():
    network, image, baseline = make("tiny U-Net"), make_image(*SHAPE), torch.full(SHAPE, -0.5)
    found = attribute_pixels(network, image, TARGETS, baseline=-0.5, n_steps=5)
    network = network.double().requires_grad_(False)
    for target, one in zip(TARGETS, found.maps, strict=True):
        theirs = integrated_gradients(network, image.double(), baseline.double(), target, 5)
        assert relative(one, theirs) < AGREEMENT


@pytest.mark.parametrize("points_at_once", [2, 3, 7])
@pytest.mark.parametrize("backward", ["full", "windowed"])
def test_points_computed_together_give_the_same_maps(points_at_once, backward):
    network, image = make("tiny U-Net"), make_image(*SHAPE)
    one, many = (
        attribute_pixels(network, image, TARGETS, n_steps=7, steps_at_once=n, backward=backward).maps
        for n in (1, points_at_once)
    )
    assert relative(many, one) < AGREEMENT


def test_completeness_the_maps_of_a_smooth_network_sum_to_the_difference_of_scores():
    network, image = make("gated"), make_image(*SHAPE)
    gaps = [
        np.abs(attribute_pixels(network, image, TARGETS, n_steps=n, quadrature="gausslegendre").relative_gap).max()
        for n in (2, 4, 32)
    ]
    assert gaps[0] > gaps[2]
    assert gaps[2] < 0.01


def test_scores_are_the_logits_of_image_and_baseline():
    network, image = make("tiny U-Net"), make_image(*SHAPE)
    found = attribute_pixels(network, image, TARGETS, baseline=0.25, n_steps=2)
    with torch.no_grad():
        x, b = (network(z[None, None])[0, 0].numpy() for z in (image, torch.full(SHAPE, 0.25)))
    for target, score, baseline_score in zip(TARGETS, found.scores, found.baseline_scores, strict=True):
        assert (score, baseline_score) == pytest.approx((x[target], b[target]), rel=1e-6)
    sums = found.maps.sum(axis=(1, 2), dtype=np.float64)
    assert found.completeness_gap == pytest.approx(sums - (found.scores - found.baseline_scores))


def test_a_target_that_comes_twice_has_its_map_twice_and_order_is_kept():
    network, image = make("tiny U-Net"), make_image(*SHAPE)
    found = attribute_pixels(network, image, [(9, 9), (3, 5), (9, 9)], n_steps=3)
    alone = [attribute_pixels(network, image, [target], n_steps=3).maps[0] for target in ((9, 9), (3, 5))]
    assert np.array_equal(found.maps[0], found.maps[2])
    assert relative(found.maps[0], alone[0]) < AGREEMENT
    assert relative(found.maps[1], alone[1]) < AGREEMENT


def test_weights_and_gradients_of_the_network_stay_as_they_were():
    network, image = make("tiny U-Net"), make_image(*SHAPE)
    first = next(network.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attribute_pixels(network, image, TARGETS, n_steps=2)
    assert not first.requires_grad
    assert all(p.requires_grad and p.grad is None for p in list(network.parameters())[1:])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_half_precision_says_so_and_errs_by_per_cents_not_by_parts_in_a_million():
    network, image = make("tiny U-Net"), make_image(*SHAPE)
    exact, half = (attribute_pixels(network, image, TARGETS, n_steps=4, precision=p) for p in ("fp32", "bf16"))
    error = np.abs(half.maps - exact.maps).sum() / np.abs(exact.maps).sum()
    assert half.precision == "bf16"
    assert 1e-4 < error < 0.15


def test_the_trapezoid_rule_of_captum_falls_short_by_one_step():
    assert path_rule("riemann_trapezoid", 10).weights.sum() == pytest.approx(0.9)
    assert all(path_rule(q, 10).weights.sum() == pytest.approx(1) for q in get_args(Quadrature) if "trap" not in q)


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (3 * x).round()


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        z = y * 2
        y += 1
        return z


class Rooted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x - x)


class Predicting(nn.Module):
    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        return 2 * x


class ArgMax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x], dim=1).argmax(dim=1, keepdim=True).float()


IMAGE = make_image(8, 9)
IDENTITY = nn.Conv2d(1, 1, 1).eval()
BAD = [
    ({"targets": []}, UsageError, "at least one pixel"),
    (
        {"targets": [(8, 0)]},
        UsageError,
        r"rows 0 to 7 and columns 0 to 8; target 0 is \(8, 0\)",
    ),
    ({"targets": [(0, 0), (0, -1)]}, UsageError, "target 1 is"),
    ({"targets": [(0.5, 1.0)]}, UsageError, "whole pixel numbers"),
    ({"targets": [(1, 2, 3)]}, UsageError, "pairs"),
    ({"image": torch.zeros(2, 1, 8, 9)}, InputError, "must be one image"),
    ({"image": np.zeros((8, 9), np.uint8)}, InputError, "floating point"),
    ({"image": torch.full((8, 9), torch.nan)}, InputError, "72 of its pixels are NaN"),
    ({"baseline": torch.zeros(4, 4)}, UsageError, r"an image of \(1, 8, 9\)"),
    ({"baseline": float("nan")}, UsageError, "finite"),
    ({"image": torch.zeros(8, 9)}, UsageError, "must differ from `image`"),
    ({"n_steps": 1}, UsageError, "of at least 2; got 1"),
    ({"n_steps": 2.5}, UsageError, "whole number"),
    ({"quadrature": "riemann_rihgt"}, UsageError, "Did you mean 'riemann_right'"),
    ({"precision": "fp8"}, UsageError, "'fp32', 'bf16', 'fp16'"),
    ({"backward": "half"}, UsageError, "windowed"),
    ({"steps_at_once": 0}, UsageError, "at least 1"),
    ({"memory_mib": 0.0001}, UsageError, "memory_mib"),
    ({"model": nn.Conv2d(1, 2, 1)}, InputError, "2 channels: choose one with `channel=`"),
    ({"model": nn.Conv2d(1, 1, 3)}, InputError, "another size"),
    ({"model": lambda x: (x, x)}, InputError, "one tensor of logits; got tuple. Choose its map with `output=`: 0 or 1"),
    ({"model": Rounded()}, InputError, "zero all along the path.*round"),
    ({"model": InPlace()}, InputError, "in-place operation"),
    ({"model": Rooted()}, InputError, r"finite; those of target \(row 1, column 2\)"),
    ({"model": Predicting().predict}, InputError, "no.*gradient|none.*gradients off"),
    ({"model": ArgMax()}, InputError, "has none|none"),
    ({"model": lambda x: x.detach() * 2}, InputError, "detaches"),
    ({"model": lambda x: x * torch.inf}, InputError, "finite logits"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_input_is_named(change, error, match):
    request = {"model": IDENTITY, "image": IMAGE, "targets": [(1, 2)], "n_steps": 2, **change}
    with pytest.raises(error, match=match):
        attribute_pixels(request.pop("model"), request.pop("image"), request.pop("targets"), **request)


def test_a_network_that_writes_into_its_input_is_no_trouble():
    def network(x: Tensor) -> Tensor:
        x *= 2
        return x * x

    found = attribute_pixels(network, IMAGE, [(1, 2)], n_steps=64, quadrature="riemann_middle")
    assert found.maps[0, 1, 2] == pytest.approx(4 * float(IMAGE[1, 2]) ** 2, rel=1e-3)


def test_captums_other_methods_are_called_by_name():
    network = make("tiny U-Net")
    found = attribute_pixels(network, make_image(*SHAPE), TARGETS[:1], method="saliency")
    point = make_image(*SHAPE).requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(point[None, None])[0, 0, *TARGETS[0]], point)
    assert found.method == "saliency"
    assert np.abs(np.abs(found.maps[0]) - gradient.abs().numpy()).max() < 1e-5 * float(gradient.abs().max())
    with pytest.raises(UsageError, match='belong to method "integrated_gradients"'):
        attribute_pixels(network, make_image(*SHAPE), TARGETS, method="saliency", precision="bf16")
    with pytest.raises(UsageError, match="saliency"):
        attribute_pixels(network, make_image(*SHAPE), TARGETS, method="salience")
