"""A refined network corrects what a frozen one finds: it starts from that one's answer and never changes it."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from emseg.attribution import attribute_pixels
from emseg.errors import InputError, UsageError
from emseg.membrane.networks import (
    MembraneNetwork,
    NetworkDesign,
    RefinedNetwork,
    build_network,
    build_refined,
    load_network,
    receptive_field,
    save_network,
)
from emseg.membrane.training import predict_membrane

FIRST = NetworkDesign("unet", "plain", 2, 4)
SECONDS = {
    "unet": NetworkDesign("unet", "plain", 2, 4, in_channels=2),
    "linknet": NetworkDesign("linknet", "resnet18", 2, 8, in_channels=2),
    "casenet": NetworkDesign("casenet", "resnet18", 3, 4, in_channels=2),
}


def images(height: int = 32, width: int = 32, n: int = 2) -> Tensor:
    return torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(4))


def trained_first() -> MembraneNetwork:
    """A network whose batch normalisation has seen images, in evaluation mode."""
    network = build_network(FIRST, seed=1)
    network(images())
    return network.eval()


def refined(design: NetworkDesign = SECONDS["unet"], *, corrects: bool = True) -> RefinedNetwork:
    """A refined network; one that `corrects` has a last convolution that is not zero."""
    network = build_refined(trained_first(), design, seed=2)
    if corrects:
        with torch.no_grad():
            network.last_convolution.weight.normal_(generator=torch.Generator().manual_seed(3))
    return network


@pytest.mark.parametrize("design", SECONDS.values(), ids=SECONDS)
def test_the_sum_starts_as_the_first_networks_logits(design: NetworkDesign) -> None:
    network = refined(design, corrects=False)
    for mode in (True, False):
        network.train(mode)
        assert torch.equal(network(images()), trained_first()(images()))
    assert not torch.equal(refined(design).eval()(images()), trained_first()(images()))


def test_the_answer_is_the_textbooks_sum() -> None:
    network, x = refined().eval(), images()
    with torch.no_grad():
        logits = trained_first()(x)
        seen = torch.cat([x, 2 * torch.sigmoid(logits) - 1], dim=1)
        torch.testing.assert_close(network(x), logits + network.second(seen))


def test_every_supervised_output_is_a_correction_and_the_last_is_the_answer() -> None:
    network, x = refined(SECONDS["casenet"]).eval(), images()
    outputs = network.training_outputs(x)
    assert len(outputs) == len(network.second.training_outputs(x.repeat(1, 2, 1, 1))) > 1
    assert torch.equal(outputs[-1], network(x))


def test_no_gradient_reaches_the_first_network_in_training_and_the_second_gets_all() -> None:
    network = refined().train()
    x = images().requires_grad_()
    network(x).square().sum().backward()
    assert all(weight.grad is None for weight in network.first.parameters())
    assert not any(weight.requires_grad for weight in network.first.parameters())
    assert all(weight.grad is not None and weight.requires_grad for weight in network.second.parameters())


def test_gradients_of_the_image_pass_through_both_networks_in_evaluation_and_not_in_training() -> None:
    """With a second network that answers zero, only the first one's logits depend on the image."""
    network, x = refined(corrects=False), images().requires_grad_()
    network.train()(x).sum().backward()
    assert x.grad is not None
    assert not x.grad.any()
    (through_both,) = torch.autograd.grad(network.eval()(x).sum(), x)
    (through_first,) = torch.autograd.grad(trained_first()(x).sum(), x)
    assert through_first.any()
    torch.testing.assert_close(through_both, through_first)


def test_the_first_networks_batch_normalisation_never_moves() -> None:
    network = refined().train()
    before = {name: value.clone() for name, value in network.first.state_dict().items()}
    moving = network.second.encoder.levels[0].bn1.running_mean.clone()
    network(images())
    assert not network.first.training
    assert all(torch.equal(value, before[name]) for name, value in network.first.state_dict().items())
    assert not torch.equal(network.second.encoder.levels[0].bn1.running_mean, moving)


def test_the_network_that_is_refined_stays_as_it_was() -> None:
    first = trained_first()
    network = build_refined(first, SECONDS["unet"], seed=2)
    with torch.no_grad():
        next(network.first.parameters()).zero_()
    assert all(weight.requires_grad and weight.any() for weight in list(first.parameters())[:1])


def test_a_second_channel_changes_the_first_convolution_alone() -> None:
    for design in SECONDS.values():
        one, two = build_network(replace(design, in_channels=1), seed=0), build_network(design, seed=0)
        theirs = one.state_dict()
        differing = [name for name, value in two.state_dict().items() if value.shape != theirs[name].shape]
        assert len(differing) == 1
        assert two.state_dict()[differing[0]].shape[1] == 2 * theirs[differing[0]].shape[1] == 2


