"""The receptive field is the textbook's, and a network's answer depends on nothing outside it."""

import pytest
import torch
from reference import receptive_field as reference

from emseg.membrane.networks import NetworkDesign, build_network, receptive_field


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_plain_networks_reach_as_far_as_sets_of_pixels_say(depth: int) -> None:
    levels = reference.plain_levels(reference.image(64 * 2**depth), depth)
    unet = reference.reach(reference.unet(levels, first_is_full_size=True), 2**depth)
    linknet = reference.reach(reference.linknet(levels, first_is_full_size=True), 2**depth)
    casenet = reference.reach(reference.casenet(levels, tuple(2**level for level in range(depth + 1))), 2**depth)
    for architecture, expected in (("unet", unet), ("linknet", linknet), ("casenet", casenet)):
        field = receptive_field(NetworkDesign(architecture, "plain", depth))  # type: ignore[arg-type]
        assert (field.up, field.down) == (field.left, field.right) == expected


@pytest.mark.parametrize(("encoder", "depth"), [("resnet18", 3), ("resnet18", 5), ("resnet50", 4)])
def test_resnet_networks_reach_as_far_as_sets_of_pixels_say(encoder: str, depth: int) -> None:
    blocks = NetworkDesign(encoder=encoder, encoder_depth=depth).resnet
    assert blocks is not None
    levels = reference.resnet_levels(reference.image(2048), blocks.depths, bottleneck=blocks.block == "bottleneck")
    for architecture, outputs in (
        ("unet", reference.unet(levels, first_is_full_size=False)),
        ("linknet", reference.linknet(levels, first_is_full_size=False)),
        ("casenet", reference.casenet(levels, tuple(2**level for level in range(1, depth + 1)))),
    ):
        field = receptive_field(NetworkDesign(architecture, encoder, depth))  # type: ignore[arg-type]
        expected = reference.reach(outputs, 2**depth)
        assert (field.up, field.down) == (field.left, field.right) == expected
        assert field.reach == max(expected)


@pytest.mark.parametrize(
    "design",
    [
        NetworkDesign("unet", "plain", 2, 8),
        NetworkDesign("linknet", "resnet18", 3, 8),
        NetworkDesign("casenet", "plain", 2, 8),
    ],
    ids=lambda design: design.architecture,
)
def test_no_gradient_comes_from_outside_and_some_from_the_edge(design: NetworkDesign) -> None:
    field, network = receptive_field(design), build_network(design, seed=0).eval()
    side = design.stride * (2 + 2 * field.height // design.stride)
    generator = torch.Generator().manual_seed(0)
    farthest_before = farthest_after = 0
    middle = design.stride * (side // design.stride // 2)
    for position in range(middle, middle + design.stride):
        for _ in range(3):  # maxima pass only one of their pixels on: several images show more of the field
            x = torch.randn(1, 1, side, side, generator=generator).requires_grad_()
            (gradient,) = torch.autograd.grad(network(x)[0, 0, position, position], x)
            rows = gradient[0, 0].abs().amax(dim=1).nonzero()[:, 0]
            if not len(rows):  # nothing passed the last rectification here
                continue
            farthest_before = max(farthest_before, position - int(rows[0]))
            farthest_after = max(farthest_after, int(rows[-1]) - position)
    assert farthest_before <= field.up
    assert farthest_after <= field.down
    assert farthest_before > 0.7 * field.up
    assert farthest_after > 0.7 * field.down


def test_a_tile_with_this_halo_gives_the_answer_of_the_whole_image() -> None:
    design = NetworkDesign("unet", "plain", 2, 8)
    field, network = receptive_field(design), build_network(design, seed=0).eval()
    x = torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    halo = design.stride * -(-field.reach // design.stride)
    inside = slice(64, 96)
    tile = x[..., 64 - halo : 96 + halo, 64 - halo : 96 + halo]
    with torch.no_grad():
        whole, tiled = network(x)[..., inside, inside], network(tile)[..., halo : halo + 32, halo : halo + 32]
        short = network(x[..., 64 - 8 : 96 + 8, 64 - 8 : 96 + 8])[..., 8:40, 8:40]
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(short, whole, rtol=1e-3, atol=1e-4)


def test_attention_over_the_whole_map_is_told() -> None:
    assert receptive_field(NetworkDesign("unet", "plain", 2)).reach is not None
    for attention in ("scse", "se", "eca", "fca", "fanet"):
        assert receptive_field(NetworkDesign("unet", "plain", 2, attention=attention)).reach is None


def test_a_built_network_has_the_field_of_its_design_and_keeps_its_weights() -> None:
    network = build_network(NetworkDesign("unet", "plain", 2, 8, (16, 9)), seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert receptive_field(network) == receptive_field(NetworkDesign("unet", "plain", 2))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