def test_sizes_that_no_stride_divides_and_tiles_work_as_with_one_network() -> None:
    network = refined(SECONDS["casenet"]).eval()
    assert (network.stride, network.in_channels, network.min_size) == (8, 1, 1)
    assert network.encoder is network.second.encoder
    with torch.no_grad():
        x = images(37, 43)
        padded = functional.pad(x, (0, 5, 0, 3), mode="reflect")
        torch.testing.assert_close(network(x), network(padded)[..., :37, :43])
    with pytest.raises(InputError, match="takes images of one channel"):
        network(x.repeat(1, 2, 1, 1))
    with pytest.raises(InputError, match=r"takes images of 2 channels, \[batch, 2, height, width\]; got"):
        network.second(x)


def test_tiled_and_whole_predictions_agree_where_the_halo_covers_both_receptive_fields() -> None:
    network = refined().eval()
    one = receptive_field(network.first)
    both = receptive_field(network)
    assert (both.up, both.right) == (2 * one.up, 2 * one.right)
    image = np.random.default_rng(0).integers(0, 256, (250, 270), dtype=np.uint8)
    whole = predict_membrane(network, image)
    np.testing.assert_allclose(predict_membrane(network, image, tile=136), whole, atol=1e-5)
    assert np.abs(predict_membrane(network, image, tile=136, halo=4) - whole).max() > 1e-5


def test_no_output_depends_on_pixels_beyond_the_receptive_field() -> None:
    network, both = refined().eval(), receptive_field(refined())
    side = 2 * both.height
    x = images(side, side, n=1).requires_grad_()
    middle = side // 2
    (gradient,) = torch.autograd.grad(network(x)[0, 0, middle, middle], x)
    rows = gradient[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert middle - both.up <= rows.min()
    assert rows.max() <= middle + both.down
    assert rows.max() - rows.min() > receptive_field(network.first).height


@pytest.mark.parametrize("backward", ["full", "windowed"])
def test_attributions_are_captums_through_both_networks(backward: Literal["full", "windowed"]) -> None:
    network, image, target = refined().eval(), images(24, 28, n=1), (5, 7)
    found = attribute_pixels(network, image[0, 0], [target], quadrature="riemann_middle", n_steps=12, backward=backward)
    captum = IntegratedGradients(lambda x: network(x)[:, 0, target[0], target[1]])
    expected = captum.attribute(image, baselines=0.0, n_steps=12, method="riemann_middle")
    np.testing.assert_allclose(found.maps[0], expected[0, 0].detach().numpy(), atol=1e-5)
    alone = attribute_pixels(trained_first(), image[0, 0], [target], quadrature="riemann_middle", n_steps=12)
    assert np.abs(found.maps - alone.maps).max() > 1e-3


@pytest.mark.parametrize("design", SECONDS.values(), ids=SECONDS)
def test_a_refined_network_comes_back_from_its_file(tmp_path: Path, design: NetworkDesign) -> None:
    network = refined(design)
    network.train()(images())
    path = tmp_path / "refined.safetensors"
    save_network(network, path, notes={"run": "a"})
    again = load_network(path)
    assert isinstance(again, RefinedNetwork)
    assert (again.design, again.first.design) == (design, FIRST)
    assert not again.training
    assert not any(weight.requires_grad for weight in again.first.parameters())
    with torch.no_grad():
        assert torch.equal(again(images()), network.eval()(images()))


def test_files_of_a_refined_network_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network, path = refined(), tmp_path / "refined.safetensors"
    save_network(network, path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, changed, message in (
        ("without", {key: value for key, value in header.items() if key != "first_design"}, "of its .* tensors"),
        (
            "one_channel",
            {**header, "design": header["first_design"]},
            "does not know: a refinement needs .* of 1 and 1",
        ),
        ("wider", {**header, "first_design": header["design"]}, "does not know: a refinement needs .* of 2 and 2"),
        ("no_design", {**header, "first_design": '{"encoder": "resnet9000"}'}, "`encoder` must be one of"),
    ):
        save_file(weights, tmp_path / f"{name}.safetensors", metadata=changed)
        with pytest.raises(InputError, match=message):
            load_network(tmp_path / f"{name}.safetensors")
    save_file({**weights, "first.more": torch.zeros(1)}, tmp_path / "more.safetensors", metadata=header)
    with pytest.raises(InputError, match=r"first\.more"):
        load_network(tmp_path / "more.safetensors")
    with pytest.raises(UsageError, match="`notes` must not contain 'first_design'"):
        save_network(network, path, notes={"first_design": "x"})


def test_designs_that_cannot_refine_are_named() -> None:
    for channels in (1, 3):
        with pytest.raises(
            UsageError,
            match=rf"in_channels=2, which sees image and first output; got DecodedNetwork of 1 and {channels}",
        ):
            build_refined(trained_first(), replace(FIRST, in_channels=channels), seed=0)
    with pytest.raises(UsageError, match=r"in_channels=1, which sees the image alone, .* of 2 and 2"):
        build_refined(build_network(SECONDS["unet"], seed=0), SECONDS["unet"], seed=0)
    with pytest.raises(UsageError, match="got RefinedNetwork of 1 and 2"):
        build_refined(refined(), SECONDS["unet"], seed=0)
